package token

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/token/tokentest"
)

const fuzzIssuer, fuzzAudience = "https://issuer.example", "https://orders.example"

var fuzzNow = time.Unix(1_800_000_000, 0)

// FuzzParse: nothing panics; what parses has one spelling, so that encoding it
// again gives the same token; and the claims are what any JSON reader finds.
func FuzzParse(f *testing.F) {
	key := tokentest.NewKey("EdDSA")
	for _, body := range []string{
		marshalJSON(tokentest.UserClaims(fuzzIssuer, fuzzAudience, fuzzNow)),
		`{"iss":"a","aud":["b","c"],"x":{"y":[1,-0.5e-3,true,null,"\u00e9\ud83d\ude00"]}}`,
		`{"a":1,"\u0061":2}`, `{"exp":1e400}`, `{"x":"\ud800"}`, `{}`, ` { } `, `[]`, `{"scope":"a b"}`, `{"aud":[]}`,
		`{"derived_from":[{"jti":"j","client_id":"c","kid":"k","iat":1,"x":[]}],"subject_type":"client"}`,
	} {
		f.Add(key.SignRaw([]byte(marshalJSON(key.Header())), []byte(body)))
		f.Add(key.SignRaw([]byte(body), []byte(body)))
	}
	f.Add("..")
	f.Add("a.b.c.d.e")
	f.Fuzz(func(t *testing.T, text string) {
		u, err := Parse(text)
		if err != nil {
			if ReasonOf(err) == "" || u != nil {
				t.Fatalf("the refusal %v has no reason, or a token with it", err)
			}
			return
		}
		input := tokentest.Encode([]byte(u.compact.header)) + "." + tokentest.Encode([]byte(u.compact.payload))
		if u.signed != input || text != input+"."+tokentest.Encode(u.signature) {
			t.Fatalf("%q has another spelling: %q", text, input)
		}
		checkAgainstJSON(t, u)
	})
}

// checkAgainstJSON compares our reading with encoding/json's.
func checkAgainstJSON(t *testing.T, u *Unverified) {
	t.Helper()
	var head, body map[string]any
	if err := json.Unmarshal([]byte(u.compact.header), &head); err != nil {
		t.Fatalf("the header is JSON to us alone: %v", err)
	}
	if err := json.Unmarshal([]byte(u.compact.payload), &body); err != nil {
		t.Fatalf("the claims are JSON to us alone: %v", err)
	}
	for name, got := range map[string]string{"alg": string(u.head.alg), "kid": u.head.kid, "typ": u.head.typ} {
		if head[name] != got {
			t.Fatalf("%s is %q to us and %v to others", name, got, head[name])
		}
	}
	for name, got := range map[string]string{
		"iss": u.body.issuer, "sub": u.body.subject, "client_id": u.body.clientID, "jti": u.body.id,
		"scope": strings.Join(u.body.scopes, " "),
	} {
		if want, _ := body[name].(string); want != got {
			t.Fatalf("%s is %q to us and %q to others", name, got, want)
		}
	}
	for name, got := range map[string]date{"exp": u.body.expires, "iat": u.body.issued, "nbf": u.body.before} {
		want, given := body[name].(float64)
		if given != got.given || given && int64(want) != got.micros/1e6 && int64(want+1e-6) != got.micros/1e6 {
			t.Fatalf("%s is %v to us and %v to others", name, got, want)
		}
	}
}

