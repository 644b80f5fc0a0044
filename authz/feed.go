package authz

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	revocationv1 "gatehouse.dev/gatehouse/proto/gatehouse/revocation/v1"
)

const (
	// firstPause and longestPause bound the wait before the feed is watched
	// again: short, so that a restarted issuer is heard within a second.
	firstPause   = 100 * time.Millisecond
	longestPause = 400 * time.Millisecond
	// silence is how long a stream may bring nothing forward (heartbeats come
	// every 250 ms) before it is given up.
	silence = 3 * time.Second
	// settling is how long a feed may be away at the start before that is worth a
	// warning: parts start in any order.
	settling = 5 * time.Second
	// sweepEvery is how often expired revocations are forgotten.
	sweepEvery = 30 * time.Second
)

// feed watches one issuer's revocation feed and keeps its revocations current.
type feed struct {
	issuer string
	client revocationv1.RevocationFeedClient
	state  *revocations
	logger *slog.Logger
	now    func() time.Time
}

// dialFeed makes a connection that comes back quickly: by default gRPC would
// wait up to two minutes between attempts.
func dialFeed(address string, transport credentials.TransportCredentials, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient(address, append(more,
		grpc.WithTransportCredentials(transport),
		grpc.WithNoProxy(),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: firstPause, Multiplier: 1.5, Jitter: 0.2, MaxDelay: longestPause},
			MinConnectTimeout: 2 * time.Second,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 2 * time.Second}),
	)...)
	if err != nil {
		return nil, fmt.Errorf("preparing the connection to feed %q: %w", address, err)
	}
	return conn, nil
}

// Run watches until ctx ends. A break is logged once, not at each attempt.
func (f *feed) Run(ctx context.Context) error {
	pause, began := firstPause, f.now()
	known, told := false, false
	for {
		current, err := f.watch(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if current {
			pause, known, told = firstPause, true, false
		}
		if !told && (known || f.now().Sub(began) >= settling) {
			f.warn(known, err)
			told = true
		}
		if !wait(ctx, jitter(pause)) {
			return nil
		}
		pause = min(2*pause, longestPause)
	}
}

func (f *feed) warn(known bool, err error) {
	message := "the revocation feed cannot be reached: until it is, requests are answered 503"
	if known {
		message = "revocation feed broke; watching it again"
	}
	f.logger.Warn(message, "issuer", f.issuer, "error", err)
}

// watch follows one stream until it breaks; current tells whether a heartbeat
// on it found the state current.
func (f *feed) watch(ctx context.Context) (current bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	epoch, sequence := f.state.position()
	f.state.begin()
	idle := time.AfterFunc(silence, func() { cancel(fmt.Errorf("nothing new arrived for %s", silence)) })
	defer idle.Stop()
	stream, err := f.client.Watch(ctx, &revocationv1.WatchRequest{Issuer: f.issuer, Epoch: epoch, AfterSequence: sequence})
	if err != nil {
		return false, fmt.Errorf("watching the feed: %w", err)
	}
	return f.follow(ctx, stream, idle)
}

func (f *feed) follow(ctx context.Context, stream grpc.ServerStreamingClient[revocationv1.WatchResponse], idle *time.Timer) (current bool, err error) {
	swept, behind := f.now(), false
	for {
		message, err := stream.Recv()
		if err != nil {
			if behind {
				// Heartbeats came, and none found us current: resuming would
				// bring us to the same place.
				f.state.startOver()
			}
			return current, fmt.Errorf("reading the feed: %w", cause(ctx, err))
		}
		progress, err := f.state.apply(message)
		if err != nil {
			f.state.startOver()
			return current, err
		}
		behind = !progress
		if progress {
			idle.Reset(silence)
		}
		if progress && message.GetHeartbeat() != nil && !current {
			current = true
			f.logger.Info("revocation feed is current", "issuer", f.issuer)
		}
		if now := f.now(); now.Sub(swept) >= sweepEvery {
			f.state.sweep()
			swept = now
		}
	}
}

// cause is why ctx was cancelled, which says more than the stream's own error.
func cause(ctx context.Context, err error) error {
	if why := context.Cause(ctx); why != nil {
		return why
	}
	return err
}

// jitter spreads authorizers that lost the same issuer.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d/2+1)
}

// wait is false where ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
