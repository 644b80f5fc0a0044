package app

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"gatehouse.dev/gatehouse/authz"
	"gatehouse.dev/gatehouse/internal/serve"
	"gatehouse.dev/gatehouse/internal/workload"
	workloadv1 "gatehouse.dev/gatehouse/proto/gatehouse/workload/v1"
)

// authzTrust is where the authorizer shares its assertion keys, nil for one
// that shares them with nobody. A workload CA in this process is reached over
// its own socket, as from any other.
func (s *site) authzTrust(identity serve.Source) (authz.Trust, error) {
	server := workload.TrustServer{Address: s.config.Authz.Trust, ID: s.config.Authz.TrustIdentity}
	if server.Address == "" && s.has(ControlPlane) {
		server.Address = s.config.ControlPlane.CA.AdminSocket
	}
	if server.Address == "" {
		return nil, nil
	}
	if identity == nil {
		identity = s.config.Authz.Identity
	}
	trust, err := workload.NewTrust(server, identity, workload.Deps{Logger: s.log(Authz)})
	if err != nil {
		return nil, fmt.Errorf("authz.trust: %w", err)
	}
	s.behind = append(s.behind, process{"trust", trust.Run})
	return shareTrust(trust), nil
}

// sharedTrust speaks the authorizer's language. The trust service hears of a
// state only once the authorizer has it in use.
type sharedTrust struct {
	trust *workload.Trust

	mu      sync.Mutex
	version string        // in use
	changed chan struct{} // closed once another one is
}

func shareTrust(trust *workload.Trust) *sharedTrust {
	s := &sharedTrust{trust: trust, changed: make(chan struct{})}
	trust.Use(func(ctx context.Context, m *workload.Members) error { return s.awaitTaken(ctx, m.Version) })
	return s
}

// awaitTaken waits until a version is in use.
func (s *sharedTrust) awaitTaken(ctx context.Context, version string) error {
	for {
		s.mu.Lock()
		taken, changed := s.version == version, s.changed
		s.mu.Unlock()
		if taken {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// Taken implements authz.Trust.
func (s *sharedTrust) Taken(version string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.version != version {
		s.version = version
		close(s.changed)
		s.changed = make(chan struct{})
	}
}

// Heard implements authz.Trust.
func (s *sharedTrust) Heard() time.Time { return s.trust.Heard() }

// Current implements authz.Trust.
func (s *sharedTrust) Current() (*workloadv1.TrustState, <-chan struct{}) {
	members, changed := s.trust.Current()
	if members == nil {
		return nil, changed
	}
	state := &workloadv1.TrustState{Version: members.Version, Denied: members.Denied}
	for _, k := range members.Keys {
		state.AssertionKeys = append(state.AssertionKeys, &workloadv1.AssertionKey{
			Id: k.ID, Jwk: k.JWK, ExpiresAt: timestamppb.New(k.ExpiresAt), Held: k.Held,
		})
	}
	return state, changed
}

// Publish implements authz.Trust.
func (s *sharedTrust) Publish(ctx context.Context, r *workloadv1.PublishAssertionKeysRequest) error {
	return s.trust.Publish(ctx, r)
}

// placeOf tells an authorizer from others by this machine's name and what it
// listens on, so that the next start is known to be in its place; empty where
// the machine has no name.
func placeOf(listen string) string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		return ""
	}
	return host + " " + listen
}

// dropOnSignal drops the assertion keys at each SIGUSR1, which none but the
// process's own user and root can send.
func dropOnSignal(drop func()) func(context.Context) error {
	return func(ctx context.Context) error {
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, syscall.SIGUSR1)
		defer signal.Stop(signals)
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-signals:
				drop()
			}
		}
	}
}
