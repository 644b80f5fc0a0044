package workload

import (
	"bytes"
	"crypto/x509"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	spiffe "github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"gatehouse.dev/gatehouse/internal/serve"
)

const orders = "spiffe://gatehouse.local/service/orders"

// spireAgent stands in for SPIRE's agent: the Workload API, as it specifies.
type spireAgent struct {
	spiffe.UnimplementedSpiffeWorkloadAPIServer
	mu      sync.Mutex
	answers []*spiffe.X509SVIDResponse
	more    chan struct{}
}

func (s *spireAgent) offer(t *testing.T, roots []*x509.Certificate, states ...*State) {
	t.Helper()
	response := &spiffe.X509SVIDResponse{}
	for _, state := range states {
		key, err := x509.MarshalPKCS8PrivateKey(state.Pair.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		var bundle []byte
		for _, r := range roots {
			bundle = append(bundle, r.Raw...)
		}
		response.Svids = append(response.Svids, &spiffe.X509SVID{
			SpiffeId: state.ID, X509Svid: bytes.Join(state.Pair.Certificate, nil), X509SvidKey: key, Bundle: bundle,
		})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers = append(s.answers, response)
	close(s.more)
	s.more = make(chan struct{})
}

// FetchX509SVID implements the Workload API (SPIFFE Workload API §5.2.1); a call
// without the security header is refused (SPIFFE Workload Endpoint §6).
func (s *spireAgent) FetchX509SVID(_ *spiffe.X509SVIDRequest, stream spiffe.SpiffeWorkloadAPI_FetchX509SVIDServer) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	if header := md.Get("workload.spiffe.io"); len(header) != 1 || header[0] != "true" {
		return status.Error(codes.InvalidArgument, "security header missing from request")
	}
	sent := 0
	for {
		s.mu.Lock()
		next, more := s.answers[sent:], s.more
		s.mu.Unlock()
		for _, answer := range next {
			if err := stream.Send(answer); err != nil {
				return err
			}
			sent++
		}
		select {
		case <-more:
		case <-stream.Context().Done():
			return nil
		}
	}
}

func (s *spireAgent) start(t *testing.T, address string) (stop func()) {
	t.Helper()
	listener, err := serve.Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	spiffe.RegisterSpiffeWorkloadAPIServer(server, s)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	stop = sync.OnceFunc(func() {
		server.Stop()
		<-done
	})
	t.Cleanup(stop)
	return stop
}

// SPIRE's agent gives this workload's own certificate among several, renews it,
// and may be away for a while.
func TestSPIRE(t *testing.T) {
	a := newAuthority(t)
	address := "unix:" + filepath.Join(shortDir(t), "agent.sock")
	agent := &spireAgent{more: make(chan struct{})}
	stop := agent.start(t, address)
	var log bytes.Buffer
	source := NewSPIRE(address, orders, Deps{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if _, err := source.KeyPair(); !errors.Is(err, serve.ErrNoIdentity) {
		t.Errorf("before the agent answers: %v", err)
	}
	end := inBackground(t, source.Run)
	has := func(want *State) {
		t.Helper()
		await(t, "the certificate", func() error {
			state, _ := source.Current()
			if state == nil || !state.Pair.Leaf.Equal(want.Pair.Leaf) {
				return errors.New(strings.Join(source.Missing(), ", "))
			}
			return nil
		})
	}
	first := a.state(orders)
	agent.offer(t, a.Roots(), a.state("spiffe://gatehouse.local/service/profile"), first)
	has(first)

	// A bundle and certificate under a new root.
	next := newAuthority(t)
	second := next.state(orders, a.cert)
	agent.offer(t, []*x509.Certificate{a.cert, next.cert}, second)
	has(second)
	if state, _ := source.Current(); len(state.Roots) != 2 {
		t.Errorf("the bundle has %d roots, want 2", len(state.Roots))
	}

	// Another's certificate alone changes nothing, and says why.
	agent.offer(t, next.Roots(), next.state("spiffe://gatehouse.local/service/profile"))
	await(t, "the reason", func() error {
		if trouble := source.renewer.trouble.Load(); trouble == nil || !strings.Contains(*trouble, "register this workload") {
			return errors.New("not told")
		}
		return nil
	})
	has(second)
	stop()
	agent.answers = nil
	third := next.state(orders)
	agent.offer(t, next.Roots(), third)
	agent.start(t, address)
	has(third)
	end()
	if text := log.String(); strings.Contains(text, "PRIVATE") {
		t.Errorf("the log shows a key: %s", text)
	}
}
