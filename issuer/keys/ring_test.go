package keys

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
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
	signed, err := r.Sign(t.Context(), ES256, "JWT", []byte(`{"sub":"x"}`))
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
	signed, err := r.Sign(t.Context(), ES256, "at+jwt", []byte(`{"iss":"x"}`))
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
		if _, err := r.Sign(t.Context(), ES256, "JWT", []byte(claims)); err == nil {
			t.Errorf("signed claims that are %s", name)
		}
	}
}

func TestRingRefusesToSignUnloaded(t *testing.T) {
	r := newRing(t, testConfig, openStore(t), newKEK())
	if _, err := r.Sign(t.Context(), ES256, "JWT", []byte("{}")); err == nil {
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
		"symmetric algorithm":      {Algorithms: []string{"ES256", "HS256"}, PublishLead: time.Minute, RotateEvery: time.Hour, Retention: time.Minute},
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
				if _, err := r.Sign(t.Context(), ES256, "JWT", []byte("{}")); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 10 {
		if _, err := r.Rotate(t.Context(), ES256); err != nil {
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
	active := r.current.Load().active[ES256]
	active.sign = faulty{active.sign}
	if signed, err := r.Sign(t.Context(), ES256, "JWT", []byte("{}")); err == nil {
		t.Errorf("%s left", signed)
	}
	if signed, err := newAccessTokens(t, r).SignAccessToken(t.Context(), ES256, accessClaims("https://issuer.example", time.Minute, "")); err == nil {
		t.Errorf("%s left", signed)
	}
}
