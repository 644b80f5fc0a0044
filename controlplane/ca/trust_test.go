package ca

import (
	"context"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwk"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gatehouse.dev/gatehouse/envoy"
	workloadv1 "gatehouse.dev/gatehouse/proto/gatehouse/workload/v1"
)

var authorizer = envoy.AuthzIdentity(domain)

// listener is a watcher that reads what it is sent.
type listener struct {
	t      *testing.T
	stream workloadv1.Trust_WatchClient
	states chan *workloadv1.TrustState
	end    chan error
	stop   func()
}

func watch(t *testing.T, client workloadv1.TrustClient) *listener {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	stream, err := client.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	l := &listener{t: t, stream: stream, states: make(chan *workloadv1.TrustState, 100), end: make(chan error, 1), stop: cancel}
	go func() {
		for {
			state, err := stream.Recv()
			if err != nil {
				l.end <- err
				return
			}
			l.states <- state
		}
	}()
	return l
}

// until reads states until one is good.
func (l *listener) until(what string, good func(*workloadv1.TrustState) bool) *workloadv1.TrustState {
	l.t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		select {
		case s := <-l.states:
			if good(s) {
				return s
			}
		case err := <-l.end:
			l.t.Fatalf("waiting for %s, the stream ended: %v", what, err)
		case <-deadline:
			l.t.Fatalf("no state came with %s", what)
		}
	}
}

func (l *listener) ack(s *workloadv1.TrustState) {
	l.t.Helper()
	if err := l.stream.Send(&workloadv1.WatchRequest{Version: s.GetVersion()}); err != nil {
		l.t.Fatal(err)
	}
}

// assertionKey is a public key that is good for an hour.
func (r *rig) assertionKey() *workloadv1.AssertionKey {
	r.t.Helper()
	key, err := jwk.FromRaw(newKey(r.t).Public())
	if err != nil {
		r.t.Fatal(err)
	}
	return r.keyOf(key)
}

func (r *rig) keyOf(key jwk.Key) *workloadv1.AssertionKey {
	r.t.Helper()
	text, err := json.Marshal(key)
	if err != nil {
		r.t.Fatal(err)
	}
	print, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		r.t.Fatal(err)
	}
	return &workloadv1.AssertionKey{Id: base64.RawURLEncoding.EncodeToString(print), Jwk: text, ExpiresAt: timestamppb.New(r.now().Add(time.Hour))}
}

func publish(t *testing.T, client workloadv1.TrustClient, replica string, keys ...*workloadv1.AssertionKey) {
	t.Helper()
	if _, err := client.PublishAssertionKeys(t.Context(), &workloadv1.PublishAssertionKeysRequest{Replica: replica, Keys: keys}); err != nil {
		t.Fatal(err)
	}
}

func knows(key *workloadv1.AssertionKey, held bool) func(*workloadv1.TrustState) bool {
	return func(s *workloadv1.TrustState) bool {
		return slices.ContainsFunc(s.GetAssertionKeys(), func(k *workloadv1.AssertionKey) bool {
			return k.GetId() == key.GetId() && k.GetHeld() == held
		})
	}
}

// A key is held once everybody who watches has said so, and not before.
func TestKeyIsHeldByAllWhoWatch(t *testing.T) {
	r := newRig(t)
	authz := r.trustAs(r.enrol(authorizer))
	first, second := watch(t, r.trustAs(r.enrol(orders))), watch(t, r.trustAs(r.enrol(other)))
	any := func(*workloadv1.TrustState) bool { return true }
	first.ack(first.until("a start", any))
	second.ack(second.until("a start", any))

	key := r.assertionKey()
	publish(t, authz, "a", key)
	state := first.until("the key", knows(key, false))
	first.ack(state)
	second.until("the key", knows(key, false))
	// A version that was never sent means nothing.
	second.ack(&workloadv1.TrustState{Version: strings.Repeat("0", 32)})
	r.trust.refresh()
	if now, _ := r.State(); knows(key, true)(now) {
		t.Fatal("held though one has not said so")
	}
	eventually(t, "the second alone is behind", func() bool { return slices.Equal(r.trust.behind(), []string{other}) })
	second.ack(state)
	held := first.until("the key, held", knows(key, true))
	if held.GetVersion() != state.GetVersion() {
		t.Error("the version covers who holds what: answers would run in a circle")
	}
	// It stays held, for newcomers and over a restart.
	watch(t, r.trustAs(r.enrol(orders))).until("the key, held", knows(key, true))
	r.restart()
	if now, _ := r.State(); !knows(key, true)(now) {
		t.Error("a restart forgot that the key is held")
	}
}

