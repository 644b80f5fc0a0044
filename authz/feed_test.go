package authz

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	revocationv1 "gatehouse.dev/gatehouse/proto/gatehouse/revocation/v1"
)

// scripted is a feed whose streams the test writes, without a network, so that
// synctest's clock rules it.
type scripted struct {
	mu      sync.Mutex
	watched []time.Time
	asked   []*revocationv1.WatchRequest
	logger  *slog.Logger // nil: none
	// watch gives the stream of the nth call, from 0, or an error.
	watch func(n int) (*scriptedStream, error)
}

func (s *scripted) Watch(ctx context.Context, request *revocationv1.WatchRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[revocationv1.WatchResponse], error) {
	s.mu.Lock()
	n := len(s.watched)
	s.watched, s.asked = append(s.watched, time.Now()), append(s.asked, request)
	s.mu.Unlock()
	stream, err := s.watch(n)
	if err != nil {
		return nil, err
	}
	stream.ctx = ctx
	return stream, nil
}

type scriptedStream struct {
	ctx      context.Context
	messages chan *revocationv1.WatchResponse // closed: the server ended it
}

func (s *scriptedStream) Recv() (*revocationv1.WatchResponse, error) {
	select {
	case <-s.ctx.Done():
		return nil, s.ctx.Err()
	case message, open := <-s.messages:
		if !open {
			return nil, io.EOF
		}
		return message, nil
	}
}

func (s *scriptedStream) Header() (metadata.MD, error) { return nil, nil }
func (s *scriptedStream) Trailer() metadata.MD         { return nil }
func (s *scriptedStream) CloseSend() error             { return nil }
func (s *scriptedStream) Context() context.Context     { return s.ctx }
func (s *scriptedStream) SendMsg(any) error            { return nil }
func (s *scriptedStream) RecvMsg(any) error            { return errors.ErrUnsupported }

func streamOf(messages ...*revocationv1.WatchResponse) *scriptedStream {
	s := &scriptedStream{messages: make(chan *revocationv1.WatchResponse, 1000)}
	for _, m := range messages {
		s.messages <- m
	}
	return s
}

// follow runs a feed on the script for a while of synctest's time.
func (s *scripted) follow(t *testing.T, d time.Duration) *revocations {
	t.Helper()
	state := &revocations{now: time.Now, purged: func(string) {}, restored: func() {}}
	f := &feed{issuer: testIssuer, client: s, state: state, logger: s.logger, now: time.Now}
	if f.logger == nil {
		f.logger = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := f.Run(ctx); err != nil {
		t.Error(err)
	}
	return state
}

// TestFeedBackoff: the first attempt after a break comes within 250 ms, and
// however long the feed is away, the next is never more than half a second off.
func TestFeedBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{watch: func(int) (*scriptedStream, error) { return nil, errors.New("no connection") }}
		s.follow(t, time.Minute)
		if first := s.watched[1].Sub(s.watched[0]); first > 250*time.Millisecond {
			t.Errorf("the first attempt came after %s", first)
		}
		for i := 1; i < len(s.watched); i++ {
			if pause := s.watched[i].Sub(s.watched[i-1]); pause <= 0 || pause > longestPause {
				t.Errorf("attempt %d came after %s", i, pause)
			}
		}
		if n := len(s.watched); n > 350 {
			t.Errorf("%d attempts in a minute", n)
		}
	})
}

// Parts start in any order: a feed that is there soon is nothing to warn of, one
// that stays away is, once, and so is one that breaks.
func TestFeedWarns(t *testing.T) {
	for name, row := range map[string]struct {
		away  int // attempts that fail first
		stays bool
		watch time.Duration
		want  string // the one warning
	}{
		"at once":         {0, true, silence - time.Second, ""},
		"a little later":  {3, true, silence - time.Second, ""},
		"never":           {1000, true, 3 * settling, "cannot be reached"},
		"there, and gone": {3, false, 3 * settling, "broke"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log strings.Builder
				s := &scripted{logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))}
				s.watch = func(n int) (*scriptedStream, error) {
					if n < row.away || n > row.away && !row.stays {
						return nil, errors.New("no connection")
					}
					stream := streamOf(snapshotMessage("e", 2, true), heartbeatMessage("e", 2, time.Now()))
					if !row.stays {
						close(stream.messages)
					}
					return stream, nil
				}
				s.follow(t, row.watch)
				if said, n := log.String(), strings.Count(log.String(), "\n"); row.want == "" && n != 0 || row.want != "" && (n != 1 || !strings.Contains(said, row.want)) {
					t.Errorf("%d warnings, want %q:\n%s", n, row.want, said)
				}
			})
		})
	}
}

// TestFeedBackoffStartsAnew once a stream has been current.
func TestFeedBackoffStartsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const good = 9
		s := &scripted{watch: func(n int) (*scriptedStream, error) {
			if n != good {
				return nil, errors.New("no connection")
			}
			stream := streamOf(snapshotMessage("e", 2, true), heartbeatMessage("e", 2, time.Now()))
			close(stream.messages)
			return stream, nil
		}}
		s.follow(t, 10*time.Second)
		if pause := s.watched[good+1].Sub(s.watched[good]); pause > firstPause {
			t.Errorf("the first attempt came after %s", pause)
		}
	})
}

