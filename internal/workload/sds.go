package workload

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gatehouse.dev/gatehouse/internal/serve"
)

// SDS serves a workload's certificate, key and trust bundle to the Envoy beside
// it (envoy.service.secret.v3, delta), and each new one at once. Its socket is
// the only place where the key leaves the process.
type SDS struct {
	secretv3.UnimplementedSecretDiscoveryServiceServer

	live   *Live
	logger *slog.Logger

	mu      sync.Mutex
	watches map[*secretWatch]bool
	moved   chan struct{} // closed when a watch came, went or acknowledged
	ending  chan struct{}
}

// NewSDS prepares serving live; it starts nothing.
func NewSDS(live *Live, logger *slog.Logger) *SDS {
	return &SDS{live: live, logger: logger, watches: map[*secretWatch]bool{}, moved: make(chan struct{}), ending: make(chan struct{})}
}

// Serve serves on a 0600 Unix socket until ctx ends.
func (s *SDS) Serve(ctx context.Context, address string) error {
	listener, err := serve.Listen(address)
	if err != nil {
		return err
	}
	defer listener.Close()
	server := grpc.NewServer(grpc.MaxRecvMsgSize(64 << 10))
	secretv3.RegisterSecretDiscoveryServiceServer(server, s)
	stop := context.AfterFunc(ctx, func() { close(s.ending) })
	defer stop()
	return serve.GRPC(ctx, listener, server)
}

// Delivered waits until every Envoy that is connected has taken the present
// state into use.
func (s *SDS) Delivered(ctx context.Context) error {
	for {
		state, changed := s.live.Current()
		done, moved := s.taken(state)
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-moved:
		}
	}
}

func (s *SDS) taken(state *State) (bool, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.watches {
		if state == nil || !w.has(state) {
			return false, s.moved
		}
	}
	return true, s.moved
}

// move changes the watches under the lock, and wakes who waits for that.
func (s *SDS) move(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	close(s.moved)
	s.moved = make(chan struct{})
}

// DeltaSecrets implements SecretDiscoveryServiceServer. Envoy opens one stream
// for each secret that something names.
func (s *SDS) DeltaSecrets(stream secretv3.SecretDiscoveryService_DeltaSecretsServer) error {
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	requests := make(chan *discoveryv3.DeltaDiscoveryRequest)
	go func() { cancel(receive(ctx, stream, requests)) }()
	w := &secretWatch{stream: stream, logger: s.logger, sent: map[string]string{}, taken: map[string]string{}}
	s.move(func() { s.watches[w] = true })
	defer s.move(func() { delete(s.watches, w) })
	for {
		state, changed := s.live.Current()
		if err := w.bring(state); err != nil {
			return err
		}
		select {
		case <-s.ending:
			return status.Error(codes.Unavailable, "the agent is ending")
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		case request := <-requests:
			s.move(func() { w.take(request) })
		}
	}
}

// receive passes requests on until the stream ends, with nil where Envoy closed
// it.
func receive(ctx context.Context, stream secretv3.SecretDiscoveryService_DeltaSecretsServer, to chan<- *discoveryv3.DeltaDiscoveryRequest) error {
	for {
		request, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case to <- request:
		case <-ctx.Done():
			return nil
		}
	}
}