// FuzzVerify: of all strings those verify that the key signed, byte for byte.
func FuzzVerify(f *testing.F) {
	key := tokentest.NewKey("ES256")
	ks, err := ParseKeySet(tokentest.JWKS(key), Algorithms())
	if err != nil {
		f.Fatal(err)
	}
	v, err := NewVerifier(VerifierConfig{
		Issuer: fuzzIssuer, Algorithms: Algorithms(), Skew: time.Second, MaxLifetime: time.Hour,
		Now: func() time.Time { return fuzzNow }, Keys: func() *KeySet { return ks },
	})
	if err != nil {
		f.Fatal(err)
	}
	good := key.Sign(key.Header(), tokentest.UserClaims(fuzzIssuer, fuzzAudience, fuzzNow))
	signed, _, _ := cutLast(good)
	f.Add(0, 0, []byte{})
	f.Add(10, 1, []byte("A"))
	f.Add(len(good)-5, 5, []byte("====="))
	f.Add(len(signed), 0, []byte("\n"))
	f.Add(len(good), 0, []byte("."))
	// A mutation replaces some of the token by other bytes: random strings would
	// never come near it.
	f.Fuzz(func(t *testing.T, at, cut int, put []byte) {
		at = clamp(at, len(good))
		cut = clamp(cut, len(good)-at)
		text := good[:at] + string(put) + good[at+cut:]
		u, err := Parse(text)
		if err != nil {
			return
		}
		claims, err := v.Verify(t.Context(), u)
		if err == nil && (u.signed != signed || text != good && u.signed+"."+tokentest.Encode(u.signature) != text) {
			t.Fatalf("%q verifies, and the issuer signed %q", text, signed)
		}
		if (err == nil) != (claims != nil) {
			t.Fatalf("claims %v with the error %v", claims, err)
		}
		if text == good && err != nil {
			t.Fatalf("the token itself is refused: %v", err)
		}
	})
}

// FuzzKeySet: nothing panics; every key that is taken can verify, under the kid
// that any JSON reader finds, and has no private part.
func FuzzKeySet(f *testing.F) {
	for _, alg := range Algorithms() {
		key := tokentest.NewKey(string(alg))
		f.Add(tokentest.JWKS(key))
		f.Add(tokentest.RawJWKS(tokentest.With(key.JWK(), map[string]any{"d": "AQAB"})))
		f.Add(tokentest.RawJWKS(tokentest.With(key.JWK(), map[string]any{"alg": nil, "key_ops": []string{"verify"}})))
	}
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AA","e":"AQAB","kid":"a"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA","kid":"a"}]}`))
	f.Fuzz(func(t *testing.T, jwks []byte) {
		ks, err := ParseKeySet(jwks, Algorithms())
		if err != nil {
			return
		}
		var set struct{ Keys []map[string]any }
		if err := json.Unmarshal(jwks, &set); err != nil {
			t.Fatalf("the set is JSON to us alone: %v", err)
		}
		for _, id := range ks.IDs() {
			key, _ := ks.Lookup(id)
			if key.ID() != id || len(key.Thumbprint()) != 43 || !supported(key.Algorithm()) {
				t.Fatalf("the key %q is %+v", id, key)
			}
			if key.verify("input", bytes.Repeat([]byte{1}, key.size)) == nil {
				t.Fatalf("the key %q verifies anything", id)
			}
			for _, jwk := range set.Keys {
				if jwk["kid"] == id && (jwk["d"] != nil || jwk["k"] != nil || jwk["use"] != nil && jwk["use"] != "sig") {
					t.Fatalf("the key %q should have been left out", id)
				}
			}
		}
	})
}

// FuzzScan: what we take for JSON is JSON, with the same meaning; what we
// refuse may be more.
func FuzzScan(f *testing.F) {
	for _, text := range []string{`{}`, `{"a":[1,2,{"b":"\n\u0041"}],"c":-1.5e3}`, `{"a":1,"a":2}`, "{\"\xff\":1}", `{"a":01}`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := map[string]any{}
		err := scanObject(text, func(s *scanner, name string) error {
			start := s.at
			err := s.skip()
			got[name] = strings.TrimSpace(s.in[start:s.at])
			return err
		})
		if err != nil {
			return
		}
		want := map[string]json.RawMessage{}
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Fatalf("%q is JSON to us alone: %v", text, err)
		}
		for name, raw := range want {
			if !reflect.DeepEqual(got[name], string(raw)) {
				t.Fatalf("%q is %q to us and %q to others", name, got[name], raw)
			}
		}
		if len(got) != len(want) {
			t.Fatalf("%d members to us, %d to others", len(got), len(want))
		}
	})
}

func marshalJSON(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(raw)
}

func cutLast(text string) (before, after string, found bool) {
	i := strings.LastIndexByte(text, '.')
	return text[:i], text[i+1:], i >= 0
}

func clamp(n, limit int) int { return max(0, min(n, limit)) }