// A sidecar whose connection broke is waited for; one that says nothing cannot
// keep a key from signing for ever.
func TestWhoeverIsAwayIsWaitedFor(t *testing.T) {
	r := newRig(t)
	authz := r.trustAs(r.enrol(authorizer))
	away := watch(t, r.trustAs(r.enrol(orders)))
	away.until("a start", func(*workloadv1.TrustState) bool { return true })
	away.stop()
	<-away.end
	eventually(t, "the watcher is gone", func() bool {
		r.trust.mu.Lock()
		defer r.trust.mu.Unlock()
		return len(r.trust.watchers) == 0
	})
	key := r.assertionKey()
	publish(t, authz, "a", key)
	if now, _ := r.State(); !knows(key, false)(now) {
		t.Error("held though a watcher was there a moment ago")
	}
	r.advance(comeBack)
	r.trust.refresh()
	if now, _ := r.State(); !knows(key, true)(now) {
		t.Error("not held though nobody watches")
	}

	watch(t, r.trustAs(r.enrol(orders))).until("a start", func(*workloadv1.TrustState) bool { return true })
	next := r.assertionKey()
	publish(t, authz, "a", key, next)
	r.advance(holdAtMost + time.Second)
	r.trust.refresh()
	if now, _ := r.State(); !knows(next, true)(now) {
		t.Error("one that never answers keeps a key from signing")
	}
}

// Whoever kept one key from signing for as long as it may is not waited for with
// the next, until it answers again; and everybody else is.
func TestWhoeverIsLateIsNotWaitedForAgain(t *testing.T) {
	r := newRig(t)
	authz := r.trustAs(r.enrol(authorizer))
	silent, good := watch(t, r.trustAs(r.enrol(orders))), watch(t, r.trustAs(r.enrol(other)))
	first, second, third := r.assertionKey(), r.assertionKey(), r.assertionKey()
	publish(t, authz, "a", first)
	good.ack(good.until("the first key", knows(first, false)))
	eventually(t, "one alone is behind", func() bool { return slices.Equal(r.trust.behind(), []string{orders}) })
	r.advance(holdAtMost)
	r.trust.refresh()
	if now, _ := r.State(); knows(first, true)(now) {
		t.Error("held a moment too soon")
	}
	r.advance(time.Second)
	good.until("the first key, held", knows(first, true))

	publish(t, authz, "a", first, second)
	state := good.until("the second key", knows(second, false))
	good.ack(state)
	good.until("the second key, held", knows(second, true))

	silent.until("the second key", knows(second, false))
	silent.ack(state)
	eventually(t, "nobody is behind", func() bool { return len(r.trust.behind()) == 0 })
	publish(t, authz, "a", first, second, third)
	good.ack(good.until("the third key", knows(third, false)))
	eventually(t, "one alone is behind", func() bool { return slices.Equal(r.trust.behind(), []string{orders}) })
	r.trust.refresh()
	if now, _ := r.State(); knows(third, true)(now) {
		t.Error("who has answered is not waited for")
	}
}

// The watchers of before a restart are waited for, too.
func TestRestartWaitsForItsWatchers(t *testing.T) {
	r := newRig(t)
	h := r.enrol(orders)
	watch(t, r.trustAs(h)).until("a start", func(*workloadv1.TrustState) bool { return true })
	r.restart()
	key := r.assertionKey()
	publish(t, r.localTrust(), "a", key)
	if now, _ := r.State(); !knows(key, false)(now) {
		t.Fatal("held before the watchers came back")
	}
	back := watch(t, r.trustAs(h))
	back.ack(back.until("the key", knows(key, false)))
	back.until("the key, held", knows(key, true))
}

func (r *rig) localTrust() workloadv1.TrustClient {
	return workloadv1.NewTrustClient(r.dial(r.config.AdminSocket, insecure.NewCredentials()))
}

func eventually(t *testing.T, what string, good func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for !good() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it never came: " + what)
		}
	}
}

