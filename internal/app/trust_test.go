package app

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"gatehouse.dev/gatehouse/authz"
	"gatehouse.dev/gatehouse/controlplane/ca"
	workloadv1 "gatehouse.dev/gatehouse/proto/gatehouse/workload/v1"
	"gatehouse.dev/gatehouse/token"
)

const withSidecar = `
gateway:
  services:
    hello: {url: http://127.0.0.1:9300, sidecar: {address: 127.0.0.1:9201}}
  routes:
    - {id: hello, path: /, service: hello, audience: https://hello.example, scopes: [read:hello]}
issuer:
  apis:
    - {audience: https://hello.example, scopes: [read:hello]}
`

// A service's sidecar needs one line: the addresses and identities with which
// Envoys, authorizer and workload CA find each other follow from it.
func TestDefaultsOfSidecars(t *testing.T) {
	c := load(t, write(t, withSidecar))
	if c.Authz.Trust != c.ControlPlane.CA.AdminSocket {
		t.Errorf("authz.trust is %q, not the CA's %q", c.Authz.Trust, c.ControlPlane.CA.AdminSocket)
	}
	for name, text := range map[string]string{
		"no sidecars":                    small,
		"a control plane of all the net": withSidecar + "controlplane: {listen: 0.0.0.0:9403}\n",
	} {
		if c := load(t, write(t, text)); c.Authz.Trust != "" {
			t.Errorf("%s: authz.trust is %q", name, c.Authz.Trust)
		}
	}
}

// trustRig is a workload CA that runs, and an authorizer's way to it.
func trustRig(t *testing.T) authz.Trust {
	t.Helper()
	c := load(t, write(t, withSidecar))
	if err := c.Prepare([]Part{Authz, ControlPlane}, time.Now); err != nil {
		t.Fatal(err)
	}
	authority, err := ca.New(c.ControlPlane.CA, ca.Deps{Logger: slog.New(slog.DiscardHandler), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	s := &site{config: c, parts: []Part{Authz}, logger: slog.New(slog.DiscardHandler)}
	trust, err := s.authzTrust(nil)
	if err != nil {
		t.Fatal(errors.Join(err, authority.Close()))
	}
	s.behind = append(s.behind, process{"workload CA", authority.Run})
	s.front = []process{{"test", func(ctx context.Context) error { <-ctx.Done(); return nil }}}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return trust
}

// awaitState waits for a state of trust.
func awaitState(t *testing.T, trust authz.Trust, good func(*workloadv1.TrustState) bool) *workloadv1.TrustState {
	t.Helper()
	late := time.After(20 * time.Second)
	for {
		state, changed := trust.Current()
		if good(state) {
			return state
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("the state of trust stays %v", state)
		}
	}
}

// A key counts as held once the authorizer has the state in use, not when that
// has arrived.
func TestTrustIsAcknowledgedInUse(t *testing.T) {
	trust := trustRig(t)
	awaitState(t, trust, func(s *workloadv1.TrustState) bool { return s != nil })
	key, err := token.NewAssertionKey()
	if err != nil {
		t.Fatal(err)
	}
	// Each publication is another state, and time for an answer to the last one.
	var state *workloadv1.TrustState
	for n := range 20 {
		ends := time.Now().Add(time.Hour + time.Duration(n)*time.Second).Truncate(time.Second)
		if err := trust.Publish(t.Context(), &workloadv1.PublishAssertionKeysRequest{Replica: "one", Keys: []*workloadv1.AssertionKey{
			{Id: key.ID(), Jwk: key.JWK(), ExpiresAt: timestamppb.New(ends)},
		}}); err != nil {
			t.Fatal(err)
		}
		state = awaitState(t, trust, func(s *workloadv1.TrustState) bool {
			return len(s.GetAssertionKeys()) == 1 && s.GetAssertionKeys()[0].GetExpiresAt().AsTime().Equal(ends)
		})
		if state.GetAssertionKeys()[0].GetHeld() {
			t.Fatal("held before it was in use")
		}
	}
	trust.Taken(state.GetVersion())
	awaitState(t, trust, func(s *workloadv1.TrustState) bool { return s.GetAssertionKeys()[0].GetHeld() })
}

func TestDropOnSignal(t *testing.T) {
	dropped := make(chan struct{}, 1)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	run := dropOnSignal(func() {
		select {
		case dropped <- struct{}{}:
		default:
		}
	})
	// A signal that comes too early would end the test: this one is there first.
	guard := make(chan os.Signal, 1)
	signal.Notify(guard, syscall.SIGUSR1)
	t.Cleanup(func() { signal.Stop(guard) })
	go func() { ended <- run(ctx) }()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	late := time.After(10 * time.Second)
	for got := false; !got; {
		if err := syscall.Kill(os.Getpid(), syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		select {
		case <-dropped:
			got = true
		case <-again.C:
		case <-late:
			t.Fatal("nothing was dropped")
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
