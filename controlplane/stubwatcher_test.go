package controlplane

import (
	"slices"
	"sync"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc/metadata"

	"gatehouse.dev/gatehouse/envoy"
)

// stubWatcher lets streams begin and go on, and keeps who has a part in them.
type stubWatcher struct {
	extprocv3.UnimplementedExternalProcessorServer

	mu      sync.Mutex
	parties []string
	headers int // that were shown, which none should be
}

// Process implements extprocv3.ExternalProcessorServer.
func (s *stubWatcher) Process(stream extprocv3.ExternalProcessor_ProcessServer) error {
	for {
		request, err := stream.Recv()
		if err != nil {
			return nil
		}
		answer := &extprocv3.ProcessingResponse{}
		switch request.GetRequest().(type) {
		case *extprocv3.ProcessingRequest_RequestHeaders:
			s.note(stream, request)
			answer.Response = &extprocv3.ProcessingResponse_RequestHeaders{RequestHeaders: &extprocv3.HeadersResponse{}}
		default:
			answer.Response = &extprocv3.ProcessingResponse_ResponseTrailers{ResponseTrailers: &extprocv3.TrailersResponse{}}
		}
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
}

func (s *stubWatcher) note(stream extprocv3.ExternalProcessor_ProcessServer, request *extprocv3.ProcessingRequest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	md, _ := metadata.FromIncomingContext(stream.Context())
	s.parties = append(s.parties, md.Get(envoy.TargetMetadata)...)
	for _, attributes := range request.GetAttributes() {
		s.parties = append(s.parties, attributes.GetFields()[envoy.PeerAttribute].GetStringValue())
	}
	s.headers += len(request.GetRequestHeaders().GetHeaders().GetHeaders())
}

// watched are the parties of what was watched since the last call, in order,
// and how many headers were shown.
func (s *stubWatcher) watched() (parties []string, headers int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	parties, s.parties = slices.Sorted(slices.Values(s.parties)), nil
	return parties, s.headers
}
