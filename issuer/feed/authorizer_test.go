package feed

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"gatehouse.dev/gatehouse/internal/serve"
	"gatehouse.dev/gatehouse/issuer/store"
	"gatehouse.dev/gatehouse/issuer/store/bolt"
	revocationv1 "gatehouse.dev/gatehouse/proto/gatehouse/revocation/v1"
)

func openStore(t *testing.T, path string, o bolt.Options) *bolt.DB {
	t.Helper()
	db, err := bolt.Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func newStore(t *testing.T) *bolt.DB {
	t.Helper()
	return openStore(t, filepath.Join(t.TempDir(), "issuer.db"), bolt.Options{})
}

func newServer(t *testing.T, db store.Revocations, change func(*Server)) *Server {
	t.Helper()
	s, err := New(Config{Issuer: issuer, Clients: []string{authz}, LocalIdentity: authz, MaxWatchers: 8},
		Deps{Store: db, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(s)
	}
	return s
}

// start serves the feed over a real socket until stop is called, which
// returns once all has drained.
func start(t *testing.T, s *Server) (client revocationv1.RevocationFeedClient, stop func()) {
	t.Helper()
	address := "unix:" + filepath.Join(t.TempDir(), "feed")
	listener, err := serve.Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	s.Register(server)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, run := range []func() error{
		func() error { return s.Run(ctx) },
		func() error { return serve.GRPC(ctx, listener, server) },
	} {
		wg.Go(func() {
			if err := run(); err != nil {
				t.Error(err)
			}
		})
	}
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	// The window stays as it is: gRPC would open it to megabytes on a quick
	// machine, and a peer that takes nothing would hold nobody up.
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithStaticStreamWindowSize(64<<10), grpc.WithStaticConnWindowSize(1<<20))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(); conn.Close() })
	return revocationv1.NewRevocationFeedClient(conn), stop
}

// authorizer is an authorizer's view of the feed: it applies messages and fails the
// test where one breaks the protocol.
type authorizer struct {
	t         *testing.T
	stream    grpc.ServerStreamingClient[revocationv1.WatchResponse]
	cancel    context.CancelFunc
	epoch     string
	sequence  uint64
	parts     int // of snapshots
	complete  bool
	known     map[string]*revocationv1.Revocation
	heartbeat *revocationv1.Heartbeat
}

func watch(t *testing.T, client revocationv1.RevocationFeedClient, epoch string, after uint64) *authorizer {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	stream, err := client.Watch(ctx, &revocationv1.WatchRequest{Issuer: issuer, Epoch: epoch, AfterSequence: after})
	if err != nil {
		t.Fatal(err)
	}
	return &authorizer{t: t, stream: stream, cancel: cancel, epoch: epoch, sequence: after, complete: epoch != "", known: map[string]*revocationv1.Revocation{}}
}

func (p *authorizer) receive() error {
	message, err := p.stream.Recv()
	if err != nil {
		return err
	}
	switch m := message.GetMessage().(type) {
	case *revocationv1.WatchResponse_Snapshot:
		p.snapshot(m.Snapshot)
	case *revocationv1.WatchResponse_Changes:
		p.changes(m.Changes)
	case *revocationv1.WatchResponse_Heartbeat:
		if !p.complete || m.Heartbeat.GetEpoch() != p.epoch || m.Heartbeat.GetSequence() != p.sequence {
			p.t.Fatalf("a heartbeat of %v at %s %d, complete %v", m.Heartbeat, p.epoch, p.sequence, p.complete)
		}
		p.heartbeat = m.Heartbeat
	}
	return nil
}

func (p *authorizer) snapshot(part *revocationv1.Snapshot) {
	if len(part.GetRevocations()) > partSize || (p.parts > 0 && (part.GetSequence() != p.sequence || p.complete)) {
		p.t.Fatalf("part %d has %d entries and sequence %d", p.parts, len(part.GetRevocations()), part.GetSequence())
	}
	p.parts++
	p.epoch, p.sequence, p.complete = part.GetEpoch(), part.GetSequence(), part.GetComplete()
	for _, r := range part.GetRevocations() {
		p.known[r.GetId()] = r
	}
}

func (p *authorizer) changes(changes *revocationv1.Changes) {
	if !p.complete || changes.GetEpoch() != p.epoch {
		p.t.Fatalf("changes of epoch %s after %s, complete %v", changes.GetEpoch(), p.epoch, p.complete)
	}
	for _, r := range changes.GetRevocations() {
		if r.GetSequence() != p.sequence+1 {
			p.t.Fatalf("%d came after %d", r.GetSequence(), p.sequence)
		}
		p.sequence, p.known[r.GetId()] = r.GetSequence(), r
	}
}

// until receives until done.
func (p *authorizer) until(done func() bool) {
	p.t.Helper()
	for !done() {
		if err := p.receive(); err != nil {
			p.t.Fatal(err)
		}
	}
}

func (p *authorizer) current() { p.t.Helper(); p.until(func() bool { return p.heartbeat != nil }) }
