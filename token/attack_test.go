package token_test

import (
	"encoding/json"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/token"
	"gatehouse.dev/gatehouse/token/tokentest"
)

// attack is a token that differs from a good one in what its clause forbids;
// everything else, the signature included, is right.
type attack struct {
	clause string
	token  string
	reason token.Reason
}

// forger makes tokens that are wrong in one way.
type forger struct {
	key  *tokentest.Key
	head map[string]any
	body map[string]any
}

func newForger(alg string) forger {
	key := tokentest.NewKey(alg)
	return forger{key: key, head: key.Header(), body: tokentest.UserClaims(testIssuer, testAudience, testNow)}
}

func (f forger) good() string { return f.key.Sign(f.head, f.body) }

// header changes members of the header; nil removes.
func (f forger) header(members map[string]any) string {
	return f.key.Sign(tokentest.With(f.head, members), f.body)
}

// claims changes claims; nil removes.
func (f forger) claims(members map[string]any) string {
	return f.key.Sign(f.head, tokentest.With(f.body, members))
}

// claim changes one claim.
func (f forger) claim(name string, value any) string {
	return f.claims(map[string]any{name: value})
}

// claimText gives one claim a JSON text that encoding/json would not write.
func (f forger) claimText(name, text string) string {
	return f.payload(withText(tokentest.With(f.body, map[string]any{name: nil}), `"`+name+`":`+text))
}

// headText puts a JSON text in front of the header's members.
func (f forger) headText(text string) string {
	return f.key.SignRaw([]byte(withText(f.head, text)), []byte(marshal(f.body)))
}

// bodyText puts a JSON text in front of the claims.
func (f forger) bodyText(text string) string { return f.payload(withText(f.body, text)) }

// payload signs any bytes as the claims set.
func (f forger) payload(text string) string {
	return f.key.SignRaw([]byte(marshal(f.head)), []byte(text))
}

// parts are the three of a good token.
func (f forger) parts() (header, payload, signature string) {
	parts := strings.Split(f.good(), ".")
	return parts[0], parts[1], parts[2]
}

// signed puts a signature under the good signing input.
func (f forger) signed(change func(signature []byte) []byte) string {
	header, payload, _ := f.parts()
	input := header + "." + payload
	return input + "." + tokentest.Encode(change(f.key.Signature([]byte(input))))
}

func marshal(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(raw)
}

// withText is an object's JSON with a text in front of its members.
func withText(m map[string]any, text string) string {
	return "{" + text + "," + strings.TrimPrefix(marshal(m), "{")
}

// runAttacks has each token refused for its reason, and the good one accepted:
// otherwise the refusals would prove nothing.
func runAttacks(t *testing.T, f forger, attacks []attack) {
	t.Helper()
	v := newVerifier(t, f.key)
	mustVerify(t, v, f.good())
	seen := map[string]bool{}
	for _, a := range attacks {
		if seen[a.clause] {
			t.Errorf("two rows are called %q", a.clause)
		}
		seen[a.clause] = true
		t.Run(a.clause, func(t *testing.T) {
			claims, err := verify(v, a.token)
			if err == nil || claims != nil {
				t.Fatalf("accepted: %+v", claims)
			}
			if got := reasonOf(t, err); got != a.reason {
				t.Errorf("refused as %q (%v), want %q", got, err, a.reason)
			}
		})
	}
}
