package keys

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"
	"github.com/prometheus/client_golang/prometheus"

	"gatehouse.dev/gatehouse/issuer/store"
	"gatehouse.dev/gatehouse/issuer/store/bolt"
)

var testConfig = Config{PublishLead: 15 * time.Minute, RotateEvery: 24 * time.Hour, Retention: 15 * time.Minute}

func newKEK() *KEK {
	secret := make([]byte, kekSize)
	rand.Read(secret)
	return &KEK{secret: secret}
}

func openStore(t testing.TB) *bolt.DB {
	t.Helper()
	db, err := bolt.Open(filepath.Join(t.TempDir(), "issuer.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func newRing(t testing.TB, c Config, db store.Keys, kek *KEK) *Ring {
	t.Helper()
	r, err := New(c, Deps{Store: db, KEK: kek, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func loaded(t testing.TB, c Config, db store.Keys, kek *KEK) *Ring {
	t.Helper()
	r := newRing(t, c, db, kek)
	if err := r.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

// published are the kids of the key set, read as a client would.
func published(t *testing.T, r *Ring) (kids []string) {
	t.Helper()
	set, err := jwk.Parse(r.JWKS())
	if err != nil {
		t.Fatalf("the key set %s: %v", r.JWKS(), err)
	}
	for i := range set.Len() {
		key, _ := set.Key(i)
		kids = append(kids, key.KeyID())
	}
	return kids
}

// signsWith is the kid of a fresh signature, verified against the key set.
func signsWith(t *testing.T, r *Ring) string {
	t.Helper()
	signed, err := r.Sign(t.Context(), "JWT", []byte(`{"sub":"x"}`))
	if err != nil {
		t.Fatal(err)
	}
	set, err := jwk.Parse(r.JWKS())
	if err != nil {
		t.Fatal(err)
	}
	if payload, err := jws.Verify([]byte(signed), jws.WithKeySet(set)); err != nil || string(payload) != `{"sub":"x"}` {
		t.Fatalf("%s against %s: %q, %v", signed, r.JWKS(), payload, err)
	}
	message, err := jws.ParseString(signed)
	if err != nil {
		t.Fatal(err)
	}
	return message.Signatures()[0].ProtectedHeaders().KeyID()
}

func states(t *testing.T, r *Ring) (states []store.KeyState) {
	t.Helper()
	keys, err := r.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		states = append(states, k.State)
	}
	return states
}

func TestHeaderAndKeySet(t *testing.T) {
	r := loaded(t, testConfig, openStore(t), newKEK())
	signed, err := r.Sign(t.Context(), "at+jwt", []byte(`{"iss":"x"}`))
	if err != nil {
		t.Fatal(err)
	}
	header, _, _ := strings.Cut(signed, ".")
	text, err := base64.RawURLEncoding.Strict().DecodeString(header)
	if err != nil {
		t.Fatal(err)
	}
	kid := published(t, r)[0]
	if want := `{"alg":"ES256","kid":"` + kid + `","typ":"at+jwt"}`; string(text) != want {
		t.Errorf("the header is %s, want %s", text, want)
	}
	var set struct {
		Keys []map[string]string `json:"keys"`
	}
	if err := json.Unmarshal(r.JWKS(), &set); err != nil {
		t.Fatal(err)
	}
	for _, key := range set.Keys {
		members := make([]string, 0, len(key))
		for name := range key {
			members = append(members, name)
		}
		slices.Sort(members)
		if !slices.Equal(members, []string{"alg", "crv", "kid", "kty", "use", "x", "y"}) || key["alg"] != "ES256" || key["use"] != "sig" {
			t.Errorf("a published key is %v", key)
		}
	}
	for name, claims := range map[string]string{"not JSON": "{", "empty": ""} {
		if _, err := r.Sign(t.Context(), "JWT", []byte(claims)); err == nil {
			t.Errorf("signed claims that are %s", name)
		}
	}
}

func TestRingRefusesToSignUnloaded(t *testing.T) {
	r := newRing(t, testConfig, openStore(t), newKEK())
	if _, err := r.Sign(t.Context(), "JWT", []byte("{}")); err == nil {
		t.Error("signed without keys")
	}
	if string(r.JWKS()) != `{"keys":[]}` {
		t.Errorf("the key set is %s", r.JWKS())
	}
}

func TestNewRefusesSchedulesThatCannotBe(t *testing.T) {
	for name, c := range map[string]Config{
		"lead as long as the life": {PublishLead: time.Hour, RotateEvery: time.Hour, Retention: time.Minute},
		"no retention":             {PublishLead: time.Minute, RotateEvery: time.Hour},
		"negative lead":            {PublishLead: -1, RotateEvery: time.Hour, Retention: time.Minute},
		"symmetric algorithm":      {Algorithm: "HS256", PublishLead: time.Minute, RotateEvery: time.Hour, Retention: time.Minute},
	} {
		if _, err := New(c, Deps{Store: openStore(t), KEK: newKEK()}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestPrivateKeysAreSealed(t *testing.T) {
	db, kek := openStore(t), newKEK()
	first := signsWith(t, loaded(t, testConfig, db, kek))
	if again := signsWith(t, loaded(t, testConfig, db, kek)); again != first {
		t.Errorf("a restart signs with %s, not %s", again, first)
	}
	r := newRing(t, testConfig, db, newKEK())
	if err := r.Load(t.Context()); err == nil || !strings.Contains(err.Error(), "key_encryption_key") {
		t.Errorf("with another key-encryption key: %v", err)
	}
	keys, _ := db.ListKeys(t.Context())
	opened, err := newRing(t, testConfig, db, kek).sealer.unseal(keys[0].ID, keys[0].Sealed)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := db.Backup(t.Context(), &text); err != nil {
		t.Fatal(err)
	}
	for name, clear := range map[string]string{
		"DER": string(opened), "base64": base64.StdEncoding.EncodeToString(opened), "KEK": string(kek.secret),
	} {
		if strings.Contains(text.String(), clear) {
			t.Errorf("the database holds the %s in clear", name)
		}
	}
	for name, sealed := range map[string][]byte{"cut": keys[0].Sealed[:5], "empty": nil, "other version": append([]byte{9}, keys[0].Sealed[1:]...)} {
		if _, err := r.sealer.unseal(keys[0].ID, sealed); err == nil {
			t.Errorf("%s: unsealed", name)
		}
	}
	if _, err := newRing(t, testConfig, db, kek).sealer.unseal("another id", keys[0].Sealed); err == nil {
		t.Error("a sealed key can pass for another")
	}
}

// run runs a Ring inside a bubble until the test ends.
func run(t *testing.T, r *Ring) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
}

// pass lets time go by in a bubble.
func pass(d time.Duration) {
	timer := time.NewTimer(d)
	<-timer.C
	synctest.Wait()
}

// A key is published for the lead, signs, retires and is gone, each at its
// time, and a token always verifies against the set that was cached a lead ago.
func TestSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := loaded(t, testConfig, openStore(t), newKEK())
		run(t, r)
		first := signsWith(t, r)
		pass(testConfig.RotateEvery - testConfig.PublishLead - time.Second)
		if kids := published(t, r); len(kids) != 1 {
			t.Fatalf("published too early: %v", kids)
		}
		pass(2 * time.Second)
		cached := published(t, r)
		if len(cached) != 2 || signsWith(t, r) != first {
			t.Fatalf("when the lead begins: %v, signing with %s", cached, signsWith(t, r))
		}
		pass(testConfig.PublishLead - 3*time.Second)
		if signsWith(t, r) != first {
			t.Fatal("the next key signs before its lead is over")
		}
		pass(4 * time.Second)
		second := signsWith(t, r)
		if second == first || !slices.Contains(cached, second) || len(published(t, r)) != 2 {
			t.Fatalf("after the lead: signing with %s, cached were %v", second, cached)
		}
		pass(testConfig.Retention - 5*time.Second)
		if !slices.Contains(published(t, r), first) {
			t.Fatal("the retired key is gone while its tokens live")
		}
		pass(10 * time.Second)
		if kids := published(t, r); !slices.Equal(kids, []string{second}) {
			t.Fatalf("after the retention: %v", kids)
		}
		pass(testConfig.RotateEvery + time.Minute)
		if third := signsWith(t, r); third == second {
			t.Fatal("it rotated only once")
		}
	})
}

func TestRotateRespectsTheLead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := loaded(t, testConfig, openStore(t), newKEK())
		run(t, r)
		first := signsWith(t, r)
		next, err := r.Rotate(t.Context())
		if err != nil || next.State != store.KeyNext {
			t.Fatalf("%+v, %v", next, err)
		}
		if again, err := r.Rotate(t.Context()); err != nil || again.ID != next.ID {
			t.Errorf("rotating twice makes another key: %v, %v", again.ID, err)
		}
		if !slices.Contains(published(t, r), next.ID) || signsWith(t, r) != first {
			t.Error("not published at once, or signing at once")
		}
		pass(testConfig.PublishLead - time.Second)
		if signsWith(t, r) != first {
			t.Error("it signs before the lead is over")
		}
		pass(2 * time.Second)
		if signsWith(t, r) != next.ID {
			t.Error("it does not sign after the lead")
		}
	})
}

// A ring that was not running when a key was due catches up when it loads.
func TestLoadCatchesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, kek := openStore(t), newKEK()
		stopped := loaded(t, testConfig, db, kek)
		pass(time.Minute)
		next, err := stopped.Rotate(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		pass(30 * 24 * time.Hour)
		r := loaded(t, testConfig, db, kek)
		if signsWith(t, r) != next.ID || !slices.Equal(states(t, r), []store.KeyState{store.KeyRetired, store.KeyActive}) {
			t.Errorf("states %v", states(t, r))
		}
	})
}

