package authz

import (
	"fmt"
	"log/slog"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"gatehouse.dev/gatehouse/envoy"
)

// watcher ends what is under way when a workload that has a part in it is
// revoked. Envoy judges a request once, when it begins; of one that may go on
// for long it holds a call open here for as long (ext_proc), and breaks it off
// when the call fails. So it ends as well where nobody watches it any more.
type watcher struct {
	extprocv3.UnimplementedExternalProcessorServer
	denied   *denyList
	logger   *slog.Logger
	stopping <-chan struct{}
}

// errRevoked ends a stream of a revoked workload.
var errRevoked = status.Error(codes.PermissionDenied, "a workload of this stream was revoked")

// Process implements extprocv3.ExternalProcessorServer.
func (w *watcher) Process(stream extprocv3.ExternalProcessor_ProcessServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err // the request was over before
	}
	parties, err := partiesOf(first, stream)
	if err != nil {
		return err
	}
	over := make(chan error, 1)
	started := false
	for {
		now := w.denied.current.Load()
		if err := now.missing(); err != nil {
			return status.Error(codes.Unavailable, denialOf(err).cause.Error())
		}
		for _, id := range parties {
			if now.ids[id] {
				w.logger.Warn("a stream is broken off: a workload that has a part in it was revoked", "workload", id)
				return errRevoked
			}
		}
		if !started {
			started = true
			if err := stream.Send(goOn(first)); err != nil {
				return err
			}
			go func() { over <- answerAll(stream) }()
		}
		select {
		case err := <-over:
			return err
		case <-w.stopping:
			return status.Error(codes.Unavailable, "this authorizer ends")
		case <-now.next:
		}
	}
}

// answerAll lets pass whatever else Envoy shows of the request, until it is over.
func answerAll(stream extprocv3.ExternalProcessor_ProcessServer) error {
	for {
		message, err := stream.Recv()
		if err != nil {
			return nil // Envoy has done with it
		}
		if err := stream.Send(goOn(message)); err != nil {
			return nil
		}
	}
}

// goOn changes nothing.
func goOn(request *extprocv3.ProcessingRequest) *extprocv3.ProcessingResponse {
	switch request.GetRequest().(type) {
	case *extprocv3.ProcessingRequest_RequestHeaders:
		return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_RequestHeaders{RequestHeaders: &extprocv3.HeadersResponse{}}}
	default: // Envoy is told to show nothing else
		return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ResponseTrailers{ResponseTrailers: &extprocv3.TrailersResponse{}}}
	}
}

// partiesOf are the workloads that have a part in a request: the peer that sent
// it, where Envoy was told to say who that is, and whom it goes to.
func partiesOf(first *extprocv3.ProcessingRequest, stream grpc.ServerStream) (parties []string, err error) {
	if first.GetRequestHeaders() == nil {
		return nil, status.Error(codes.InvalidArgument, "a stream does not begin with its request's headers")
	}
	for _, attributes := range first.GetAttributes() {
		if peer := attributes.GetFields()[envoy.PeerAttribute].GetStringValue(); peer != "" {
			parties = append(parties, peer)
		}
	}
	md, _ := metadata.FromIncomingContext(stream.Context())
	parties = append(parties, md.Get(envoy.TargetMetadata)...)
	if len(parties) == 0 {
		return nil, status.Error(codes.InvalidArgument, fmt.Sprintf("a stream says neither %s nor %s", envoy.PeerAttribute, envoy.TargetMetadata))
	}
	return parties, nil
}
