package controlplane

import (
	logv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	streamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"gatehouse.dev/gatehouse/envoy"
)

// logged is one line per request. Queries are left out, for they may hold
// authorization codes; so is every header that may hold a token.
var logged = map[string]string{
	"time":           "%START_TIME%",
	"request_id":     "%REQ(X-REQUEST-ID)%",
	"method":         "%REQ(:METHOD)%",
	"host":           "%REQ(:AUTHORITY)%",
	"path":           "%PATH(NQ)%",
	"protocol":       "%PROTOCOL%",
	"status":         "%RESPONSE_CODE%",
	"grpc_status":    "%GRPC_STATUS%",
	"flags":          "%RESPONSE_FLAGS%",
	"details":        "%RESPONSE_CODE_DETAILS%",
	"route":          "%ROUTE_NAME%",
	"cluster":        "%UPSTREAM_CLUSTER%",
	"client_address": "%DOWNSTREAM_REMOTE_ADDRESS%",
	"bytes_received": "%BYTES_RECEIVED%",
	"bytes_sent":     "%BYTES_SENT%",
	"duration_ms":    "%DURATION%",
	"trace":          "%REQ(TRACEPARENT)%",
	"decision_id":    decision("decision_id"),
	"reason":         decision("reason"),
	"subject":        decision("subject"),
	"client_id":      decision("client_id"),
	"issuer":         decision("issuer"),
}

// decision is a field of the dynamic metadata that the authorizer sends back.
func decision(field string) string {
	return "%DYNAMIC_METADATA(" + envoy.MetadataNamespace + ":" + field + ")%"
}

func accessLog() []*logv3.AccessLog {
	fields := &structpb.Struct{Fields: map[string]*structpb.Value{}}
	for name, format := range logged {
		fields.Fields[name] = structpb.NewStringValue(format)
	}
	return []*logv3.AccessLog{{
		Name: "envoy.access_loggers.stdout",
		ConfigType: &logv3.AccessLog_TypedConfig{TypedConfig: pack(&streamv3.StdoutAccessLog{
			AccessLogFormat: &streamv3.StdoutAccessLog_LogFormat{LogFormat: &corev3.SubstitutionFormatString{
				Format: &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: fields},
			}},
		})},
	}}
}
