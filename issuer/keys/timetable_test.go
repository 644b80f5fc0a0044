package keys

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"

	"gatehouse.dev/gatehouse/issuer/store"
)

func everyConfig() Config {
	c := testConfig
	c.Algorithms = Algorithms()
	return c
}

// algorithms are those of the published keys, in order.
func publishedAlgorithms(t *testing.T, r *Ring) (algorithms []string) {
	t.Helper()
	set, err := jwk.Parse(r.JWKS())
	if err != nil {
		t.Fatal(err)
	}
	for i := range set.Len() {
		key, _ := set.Key(i)
		algorithms = append(algorithms, key.Algorithm().String())
	}
	slices.Sort(algorithms)
	return algorithms
}

// Keys of every algorithm stand side by side, each signs access tokens that the
// gateway's verifier takes, and a key is for one algorithm.
func TestEveryAlgorithmSigns(t *testing.T) {
	r := loaded(t, everyConfig(), openStore(t), newKEK())
	a := newAccessTokens(t, r)
	for _, algorithm := range Algorithms() {
		signed, err := a.SignAccessToken(t.Context(), algorithm, accessClaims("https://issuer.example", time.Minute, ""))
		if err != nil {
			t.Errorf("%s: %v", algorithm, err)
			continue
		}
		claims, err := a.Verify(t.Context(), signed)
		if err != nil || claims.KeyID() != r.current.Load().active[algorithm].id {
			t.Errorf("%s: %v", algorithm, err)
		}
		if _, err := r.Sign(t.Context(), algorithm, "JWT", []byte("{}")); err != nil {
			t.Errorf("%s: %v", algorithm, err)
		}
	}
	if got := publishedAlgorithms(t, r); !slices.Equal(got, []string{"ES256", "EdDSA", "PS256", "RS256"}) {
		t.Errorf("published are %v", got)
	}
	if _, err := r.Sign(t.Context(), "ES384", "JWT", []byte("{}")); err == nil {
		t.Error("signed with an algorithm that has no keys")
	}
	if _, err := r.Sign(t.Context(), jwa.NoSignature.String(), "JWT", []byte("{}")); err == nil {
		t.Error("signed with none")
	}
}

// Rotating and purging the key of one algorithm leaves the others alone.
func TestAlgorithmsRotateByThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := loaded(t, everyConfig(), openStore(t), newKEK())
		run(t, r)
		active := func() map[string]string {
			ids := map[string]string{}
			for algorithm, s := range r.current.Load().active {
				ids[algorithm] = s.id
			}
			return ids
		}
		before := active()
		if next, err := r.Rotate(t.Context(), EdDSA); err != nil || len(next) != 1 || next[0].Algorithm != EdDSA {
			t.Fatalf("%v, %v", next, err)
		}
		pass(testConfig.PublishLead + time.Second)
		for algorithm, id := range active() {
			if (id != before[algorithm]) != (algorithm == EdDSA) {
				t.Errorf("after rotating EdDSA, %s went from %s to %s", algorithm, before[algorithm], id)
			}
		}
		before = active()
		if err := r.Purge(t.Context(), before[RS256]); err != nil {
			t.Fatal(err)
		}
		for algorithm, id := range active() {
			if (id != before[algorithm]) != (algorithm == RS256) {
				t.Errorf("after purging RS256's, %s went from %s to %s", algorithm, before[algorithm], id)
			}
		}
		if next, err := r.Rotate(t.Context(), ""); err != nil || len(next) != len(Algorithms()) {
			t.Errorf("rotating all: %v, %v", next, err)
		}
		if _, err := r.Rotate(t.Context(), "ES384"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("rotating what is not there: %v", err)
		}
		// Each is due by its own clock, EdDSA's later than ES256's.
		if got, want := len(published(t, r)), 1+2*len(Algorithms()); got != want {
			t.Errorf("%d keys are published, want %d", got, want)
		}
	})
}

// An algorithm that is no longer configured stops signing at once, verifies
// what it signed, and goes.
func TestAlgorithmIsWithdrawn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, kek := openStore(t), newKEK()
		c := testConfig
		c.Algorithms = []string{ES256, EdDSA}
		before := loaded(t, c, db, kek)
		signed, err := newAccessTokens(t, before).SignAccessToken(t.Context(), EdDSA, accessClaims("https://issuer.example", time.Minute, ""))
		if err != nil {
			t.Fatal(err)
		}
		after := loaded(t, testConfig, db, kek)
		if _, err := after.Sign(t.Context(), EdDSA, "JWT", []byte("{}")); err == nil {
			t.Error("it still signs")
		}
		if _, err := newAccessTokens(t, after).Verify(t.Context(), signed); err != nil {
			t.Errorf("what it signed: %v", err)
		}
		pass(testConfig.Retention + time.Second)
		if err := after.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := publishedAlgorithms(t, after); !slices.Equal(got, []string{ES256}) {
			t.Errorf("after the retention, %v are published", got)
		}
	})
}

// What an auditor asks of each key: when it retires, and how long something it
// signed may be alive.
func TestReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := loaded(t, testConfig, openStore(t), newKEK())
		run(t, r)
		pass(time.Second)
		if _, err := rotate(t, r); err != nil {
			t.Fatal(err)
		}
		pass(testConfig.PublishLead)
		switched := time.Now().UTC()
		if _, err := rotate(t, r); err != nil {
			t.Fatal(err)
		}
		all, err := r.List(t.Context())
		if err != nil || len(all) != 3 {
			t.Fatalf("%v, %v", all, err)
		}
		for _, row := range []struct {
			key            store.Key
			retires, until time.Time
		}{
			{all[0], switched, switched.Add(testConfig.Retention)},
			{all[1], switched.Add(testConfig.PublishLead), switched.Add(testConfig.Retention)},
			{all[2], switched.Add(testConfig.PublishLead + testConfig.RotateEvery), time.Time{}},
		} {
			got := fmt.Sprint(r.RetiresAt(row.key, all), r.VerifiesUntil(row.key))
			if want := fmt.Sprint(row.retires, row.until); got != want {
				t.Errorf("state %d: %s, want %s", row.key.State, got, want)
			}
		}
	})
}