// Revoking ends the workload's streams and is told to all others, at once and
// for good; it is let in again when its last certificate has ended.
func TestRevokeAndAllow(t *testing.T) {
	r := newRig(t)
	bad := r.enrol(orders)
	its, others := watch(t, r.trustAs(bad)), watch(t, r.trustAs(r.enrol(other)))
	its.until("a start", func(*workloadv1.TrustState) bool { return true })
	changed := r.Changed()
	if _, err := r.admin().Revoke(t.Context(), &workloadv1.RevokeRequest{SpiffeId: orders}); err != nil {
		t.Fatal(err)
	}
	<-changed
	denied := func(s *workloadv1.TrustState) bool { return slices.Equal(s.GetDenied(), []string{orders}) }
	others.until("the deny list", denied)
	if err := <-its.end; status.Code(err) != codes.PermissionDenied {
		t.Errorf("its stream ended with %v", err)
	}
	if err := <-watch(t, r.trustAs(bad)).end; status.Code(err) != codes.PermissionDenied {
		t.Errorf("it watches again: %v", err)
	}
	if _, err := r.IssueTo(t.Context(), orders, newKey(t)); err == nil {
		t.Error("the process itself issues to it")
	}
	r.restart()
	if !slices.Equal(r.Denied(), []string{orders}) {
		t.Fatalf("a restart forgot it: %v", r.Denied())
	}
	_, err := r.admin().Allow(t.Context(), &workloadv1.AllowRequest{SpiffeId: orders})
	if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "allow it after that") {
		t.Errorf("allowed while its certificate is good: %v", err)
	}
	r.advance(time.Hour + skew)
	if _, err := r.admin().Allow(t.Context(), &workloadv1.AllowRequest{SpiffeId: orders}); err != nil {
		t.Fatal(err)
	}
	if len(r.Denied()) > 0 {
		t.Error("it is denied still")
	}
	r.enrol(orders)
}

// One workload cannot take the places of all who watch.
func TestWatchersOfOneAreBounded(t *testing.T) {
	r := newRig(t)
	var first *watcher
	for i := range maxOfOne {
		w, err := r.trust.join(orders)
		if err != nil {
			t.Fatalf("watcher %d: %v", i, err)
		}
		if first == nil {
			first = w
		}
	}
	if _, err := r.trust.join(orders); err == nil {
		t.Error("one more of the same id watches")
	}
	if _, err := r.trust.join(other); err != nil {
		t.Errorf("another id does not: %v", err)
	}
	r.trust.leave(first, false)
	if _, err := r.trust.join(orders); err != nil {
		t.Errorf("one that left makes no room: %v", err)
	}
}

// Who is allowed again begins anew: what was stolen before the revocation, a
// certificate that could still be renewed or a join token that nobody used,
// stays worthless.
func TestAllowedAgainBeginsAnew(t *testing.T) {
	r := newRig(t)
	stolen := r.enrol(orders)
	if _, err := r.admin().Revoke(t.Context(), &workloadv1.RevokeRequest{SpiffeId: orders}); err != nil {
		t.Fatal(err)
	}
	r.advance(time.Hour + skew)
	if _, err := r.admin().Allow(t.Context(), &workloadv1.AllowRequest{SpiffeId: orders}); err != nil {
		t.Fatal(err)
	}
	if err := r.own.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	client := r.enrolment(r.token(orders))
	request, _ := stolen.renewal(t)
	if _, err := client.Renew(t.Context(), request); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a certificate from before the revocation is renewed: %v", err)
	}
	if err := r.refusedFor("certificate of " + orders + " was made before it was revoked"); err != nil {
		t.Error(err)
	}
	if renewed, _ := r.enrol(orders).renewal(t); renewed != nil {
		if _, err := client.Renew(t.Context(), renewed); err != nil {
			t.Errorf("a certificate from after it is not: %v", err)
		}
	}
}

