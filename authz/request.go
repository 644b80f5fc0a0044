package authz

import (
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"gatehouse.dev/gatehouse/envoy"
)

// request is what Envoy tells of a request, picked out once.
type request struct {
	rule          string // the encoded rule of the route that Envoy matched
	hasRule       bool
	method        string
	path          string
	query         string // as sent, without the question mark
	host          string
	source        string
	peer          string // SPIFFE id of Envoy's TLS peer; empty: it showed none
	id            string // x-request-id, where it is fit to be shown
	trace         string // the trace id of traceparent
	grpc          bool
	authorization []string // each Authorization header, in order
	assertion     []string // each gatehouse-assertion header
	narrow        []string // each gatehouse-narrow-scope header
	proofs        []string // each DPoP header
	certificate   string   // the TLS peer's, as PEM with URL escapes; empty: none
	headers       func(yield func(name, value string) bool)
}

func readRequest(check *authv3.CheckRequest) *request {
	attributes := check.GetAttributes()
	http := attributes.GetRequest().GetHttp()
	r := &request{
		method:  http.GetMethod(),
		host:    http.GetHost(),
		source:  attributes.GetSource().GetAddress().GetSocketAddress().GetAddress(),
		peer:    attributes.GetSource().GetPrincipal(),
		headers: headersOf(http),

		certificate: attributes.GetSource().GetCertificate(),
	}
	r.rule, r.hasRule = attributes.GetContextExtensions()[envoy.RuleExtension]
	// Never url.Parse: it reads "//x/admin" as host x.
	r.path, r.query, _ = strings.Cut(http.GetPath(), "?")
	for name, value := range r.headers {
		r.note(name, value)
	}
	return r
}

func (r *request) note(name, value string) {
	switch name {
	case "authorization":
		r.authorization = append(r.authorization, value)
	case envoy.AssertionHeader:
		r.assertion = append(r.assertion, value)
	case envoy.NarrowHeader:
		r.narrow = append(r.narrow, value)
	case "dpop":
		r.proofs = append(r.proofs, value)
	case "x-request-id":
		if presentable(value) {
			r.id = value
		}
	case "traceparent":
		r.trace = traceID(value)
	case "content-type":
		r.grpc = isGRPC(value)
	}
}

// headersOf yields every header with its name in lower case. Envoy sends
// header_map with encode_raw_headers, one entry a header line, and else headers,
// where lines of one name are joined by commas.
func headersOf(http *authv3.AttributeContext_HttpRequest) func(yield func(name, value string) bool) {
	if raw := http.GetHeaderMap(); raw != nil {
		return func(yield func(name, value string) bool) {
			for _, h := range raw.GetHeaders() {
				if !yield(strings.ToLower(h.GetKey()), rawValue(h)) {
					return
				}
			}
		}
	}
	return func(yield func(name, value string) bool) {
		for name, value := range http.GetHeaders() {
			if !yield(strings.ToLower(name), value) {
				return
			}
		}
	}
}

func rawValue(h *corev3.HeaderValue) string {
	if raw := h.GetRawValue(); len(raw) > 0 {
		return string(raw)
	}
	return h.GetValue()
}

// presentable limits what is repeated in bodies and logs to what request ids
// are made of.
func presentable(id string) bool {
	for i := range len(id) {
		c := id[i]
		if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return id != "" && len(id) <= 64
}

// traceID is the second field of a traceparent (W3C Trace Context §3.2).
func traceID(traceparent string) string {
	if len(traceparent) < 55 || traceparent[2] != '-' || traceparent[35] != '-' || !presentable(traceparent[3:35]) {
		return ""
	}
	return traceparent[3:35]
}

// isGRPC is how Envoy tells a gRPC request.
func isGRPC(contentType string) bool {
	rest, ok := strings.CutPrefix(contentType, "application/grpc")
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';')
}
