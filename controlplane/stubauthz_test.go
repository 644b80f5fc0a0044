package controlplane

import (
	"context"
	"sync"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/structpb"

	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/internal/serve"
)

// stubAuthz admits "Bearer good", or an assertion of its own where the rule
// demands one, and keeps what it was asked.
type stubAuthz struct {
	authv3.UnimplementedAuthorizationServer
	stubWatcher
	address string
	stop    func()

	mu     sync.Mutex
	seen   *authv3.AttributeContext
	caller string
	answer func(*authv3.CheckResponse) // changes what an admitted request gets
}

func startStubAuthz(t *testing.T, address string) *stubAuthz {
	t.Helper()
	return startStubAuthzTLS(t, address, serve.Identity{})
}

func startStubAuthzTLS(t *testing.T, address string, id serve.Identity) *stubAuthz {
	t.Helper()
	credentials, err := serve.ServerCredentials(address, id)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := serve.Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	stub := &stubAuthz{address: address}
	server := grpc.NewServer(grpc.Creds(credentials))
	authv3.RegisterAuthorizationServer(server, stub)
	extprocv3.RegisterExternalProcessorServer(server, &stub.stubWatcher)
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	stub.stop = inBackground(t, func(ctx context.Context) error { return serve.GRPC(ctx, listener, server) })
	return stub
}

func (s *stubAuthz) Check(ctx context.Context, r *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = r.GetAttributes()
	s.caller, _ = serve.Caller(ctx, "the socket")
	rule, err := decodeRule(s.seen)
	if err != nil || !admits(s.seen, rule) {
		return &authv3.CheckResponse{
			Status: &status.Status{Code: int32(codes.Unauthenticated)},
			HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{
				Status:  &typev3.HttpStatus{Code: typev3.StatusCode_Unauthorized},
				Headers: []*corev3.HeaderValueOption{overwrite("www-authenticate", "Bearer")},
				Body:    "denied",
			}},
		}, nil
	}
	response := &authv3.CheckResponse{
		Status: &status.Status{},
		HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{
			Headers: []*corev3.HeaderValueOption{overwrite(envoy.HeaderSubject, "usr_1")},
		}},
		DynamicMetadata: &structpb.Struct{Fields: map[string]*structpb.Value{"subject": structpb.NewStringValue("usr_1")}},
	}
	if audience := rule.GetAssertionAudience(); audience != "" {
		ok := response.GetOkResponse()
		ok.Headers = append(ok.Headers, overwrite(envoy.AssertionHeader, "for "+audience))
	}
	if s.answer != nil {
		s.answer(response)
	}
	return response, nil
}

// last is what the last Check said; nil: none since the last call.
func (s *stubAuthz) last() *authv3.AttributeContext {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.seen
	s.seen = nil
	return seen
}

// lastCaller is who asked last.
func (s *stubAuthz) lastCaller() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.caller
}

// answers changes what admitted requests get from now on.
func (s *stubAuthz) answers(change func(*authv3.CheckResponse)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = change
}