// Without a certificate to wait for it is allowed at once, and its join tokens
// from before are still worthless.
func TestRevokingEndsJoinTokens(t *testing.T) {
	r := newRig(t)
	token := r.token(orders)
	if _, err := r.admin().Revoke(t.Context(), &workloadv1.RevokeRequest{SpiffeId: orders}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.admin().Allow(t.Context(), &workloadv1.AllowRequest{SpiffeId: orders}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.enrolment(token).Enrol(t.Context(), &workloadv1.EnrolRequest{JoinToken: token.Secret, Csr: csr(t, newKey(t), orders)}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("its join token is still good: %v", err)
	}
}

func TestTrustIsForMembersAlone(t *testing.T) {
	r := newRig(t)
	foreign, err := Open(t.TempDir(), r.now)
	if err != nil {
		t.Fatal(err)
	}
	stranger := &holder{id: orders, key: newKey(t)}
	stranger.chain = append(stranger.chain, issueWith(t, foreign, stranger))
	// Good for longer than the clock is turned below.
	elsewhere := &holder{id: "spiffe://other.example/service/orders", key: newKey(t)}
	id, _ := ParseID(elsewhere.id)
	if elsewhere.chain, err = r.authority.issueTo(t.Context(), r.authority.svid(id, 3*time.Hour), elsewhere.key); err != nil {
		t.Fatal(err)
	}
	ended := r.enrol(orders)
	for name, row := range map[string]struct {
		client workloadv1.TrustClient
		code   codes.Code
	}{
		"without a certificate":          {r.trustAs(&holder{key: newKey(t)}), codes.PermissionDenied},
		"from another trust domain":      {r.trustAs(elsewhere), codes.PermissionDenied},
		"under another CA":               {r.trustAs(stranger), codes.Unavailable},
		"with a certificate that ended ": {r.trustAs(ended), codes.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			if strings.Contains(name, "ended") {
				r.advance(2 * time.Hour)
				if err := r.own.refresh(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			stream, err := row.client.Watch(ctx)
			if err == nil {
				_, err = stream.Recv()
			}
			// A handshake that fails is tried again until the time is over.
			if code := status.Code(err); code != row.code && !(row.code == codes.Unavailable && code == codes.DeadlineExceeded) {
				t.Errorf("%v, want %v", err, row.code)
			}
		})
	}
}

func TestPublicationsAreRefused(t *testing.T) {
	r := newRig(t)
	key := r.assertionKey()
	request := &workloadv1.PublishAssertionKeysRequest{Replica: "a", Keys: []*workloadv1.AssertionKey{key}}
	_, err := r.trustAs(r.enrol(orders)).PublishAssertionKeys(t.Context(), request)
	r.wantRefusal(err, "is no authorizer")
	_, err = r.trustAs(&holder{key: newKey(t)}).PublishAssertionKeys(t.Context(), request)
	r.wantRefusal(err, "not verified")

	authz := r.trustAs(r.enrol(authorizer))
	private, err := jwk.FromRaw(newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	renamed := r.assertionKey()
	renamed.Id = key.GetId()
	late, eternal := r.assertionKey(), r.assertionKey()
	late.ExpiresAt = timestamppb.New(r.now())
	eternal.ExpiresAt = timestamppb.New(r.now().Add(maxKeyLife + time.Hour))
	symmetric, err := jwk.FromRaw([]byte("0123456789abcdef0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]*workloadv1.AssertionKey{
		"with its private half": r.keyOf(private),
		"under another's id":    renamed,
		"that has ended":        late,
		"that never ends":       eternal,
		"that is symmetric":     r.keyOf(symmetric),
		"that is none":          {Id: "x", Jwk: []byte("{"), ExpiresAt: key.GetExpiresAt()},
	} {
		if _, err := authz.PublishAssertionKeys(t.Context(), &workloadv1.PublishAssertionKeysRequest{Replica: "a", Keys: []*workloadv1.AssertionKey{bad}}); status.Code(err) != codes.InvalidArgument {
			t.Errorf("a key %s: %v", name, err)
		}
	}
	if state, _ := r.State(); len(state.GetAssertionKeys()) > 0 {
		t.Errorf("keys were taken: %v", state.GetAssertionKeys())
	}
}

// Two replicas' keys stand beside each other; each replaces its own, and what
// has ended goes.
func TestReplicasPublishBesideEachOther(t *testing.T) {
	r := newRig(t)
	authz := r.localTrust()
	one, two, three := r.assertionKey(), r.assertionKey(), r.assertionKey()
	publish(t, authz, "a", one)
	publish(t, authz, "b", two)
	publish(t, authz, "a", three)
	ids := func() (ids []string) {
		state, _ := r.State()
		for _, k := range state.GetAssertionKeys() {
			ids = append(ids, k.GetId())
		}
		return ids
	}
	want := []string{two.GetId(), three.GetId()}
	slices.Sort(want)
	if got := ids(); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	r.advance(time.Hour)
	r.trust.refresh()
	if got := ids(); len(got) > 0 {
		t.Errorf("ended keys are there still: %v", got)
	}
}

// A stream that we end, as we stop, says so.
func TestStreamsEndWhenTheServerStops(t *testing.T) {
	r := newRig(t)
	l := watch(t, r.trustAs(r.enrol(orders)))
	l.until("a start", func(*workloadv1.TrustState) bool { return true })
	r.stop()
	if err := <-l.end; status.Code(err) != codes.Unavailable || errors.Is(err, io.EOF) {
		t.Errorf("%v", err)
	}
}
