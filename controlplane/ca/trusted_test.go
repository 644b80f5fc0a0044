package ca

import (
	"context"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"

	"google.golang.org/protobuf/types/known/timestamppb"

	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/internal/workload"
	workloadv1 "gatehouse.dev/gatehouse/proto/gatehouse/workload/v1"
)

// watchTrust follows trust as a workload that enrolled.
func (w *workloadRig) watchTrust(source *workload.Source, use func(context.Context, *workload.Members) error) (*workload.Trust, func()) {
	w.t.Helper()
	trust, err := workload.NewTrust(workload.TrustServer{Address: w.config.Address, ID: w.config.Server}, source, w.deps())
	if err != nil {
		w.t.Fatal(err)
	}
	if use != nil {
		trust.Use(use)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- trust.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
	w.t.Cleanup(stop)
	return trust, stop
}

func (w *workloadRig) awaitMembers(trust *workload.Trust, what string, good func(*workload.Members) bool) *workload.Members {
	w.t.Helper()
	late := time.After(20 * time.Second)
	for {
		members, changed := trust.Current()
		if members != nil && good(members) {
			return members
		}
		select {
		case <-changed:
		case <-late:
			w.t.Fatalf("waited too long for %s: %+v, lacks %v\n%s", what, members, trust.Missing(), w.log)
		}
	}
}

// assertionKey is a public key under its thumbprint.
func assertionKey(t *testing.T, until time.Time) workload.AssertionKey {
	t.Helper()
	key, err := jwk.FromRaw(newKey(t).Public())
	if err != nil {
		t.Fatal(err)
	}
	sum, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	id := base64.RawURLEncoding.EncodeToString(sum)
	for name, value := range map[string]any{jwk.KeyIDKey: id, jwk.AlgorithmKey: jwa.ES256, jwk.KeyUsageKey: jwk.ForSignature} {
		if err := key.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	text, err := json.Marshal(key)
	if err != nil {
		t.Fatal(err)
	}
	return workload.AssertionKey{ID: id, JWK: text, ExpiresAt: until}
}

// A key is held once everybody who watches has put it to use; whoever is
// revoked hears no more, and what was heard last stays while the CA is away.
func TestTrustReachesWorkloads(t *testing.T) {
	w := newWorkload(t, newRig(t))
	w.giveToken(w.token(orders))
	source, _ := w.start()
	w.next(source, nil)
	release := make(chan struct{})
	trust, _ := w.watchTrust(source, func(ctx context.Context, m *workload.Members) error {
		if len(m.Keys) == 0 {
			return nil
		}
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	w.awaitMembers(trust, "the bundle", func(m *workload.Members) bool { return len(m.Roots) == 1 })

	authz := newWorkload(t, w.rig)
	authz.config.ID = envoy.AuthzIdentity(domain)
	authz.giveToken(w.token(authz.config.ID))
	signer, _ := authz.start()
	authz.next(signer, nil)
	publisher, stopPublisher := authz.watchTrust(signer, nil)
	key := assertionKey(t, w.now().Add(time.Hour))
	kid := key.ID
	if err := publisher.Publish(t.Context(), &workloadv1.PublishAssertionKeysRequest{Replica: "replica-1", Keys: []*workloadv1.AssertionKey{
		{Id: kid, Jwk: key.JWK, ExpiresAt: timestamppb.New(key.ExpiresAt)},
	}}); err != nil {
		t.Fatal(err)
	}
	hasKey := func(m *workload.Members) bool { return len(m.Keys) == 1 && m.Keys[0].ID == kid }
	members := w.awaitMembers(trust, "the key", hasKey)
	if members.Keys[0].Held {
		t.Error("a key is held before it is in use")
	}
	if text := string(members.JWKS(w.now())); !strings.Contains(text, kid) {
		t.Errorf("the key is not served: %s", text)
	}
	if text := string(members.JWKS(w.now().Add(2 * time.Hour))); text != `{"keys":[]}` {
		t.Errorf("a key that ended is served: %s", text)
	}
	close(release)
	w.awaitMembers(publisher, "the key to be held by all", func(m *workload.Members) bool { return hasKey(m) && m.Keys[0].Held })
	stopPublisher()

	w.restart()
	if !hasKey(members) || len(trust.Missing()) > 0 {
		t.Error("what was heard is forgotten while the CA is away")
	}
	if _, err := w.admin().Revoke(t.Context(), &workloadv1.RevokeRequest{SpiffeId: other}); err != nil {
		t.Fatal(err)
	}
	w.awaitMembers(trust, "the deny list, over a new connection", func(m *workload.Members) bool {
		return len(m.Denied) == 1 && m.Denied[0] == other
	})
	if w.advance(time.Second); !trust.Heard().Equal(w.now()) {
		t.Errorf("what stands is said to be of %v, and it is %v", trust.Heard(), w.now())
	}
	if _, err := w.admin().Revoke(t.Context(), &workloadv1.RevokeRequest{SpiffeId: orders}); err != nil {
		t.Fatal(err)
	}
	w.awaitLog(w.log, "PermissionDenied")
	heard := w.now()
	w.advance(time.Second)
	if !trust.Heard().Equal(heard) {
		t.Errorf("after the stream broke what was heard is said to be of %v, not %v", trust.Heard(), heard)
	}
}