// TestFeedConnectsOften: gRPC's own waits between attempts to connect, which
// grow to two minutes unless told otherwise, do not delay the feed's return.
func TestFeedConnectsOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var dialled []time.Time
		conn, err := dialFeed("passthrough:feed", insecure.NewCredentials(), grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			mu.Lock()
			defer mu.Unlock()
			dialled = append(dialled, time.Now())
			return nil, errors.New("nobody there")
		}))
		if err != nil {
			t.Fatal(err)
		}
		state := &revocations{now: time.Now, purged: func(string) {}, restored: func() {}}
		f := &feed{client: revocationv1.NewRevocationFeedClient(conn), state: state, logger: slog.New(slog.DiscardHandler), now: time.Now}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		if err := f.Run(ctx); err != nil {
			t.Fatal(err)
		}
		conn.Close()
		synctest.Wait()
		for i := 1; i < len(dialled); i++ {
			if pause := dialled[i].Sub(dialled[i-1]); pause > time.Second {
				t.Fatalf("attempt %d came after %s", i, pause)
			}
		}
		if len(dialled) < 600 {
			t.Errorf("%d attempts in 10 minutes", len(dialled))
		}
	})
}

func TestFeedResumesWhereItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{watch: func(n int) (*scriptedStream, error) {
			if n == 0 {
				broken := streamOf(snapshotMessage("e", 2, true), heartbeatMessage("e", 2, time.Now()),
					changesMessage("e", numbered(3, revocationv1.Kind_KIND_TOKEN, "x")), heartbeatMessage("e", 3, time.Now()))
				close(broken.messages)
				return broken, nil
			}
			return streamOf(heartbeatMessage("e", 3, time.Now())), nil
		}}
		s.follow(t, time.Second)
		if len(s.asked) != 2 || s.asked[0].GetEpoch() != "" || s.asked[1].GetEpoch() != "e" || s.asked[1].GetAfterSequence() != 3 {
			t.Errorf("asked %v", s.asked)
		}
		if s.asked[0].GetIssuer() != testIssuer {
			t.Errorf("asked for issuer %q", s.asked[0].GetIssuer())
		}
	})
}

func TestFeedStartsOver(t *testing.T) {
	for name, broken := range map[string]*revocationv1.WatchResponse{
		"after a gap":              changesMessage("e", numbered(9, revocationv1.Kind_KIND_TOKEN, "x")),
		"when the epoch changes":   heartbeatMessage("f", 2, issuedAt),
		"after an unknown kind":    changesMessage("e", numbered(3, revocationv1.Kind_KIND_UNSPECIFIED, "x")),
		"after an unknown message": {},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &scripted{watch: func(n int) (*scriptedStream, error) {
					if n == 0 {
						return streamOf(snapshotMessage("e", 2, true), heartbeatMessage("e", 2, time.Now()), broken), nil
					}
					return streamOf(snapshotMessage("g", 1, true, numbered(1, revocationv1.Kind_KIND_TOKEN, "x")), heartbeatMessage("g", 1, time.Now())), nil
				}}
				state := s.follow(t, time.Second)
				if len(s.asked) != 2 || s.asked[1].GetEpoch() != "" || s.asked[1].GetAfterSequence() != 0 {
					t.Errorf("asked %v", s.asked)
				}
				if _, err := state.check(fakeToken{id: "x"}, day); reasonOf(err) != ReasonRevoked {
					t.Errorf("after the new snapshot: %v", err)
				}
			})
		})
	}
}

// TestFeedGivesUpASilentStream: a server that hangs is left and watched anew
// from the same place; one whose heartbeats never find us current, from the
// beginning.
func TestFeedGivesUpASilentStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{watch: func(n int) (*scriptedStream, error) {
			switch n {
			case 0: // then silence
				return streamOf(snapshotMessage("e", 2, true), heartbeatMessage("e", 2, time.Now())), nil
			case 1: // then a log that ends before where we are
				return streamOf(heartbeatMessage("e", 2, time.Now()), heartbeatMessage("e", 1, time.Now())), nil
			}
			return streamOf(), nil
		}}
		s.follow(t, 3*silence)
		if len(s.asked) != 3 {
			t.Fatalf("asked %v", s.asked)
		}
		if s.asked[1].GetEpoch() != "e" || s.asked[1].GetAfterSequence() != 2 {
			t.Errorf("after silence: %v", s.asked[1])
		}
		if s.asked[2].GetEpoch() != "" {
			t.Errorf("after heartbeats that never fit: %v", s.asked[2])
		}
		if pause := s.watched[1].Sub(s.watched[0]); pause < silence || pause > silence+longestPause {
			t.Errorf("a silent stream was left after %s", pause)
		}
	})
}

// TestFeedForgetsWhatExpired: the sweep runs while heartbeats come.
func TestFeedForgetsWhatExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		soon := numbered(1, revocationv1.Kind_KIND_TOKEN, "x")
		soon.ExpiresAt = time.Now().Add(time.Second).Unix()
		stream := streamOf(snapshotMessage("e", 1, true, soon))
		s := &scripted{watch: func(int) (*scriptedStream, error) { return stream, nil }}
		go beat(t.Context(), stream, 1)
		state := s.follow(t, sweepEvery+5*time.Second)
		if entries, age := state.figures(); entries != 0 || age > time.Second {
			t.Errorf("%d entries, age %s", entries, age)
		}
	})
}

// beat sends heartbeats four times a second.
func beat(ctx context.Context, stream *scriptedStream, sequence uint64) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			stream.messages <- heartbeatMessage("e", sequence, now)
		}
	}
}