func TestPurge(t *testing.T) {
	db := openStore(t)
	r := loaded(t, testConfig, db, newKEK())
	first := signsWith(t, r)
	next, err := r.Rotate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Purge(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if got := signsWith(t, r); got != next.ID || !slices.Equal(published(t, r), []string{next.ID}) {
		t.Errorf("after purging the active key: signing with %s of %v", got, published(t, r))
	}
	if err := r.Purge(t.Context(), next.ID); err != nil {
		t.Fatal(err)
	}
	if got := signsWith(t, r); got == next.ID || got == first {
		t.Errorf("after purging both: signing with %s", got)
	}
	if err := r.Purge(t.Context(), first); err != nil {
		t.Errorf("purging again: %v", err)
	}
	if err := r.Purge(t.Context(), "none"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("purging an unknown key: %v", err)
	}
	entries, err := db.Log(t.Context(), 0, 10)
	if err != nil || len(entries) != 2 || entries[0].ID != first || entries[1].ID != next.ID || entries[0].Kind != store.KindKey {
		t.Errorf("the log has %v, %v", entries, err)
	}
	if got := states(t, r); !slices.Equal(got, []store.KeyState{store.KeyPurged, store.KeyPurged, store.KeyActive}) {
		t.Errorf("states %v", got)
	}
}

func TestPurgeOfOthersKeepsTheActiveOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := loaded(t, testConfig, openStore(t), newKEK())
		run(t, r)
		retired := signsWith(t, r)
		if _, err := r.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
		pass(testConfig.PublishLead + time.Second)
		active := signsWith(t, r)
		next, err := r.Rotate(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{retired, next.ID} {
			if err := r.Purge(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			if signsWith(t, r) != active || slices.Contains(published(t, r), id) {
				t.Errorf("after purging %s: %v", id, published(t, r))
			}
		}
	})
}

