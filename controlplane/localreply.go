package controlplane

import (
	"net/http"

	logv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

// problems make Envoy's own answers problem documents (RFC 9457), as the
// authorizer's are: who is refused, a limit that is used up, a service that
// cannot be reached, of which Envoy would tell how. The first mapper that fits
// counts, so that what the authorizer answered (UAEX) stays in its words.
func problems(forbidden string) *hcmv3.LocalReplyConfig {
	mappers := []*hcmv3.ResponseMapper{{Filter: flagged("UAEX")}}
	for _, p := range []struct {
		status int
		detail string
	}{
		{http.StatusTooManyRequests, "Too many requests: see Retry-After."},
		{http.StatusForbidden, forbidden},
		{http.StatusBadGateway, "What this request needs gave no proper answer."},
		{http.StatusServiceUnavailable, "What this request needs cannot be reached now."},
		{http.StatusGatewayTimeout, "What this request needs took too long."},
	} {
		mappers = append(mappers, problem(p.status, p.detail)...)
	}
	return &hcmv3.LocalReplyConfig{Mappers: mappers}
}

// problem answers in JSON, and in plain text where it becomes a grpc-message.
func problem(status int, detail string) []*hcmv3.ResponseMapper {
	when := answered(uint32(status))
	body := &structpb.Struct{Fields: map[string]*structpb.Value{
		"type":       structpb.NewStringValue("about:blank"),
		"title":      structpb.NewStringValue(http.StatusText(status)),
		"status":     structpb.NewNumberValue(float64(status)),
		"detail":     structpb.NewStringValue(detail),
		"request_id": structpb.NewStringValue("%REQ(X-REQUEST-ID)%"),
	}}
	return []*hcmv3.ResponseMapper{
		{
			Filter: both(when, grpcRequest()),
			BodyFormatOverride: &corev3.SubstitutionFormatString{Format: &corev3.SubstitutionFormatString_TextFormatSource{
				TextFormatSource: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: detail}},
			}},
		},
		{
			Filter: when,
			BodyFormatOverride: &corev3.SubstitutionFormatString{
				Format:      &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: body},
				ContentType: "application/problem+json",
			},
			HeadersToAdd: []*corev3.HeaderValueOption{overwrite("cache-control", "no-store")},
		},
	}
}

func flagged(flag string) *logv3.AccessLogFilter {
	return &logv3.AccessLogFilter{FilterSpecifier: &logv3.AccessLogFilter_ResponseFlagFilter{
		ResponseFlagFilter: &logv3.ResponseFlagFilter{Flags: []string{flag}},
	}}
}

func answered(status uint32) *logv3.AccessLogFilter {
	return &logv3.AccessLogFilter{FilterSpecifier: &logv3.AccessLogFilter_StatusCodeFilter{StatusCodeFilter: &logv3.StatusCodeFilter{
		Comparison: &logv3.ComparisonFilter{
			Op: logv3.ComparisonFilter_EQ,
			// The runtime key is mandatory, and nothing sets it.
			Value: &corev3.RuntimeUInt32{DefaultValue: status, RuntimeKey: "gatehouse.local_reply"},
		},
	}}}
}

func grpcRequest() *logv3.AccessLogFilter {
	return &logv3.AccessLogFilter{FilterSpecifier: &logv3.AccessLogFilter_HeaderFilter{HeaderFilter: &logv3.HeaderFilter{
		Header: &routev3.HeaderMatcher{Name: "content-type", HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{
			StringMatch: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: "application/grpc"}},
		}},
	}}}
}

func both(a, b *logv3.AccessLogFilter) *logv3.AccessLogFilter {
	return &logv3.AccessLogFilter{FilterSpecifier: &logv3.AccessLogFilter_AndFilter{AndFilter: &logv3.AndFilter{
		Filters: []*logv3.AccessLogFilter{a, b},
	}}}
}
