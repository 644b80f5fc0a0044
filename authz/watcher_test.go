package authz

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"gatehouse.dev/gatehouse/envoy"
)

// toldStream is a stream of the edge, on a Unix socket, that says what it is told.
type toldStream struct {
	grpc.ServerStream
	ctx  context.Context
	says chan error // nil: another message
}

func (s *toldStream) Context() context.Context                 { return s.ctx }
func (s *toldStream) Send(*extprocv3.ProcessingResponse) error { return nil }
func (s *toldStream) Recv() (*extprocv3.ProcessingRequest, error) {
	select {
	case err := <-s.says:
		return &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestHeaders{RequestHeaders: &extprocv3.HttpHeaders{}}}, err
	case <-s.ctx.Done():
		return nil, s.ctx.Err()
	}
}

// watchAlone is a watcher without a server, and how a call to it goes on.
type watchAlone struct {
	*watcher
	stopping chan struct{}
	stream   *toldStream
	ended    chan error
}

func newWatchAlone(t *testing.T, begin func(*watcher)) *watchAlone {
	t.Helper()
	a := &watchAlone{stopping: make(chan struct{}), ended: make(chan error, 1)}
	a.watcher = newWatcher(&Server{
		config: Config{LocalIdentity: testNode}, logger: slog.New(slog.DiscardHandler),
		signing: &signing{denied: newDenyList()}, stopping: a.stopping,
	})
	a.denied.set(nil)
	if begin != nil {
		begin(a.watcher)
	}
	ctx, cancel := context.WithCancel(metadata.NewIncomingContext(
		peer.NewContext(context.Background(), &peer.Peer{Addr: &net.UnixAddr{Net: "unix"}}),
		metadata.Pairs(envoy.TargetMetadata, testOrders)))
	a.stream = &toldStream{ctx: ctx, says: make(chan error)}
	go func() {
		err := a.Process(a.stream)
		cancel() // as a server does
		a.ended <- err
	}()
	return a
}

// A stream that says nothing of its request holds nothing for long, and does not
// keep an authorizer from its end.
func TestWatcherWaitsForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newWatchAlone(t, nil)
		began := time.Now()
		if err := <-a.ended; status.Code(err) != codes.DeadlineExceeded || time.Since(began) != firstWait {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		if len(a.watched) != 0 {
			t.Errorf("it counts still: %v", a.watched)
		}
		a = newWatchAlone(t, nil)
		began = time.Now()
		close(a.stopping)
		if err := <-a.ended; status.Code(err) != codes.Unavailable || time.Since(began) != 0 {
			t.Errorf("at the authorizer's end, after %v: %v", time.Since(began), err)
		}
	})
}

// Envoy takes an end without an error for leave to go on unwatched.
func TestWatcherEndsWellForEnvoyAlone(t *testing.T) {
	for name, row := range map[string]struct {
		says error
		well bool
	}{"the end": {io.EOF, true}, "a fault": {errors.New("it broke"), false}} {
		a := newWatchAlone(t, nil)
		a.stream.says <- nil
		a.stream.says <- row.says
		if err := <-a.ended; (err == nil) != row.well {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What a revoked sidecar has watched ends, too.
func TestWatcherEndsWhatTheRevokedAsked(t *testing.T) {
	a := newWatchAlone(t, nil)
	a.stream.says <- nil
	a.denied.set(map[string]bool{testNode: true})
	if err := <-a.ended; status.Code(err) != codes.PermissionDenied {
		t.Error(err)
	}
}

func TestWatcherBoundsItsCallers(t *testing.T) {
	full := newWatchAlone(t, func(w *watcher) { w.watched[testNode] = maxWatched })
	if err := <-full.ended; status.Code(err) != codes.ResourceExhausted {
		t.Errorf("one more than may be: %v", err)
	}
	if n := full.watched[testNode]; n != maxWatched {
		t.Errorf("%d streams count then", n)
	}
	others := newWatchAlone(t, func(w *watcher) { w.watched[testOrders] = maxWatched })
	others.stream.says <- nil
	others.stream.says <- io.EOF
	if err := <-others.ended; err != nil {
		t.Errorf("another's: %v", err)
	}
}

// What is watched goes on for most of a drain.
func TestWatchesOutliveTheDrainsBeginning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, drained := range []bool{false, true} {
			s := &Server{stopping: make(chan struct{})}
			ctx, cancel := context.WithCancel(t.Context())
			over := s.endWatches(ctx)
			cancel()
			pass(watchDrain - time.Second)
			select {
			case <-s.stopping:
				t.Error("they end early")
			default:
			}
			if drained {
				over()
			}
			pass(time.Hour)
			select {
			case <-s.stopping:
				if drained {
					t.Error("something is done after the drain")
				}
			default:
				if !drained {
					t.Error("they do not end")
				}
			}
			if !drained {
				over()
			}
		}
	})
}

// While an authorizer drains, who was revoked is still heard of.
func TestDrainingAuthorizerWatches(t *testing.T) {
	w := newWorld(t)
	trust := newTestTrust()
	w.trust = trust
	w.start()
	w.waitReady()
	mine, theirs := w.admitted(testOrders, ""), w.admitted(testProfile, "")
	w.cancel()
	w.eventually("draining", func() bool { return w.server.draining.Load() })
	trust.change(func() { trust.denied = []string{testOrders} })
	if _, err := mine.Recv(); status.Code(err) != codes.PermissionDenied {
		t.Errorf("the revoked one's: %v", err)
	}
	trailers := &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseTrailers{ResponseTrailers: &extprocv3.HttpTrailers{}}}
	if err := theirs.Send(trailers); err != nil {
		t.Fatal(err)
	}
	if answer, err := theirs.Recv(); err != nil || answer.GetResponseTrailers() == nil {
		t.Errorf("another's trailers: %v %v", answer, err)
	}
}