// Signing goes on, and each signature verifies against the set published right
// then, while keys rotate and are purged.
func TestSignWhileKeysChange(t *testing.T) {
	config := testConfig
	config.PublishLead = 0
	r := loaded(t, config, openStore(t), newKEK())
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := r.Sign(t.Context(), "JWT", []byte("{}")); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 10 {
		if _, err := r.Rotate(t.Context()); err != nil {
			t.Error(err)
		}
		if err := r.Load(t.Context()); err != nil {
			t.Error(err)
		}
		if err := r.Purge(t.Context(), signsWith(t, r)); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
}

func TestMaxAgeIsBelowTheLead(t *testing.T) {
	for lead, want := range map[time.Duration]time.Duration{
		15 * time.Minute: 5 * time.Minute, 4 * time.Minute: 2 * time.Minute, 3 * time.Second: time.Second, time.Second: 0,
	} {
		c := testConfig
		c.PublishLead = lead
		if got := newRing(t, c, openStore(t), newKEK()).MaxAge(); got != want {
			t.Errorf("a lead of %s: %s, want %s", lead, got, want)
		}
	}
}

// faulty signs what it was not given, as a broken processor might.
type faulty struct{ jws.Signer }

func (f faulty) Sign(payload []byte, key any) ([]byte, error) {
	return f.Signer.Sign(append(payload, 'x'), key)
}

func TestFaultySignaturesDoNotLeave(t *testing.T) {
	r := loaded(t, testConfig, openStore(t), newKEK())
	active := r.current.Load().active
	active.sign = faulty{active.sign}
	if signed, err := r.Sign(t.Context(), "JWT", []byte("{}")); err == nil {
		t.Errorf("%s left", signed)
	}
	if signed, err := newAccessTokens(t, r).SignAccessToken(t.Context(), accessClaims("https://issuer.example", time.Minute, "")); err == nil {
		t.Errorf("%s left", signed)
	}
}
