package token_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/token"
	"gatehouse.dev/gatehouse/token/tokentest"
)

// TestVerifierConfigIsChecked has zero and wrong values: each is refused rather
// than taken for "anything goes".
func TestVerifierConfigIsChecked(t *testing.T) {
	key := tokentest.NewKey("ES256")
	for name, change := range map[string]func(*token.VerifierConfig){
		"no issuer":                   func(c *token.VerifierConfig) { c.Issuer = "" },
		"an issuer with a control":    func(c *token.VerifierConfig) { c.Issuer += "\n" },
		"no algorithm":                func(c *token.VerifierConfig) { c.Algorithms = nil },
		"the algorithm none":          func(c *token.VerifierConfig) { c.Algorithms = []token.Algorithm{"none"} },
		"a symmetric algorithm":       func(c *token.VerifierConfig) { c.Algorithms = append(c.Algorithms, "HS256") },
		"an empty type":               func(c *token.VerifierConfig) { c.Types = []string{""} },
		"a negative skew":             func(c *token.VerifierConfig) { c.Skew = -1 },
		"a skew beyond its bound":     func(c *token.VerifierConfig) { c.Skew = token.MaxSkew + 1 },
		"no longest lifetime":         func(c *token.VerifierConfig) { c.MaxLifetime = 0 },
		"a negative longest lifetime": func(c *token.VerifierConfig) { c.MaxLifetime = -time.Minute },
		"no keys":                     func(c *token.VerifierConfig) { c.Keys = nil },
	} {
		c := config(t, key)
		change(&c)
		if v, err := token.NewVerifier(c); err == nil || v != nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestTypesAreTheConfigurations: a verifier of other tokens takes no access
// tokens, and the other way round (RFC 8725 §3.12).
func TestTypesAreTheConfigurations(t *testing.T) {
	f := newForger("ES256")
	c := config(t, f.key)
	c.Types = []string{"JWT"}
	id := verifierOf(t, c)
	if _, err := verify(id, f.good()); reasonOf(t, err) != token.ReasonType {
		t.Errorf("an access token: %v", err)
	}
	mustVerify(t, id, f.header(map[string]any{"typ": "JWT"}))
}

// TestNoKeysIsNoVerdict: without keys nothing is known of the token.
func TestNoKeysIsNoVerdict(t *testing.T) {
	f := newForger("ES256")
	c := config(t, f.key)
	c.Keys = func() *token.KeySet { return nil }
	v := verifierOf(t, c)
	if _, err := verify(v, f.good()); reasonOf(t, err) != token.ReasonKeysUnavailable {
		t.Errorf("without keys: %v", err)
	}
	c.Keys = func() *token.KeySet { return new(token.KeySet) }
	if _, err := verify(verifierOf(t, c), f.good()); reasonOf(t, err) != token.ReasonUnknownKey {
		t.Errorf("with an empty set: %v", err)
	}
}

// TestConfigurationIsCopied: what the caller does to its slices later changes
// nothing.
func TestConfigurationIsCopied(t *testing.T) {
	f := newForger("ES256")
	c := config(t, f.key)
	c.Types = []string{"JWT"}
	v := verifierOf(t, c)
	c.Types[0] = "at+jwt"
	if _, err := verify(v, f.good()); reasonOf(t, err) != token.ReasonType {
		t.Errorf("the types changed behind the verifier: %v", err)
	}
}

// TestAnEndedContextIsNoVerdict tells a caller's impatience from a bad token.
func TestAnEndedContextIsNoVerdict(t *testing.T) {
	f := newForger("ES256")
	u, err := token.Parse(f.good())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = newVerifier(t, f.key).Verify(ctx, u)
	if reasonOf(t, err) != token.ReasonCanceled || !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
}

// TestSignatureComesFirst: of a token that nobody signed only its header and
// its issuer are judged.
func TestSignatureComesFirst(t *testing.T) {
	f := newForger("ES256")
	other := tokentest.NewKey("ES256")
	for name, value := range map[string]any{"exp": 1, "nbf": testNow.Add(time.Hour).Unix(), "jti": nil, "cnf": 1, "client_id": "usr_x"} {
		forged := other.Sign(f.head, tokentest.With(f.body, map[string]any{name: value}))
		if _, err := verify(newVerifier(t, f.key), forged); reasonOf(t, err) != token.ReasonSignature {
			t.Errorf("forged with another %s: %v", name, err)
		}
	}
}

// TestErrorsKeepTokensToThemselves: what an operator reads has no part of a
// token that is secret or can break a log's line.
func TestErrorsKeepTokensToThemselves(t *testing.T) {
	f := newForger("ES256")
	v := newVerifier(t, f.key)
	secret := "s3cr3t-value"
	long := strings.Repeat("k", 250)
	for _, text := range []string{
		f.claim("sub", secret+"\n"), f.claim("scope", secret+"  x"), f.claim("roles", secret), f.claim("jti", secret+"\x00"),
		f.header(map[string]any{"kid": long}), f.header(map[string]any{"kid": "é\u202e"}), f.payload(`{"` + secret), secret,
		f.payload(`{"x":"` + secret), f.claim("exp", secret),
	} {
		_, err := verify(v, text)
		reasonOf(t, err)
		for _, part := range append(strings.Split(text, "."), secret, long) {
			if len(part) > 8 && strings.Contains(err.Error(), part) {
				t.Errorf("the error %q has a part of the token", err)
			}
		}
		for _, r := range err.Error() {
			if r < ' ' || r > '~' && r != '…' && r != '§' {
				t.Errorf("the error %q has the character %U", err, r)
			}
		}
	}
}

// TestReasonOf is empty for what is no refusal.
func TestReasonOf(t *testing.T) {
	if got := token.ReasonOf(errors.New("other")); got != "" {
		t.Errorf("a foreign error has the reason %q", got)
	}
	if got := token.ReasonOf(nil); got != "" {
		t.Errorf("no error has the reason %q", got)
	}
}

// TestRevision changes with whatever changes what is accepted, and with nothing
// else.
func TestRevision(t *testing.T) {
	key := tokentest.NewKey("ES256")
	base := verifierOf(t, config(t, key)).Revision()
	seen := map[string]string{base: "the base"}
	for name, change := range map[string]func(*token.VerifierConfig){
		"issuer":    func(c *token.VerifierConfig) { c.Issuer += "/x" },
		"algorithm": func(c *token.VerifierConfig) { c.Algorithms = c.Algorithms[1:] },
		"types":     func(c *token.VerifierConfig) { c.Types = []string{"at+jwt"} },
		"skew":      func(c *token.VerifierConfig) { c.Skew++ },
		"lifetime":  func(c *token.VerifierConfig) { c.MaxLifetime++ },
	} {
		c := config(t, key)
		change(&c)
		revision := verifierOf(t, c).Revision()
		if other, ok := seen[revision]; ok {
			t.Errorf("changing the %s gives the revision of %s", name, other)
		}
		seen[revision] = name
	}
	same := config(t, key)
	same.Algorithms[0], same.Algorithms[1] = same.Algorithms[1], same.Algorithms[0]
	same.Types = []string{"application/at+jwt", "at+jwt"}
	if got := verifierOf(t, same).Revision(); got != base {
		t.Error("the order of lists makes another revision")
	}
}
