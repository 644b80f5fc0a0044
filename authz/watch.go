package authz

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/internal/serve"
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
	local    string // whom callers on a Unix socket are

	mu      sync.Mutex
	watched map[string]int // streams, by caller
}

const (
	// maxWatched bounds the streams of a caller: edges are one caller together,
	// and each has up to 16384.
	maxWatched = 64 << 10
	// firstWait is how long a stream may say nothing of its request.
	firstWait = 5 * time.Second
)

var (
	// errRevoked ends a stream of a revoked workload.
	errRevoked = status.Error(codes.PermissionDenied, "a workload of this stream was revoked")
	errEnding  = status.Error(codes.Unavailable, "this authorizer ends")
)

func newWatcher(s *Server) *watcher {
	return &watcher{denied: s.signing.denied, logger: s.logger, stopping: s.stopping, local: s.config.LocalIdentity, watched: map[string]int{}}
}

// Process implements extprocv3.ExternalProcessorServer.
func (w *watcher) Process(stream extprocv3.ExternalProcessor_ProcessServer) error {
	caller, err := serve.Caller(stream.Context(), w.local)
	if err != nil {
		return status.Error(codes.PermissionDenied, "the caller is nobody")
	}
	if !w.begin(caller) {
		return status.Errorf(codes.ResourceExhausted, "%d streams of this caller are watched, and no more may be", maxWatched)
	}
	defer w.end(caller)
	first, err := w.first(stream)
	if err != nil {
		return err // the request was over before
	}
	parties, err := partiesOf(first, stream)
	if err != nil {
		return err
	}
	return w.watch(stream, first, append(parties, caller))
}

// begin counts a stream of a caller, unless there are too many.
func (w *watcher) begin(caller string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.watched[caller] >= maxWatched {
		return false
	}
	w.watched[caller]++
	return true
}

func (w *watcher) end(caller string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.watched[caller]--; w.watched[caller] == 0 {
		delete(w.watched, caller)
	}
}

// first is a stream's first message, for which it has a while.
func (w *watcher) first(stream extprocv3.ExternalProcessor_ProcessServer) (*extprocv3.ProcessingRequest, error) {
	got := make(chan error, 1)
	var first *extprocv3.ProcessingRequest
	go func() { // until the stream ends, which it does when its handler returns
		var err error
		first, err = stream.Recv()
		got <- err
	}()
	late := time.NewTimer(firstWait)
	defer late.Stop()
	select {
	case err := <-got:
		return first, err
	case <-late.C:
		return nil, status.Errorf(codes.DeadlineExceeded, "a stream says nothing of its request for %v", firstWait)
	case <-w.stopping:
		return nil, errEnding
	}
}

// watch lets a stream go on until one of its parties is revoked.
func (w *watcher) watch(stream extprocv3.ExternalProcessor_ProcessServer, first *extprocv3.ProcessingRequest, parties []string) error {
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
			return errEnding
		case <-now.next:
		}
	}
}

// answerAll lets pass whatever else Envoy shows of the request, until it is over.
func answerAll(stream extprocv3.ExternalProcessor_ProcessServer) error {
	for {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil // Envoy has done with it
		}
		if err != nil {
			return err // Envoy would take nil for leave to go on unwatched
		}
		if err := stream.Send(goOn(message)); err != nil {
			return err
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
