package workload

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"gatehouse.dev/gatehouse/internal/serve"
	workloadv1 "gatehouse.dev/gatehouse/proto/gatehouse/workload/v1"
)

const (
	// soonest and latest bound the wait before trust is watched again.
	soonest = 200 * time.Millisecond
	latest  = 2 * time.Second
	// settling is how long nothing may be heard at the start before that is worth
	// a warning: parts start in any order.
	settling = 5 * time.Second
	// maxTrust bounds one state: a deny list of some ten thousand.
	maxTrust = 4 << 20
)

// TrustServer is who tells of the trust domain: the control plane, at a
// HOST:PORT where it must have exactly the SPIFFE id, or at unix:PATH.
type TrustServer struct {
	Address, ID string
}

// Trust keeps current what the members of the trust domain know of each other.
// What was heard last stays in use while the control plane is away.
type Trust struct {
	server TrustServer
	creds  credentials.TransportCredentials
	logger *slog.Logger
	now    func() time.Time
	uses   []func(context.Context, *Members) error

	mu      sync.Mutex
	members *Members
	changed chan struct{}
	trouble string
	broken  time.Time // when the stream of members broke; zero: it stands
}

// NewTrust prepares a watch with a source's certificate. It contacts nobody.
func NewTrust(server TrustServer, source serve.Source, deps Deps) (*Trust, error) {
	deps.complete()
	creds, err := serve.DialCredentials(server.Address, source, server.ID)
	if err != nil {
		return nil, err
	}
	return &Trust{server: server, creds: creds, logger: deps.Logger, now: deps.Now, changed: make(chan struct{})}, nil
}

// Use has each state put to use before it is acknowledged; a state that comes
// meanwhile ends the context. Call it before Run.
func (t *Trust) Use(use func(context.Context, *Members) error) { t.uses = append(t.uses, use) }

// Current is the last state, nil until there is one, and a channel that is
// closed once there is another.
func (t *Trust) Current() (*Members, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.members, t.changed
}

// Heard is when what Current has was last known to be how things are: now, while
// the stream stands. Pings notice one that went silently.
func (t *Trust) Heard() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.broken.IsZero() {
		return t.now()
	}
	return t.broken
}

// Missing says that nothing was heard yet; empty: something was.
func (t *Trust) Missing() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.members != nil:
		return nil
	case t.trouble != "":
		return []string{"the trust bundle: " + t.trouble}
	default:
		return []string{"the trust bundle"}
	}
}

// Run watches until ctx ends. A break is logged once, not at each attempt.
func (t *Trust) Run(ctx context.Context) error {
	conn, err := t.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	pause, began := soonest, t.now()
	known, told := false, false
	for {
		heard, err := t.watch(ctx, workloadv1.NewTrustClient(conn))
		if ctx.Err() != nil {
			return nil
		}
		if heard {
			pause, known, told = soonest, true, false
		}
		t.troubled(err)
		if settled := t.now().Sub(began) >= settling; !told && (known || settled) {
			t.warn(known, err)
			told = true
		}
		timer := time.NewTimer(jitter(pause))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		pause = min(2*pause, latest)
	}
}

func (t *Trust) warn(known bool, err error) {
	message := "trust cannot be heard of: trying again"
	if known {
		message = "trust is not heard of any more: what was heard last stays in use"
	}
	t.logger.Warn(message, "error", err)
}

// Publish replaces the assertion keys of an authorizer's replica.
func (t *Trust) Publish(ctx context.Context, request *workloadv1.PublishAssertionKeysRequest) error {
	conn, err := t.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	if _, err := workloadv1.NewTrustClient(conn).PublishAssertionKeys(ctx, request); err != nil {
		return fmt.Errorf("publishing assertion keys at %s: %w", t.server.Address, err)
	}
	return nil
}

func (t *Trust) dial() (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient(t.server.Address,
		grpc.WithTransportCredentials(t.creds),
		grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxTrust)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: soonest, Multiplier: 1.5, Jitter: 0.2, MaxDelay: latest},
			MinConnectTimeout: 2 * time.Second,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 15 * time.Second, Timeout: 5 * time.Second}),
	)
	if err != nil {
		return nil, fmt.Errorf("preparing the connection to %s: %w", t.server.Address, err)
	}
	return conn, nil
}

// watch follows one stream until it breaks; heard tells whether it brought a
// state.
func (t *Trust) watch(ctx context.Context, client workloadv1.TrustClient) (heard bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.Watch(ctx)
	if err != nil {
		return false, fmt.Errorf("watching trust: %w", err)
	}
	if err := stream.Send(&workloadv1.WatchRequest{}); err != nil {
		return false, fmt.Errorf("watching trust: %w", err)
	}
	// One state at a time is put to use; a newer one makes an older pointless.
	var using sync.WaitGroup
	defer using.Wait()
	stop := func() {}
	defer func() { stop() }()
	for {
		state, err := stream.Recv()
		if err != nil {
			return heard, fmt.Errorf("watching trust: %w", err)
		}
		members, err := parseMembers(state)
		if err != nil {
			return heard, err
		}
		stop()
		using.Wait()
		use, abandon := context.WithCancel(ctx)
		stop, heard = abandon, true
		t.set(members)
		using.Go(func() { t.use(use, stream, members) })
	}
}

// use acknowledges a state once it is in use.
func (t *Trust) use(ctx context.Context, stream workloadv1.Trust_WatchClient, members *Members) {
	for _, use := range t.uses {
		if err := use(ctx, members); err != nil {
			if ctx.Err() == nil {
				t.logger.Error("a new state of trust is not in use", "version", members.Version, "error", err)
			}
			return
		}
	}
	// Where the stream is over, its next Recv says so.
	_ = stream.Send(&workloadv1.WatchRequest{Version: members.Version})
}

func (t *Trust) set(members *Members) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.members == nil || t.members.Version != members.Version {
		t.logger.Info("trust is current", "version", members.Version, "roots", len(members.Roots), "denied", len(members.Denied), "assertion_keys", len(members.Keys))
	}
	t.members, t.trouble, t.broken = members, "", time.Time{}
	close(t.changed)
	t.changed = make(chan struct{})
}

func (t *Trust) troubled(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.trouble = err.Error()
	if t.broken.IsZero() {
		t.broken = t.now()
	}
}
