package token_test

import (
	"crypto/elliptic"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/token"
	"gatehouse.dev/gatehouse/token/tokentest"
)

// jwks are keys by the clause that forbids them.
type jwks map[string]map[string]any

// with is a key's JWK with one member changed; nil removes it.
func with(k *tokentest.Key, name string, value any) map[string]any {
	return tokentest.With(k.JWK(), map[string]any{name: value})
}

// runLeftOut puts each key beside a good one: it is left out with a note, and
// the good one works (RFC 7517 §5).
func runLeftOut(t *testing.T, keys jwks) {
	t.Helper()
	good := tokentest.NewKey("ES256")
	for clause, jwk := range keys {
		t.Run(clause, func(t *testing.T) {
			ks, err := token.ParseKeySet(tokentest.RawJWKS(jwk, good.JWK()), token.Algorithms())
			if err != nil {
				t.Fatalf("the set is refused for one key: %v", err)
			}
			if ks.Len() != 1 || len(ks.Notes()) != 1 {
				t.Fatalf("%d keys, notes %q; want the good one and a note", ks.Len(), ks.Notes())
			}
			if _, ok := ks.Lookup(good.ID()); !ok {
				t.Error("the good key is not there")
			}
			if _, err := token.ParseKeySet(tokentest.RawJWKS(jwk), token.Algorithms()); !errors.Is(err, token.ErrNoKeys) {
				t.Errorf("alone: %v, want ErrNoKeys", err)
			}
		})
	}
}

// TestKeysForOtherUses has keys that are not for verifying, or not for us.
func TestKeysForOtherUses(t *testing.T) {
	ec, rs, ed := tokentest.NewKey("ES256"), tokentest.NewKey("RS256"), tokentest.NewKey("EdDSA")
	runLeftOut(t, jwks{
		"RFC 7517 §4.1 kty missing":                        with(ec, "kty", nil),
		"RFC 7517 §4.1 kty unknown":                        with(ec, "kty", "AKP"),
		"RFC 7517 §4.1 kty in lower case":                  with(ec, "kty", "ec"),
		"RFC 7517 §4.1 kty a number":                       with(ec, "kty", 1),
		"RFC 7517 §4.1 kty of another kind":                with(ec, "kty", "RSA"),
		"RFC 7517 §4.2 use enc":                            with(ec, "use", "enc"),
		"RFC 7517 §4.2 use unknown":                        with(ec, "use", "SIG"),
		"RFC 7517 §4.2 use empty":                          with(ec, "use", ""),
		"RFC 7517 §4.3 key_ops sign alone":                 with(ec, "key_ops", []string{"sign"}),
		"RFC 7517 §4.3 key_ops empty":                      with(ec, "key_ops", []string{}),
		"RFC 7517 §4.3 key_ops twice the same":             with(ec, "key_ops", []string{"verify", "verify"}),
		"RFC 7517 §4.3 key_ops a string":                   with(ec, "key_ops", "verify"),
		"RFC 7517 §4.3 key_ops with a number":              with(ec, "key_ops", []any{"verify", 1}),
		"RFC 7517 §4.4 alg unknown":                        with(ec, "alg", "ES256K"),
		"RFC 7517 §4.4 alg of another curve":               with(ec, "alg", "ES384"),
		"RFC 7517 §4.4 alg of another kind":                with(ec, "alg", "RS256"),
		"RFC 7517 §4.4 alg symmetric":                      with(rs, "alg", "HS256"),
		"RFC 7517 §4.4 alg none":                           with(ec, "alg", "none"),
		"RFC 7517 §4.4 alg for encryption":                 with(rs, "alg", "RSA-OAEP"),
		"RFC 8725 §3.1 alg missing where two are possible": with(rs, "alg", nil),
		"RFC 7517 §4.5 kid missing":                        with(ec, "kid", nil),
		"RFC 7517 §4.5 kid empty":                          with(ec, "kid", ""),
		"RFC 7517 §4.5 kid a number":                       with(ec, "kid", 7),
		"RFC 7517 §4.5 kid with a control":                 with(ec, "kid", "a\nb"),
		"RFC 7517 §4.5 kid too long":                       with(ec, "kid", strings.Repeat("k", 257)),
		"RFC 7518 §6.4 a symmetric key":                    {"kty": "oct", "k": "c2VjcmV0", "kid": "s", "alg": "HS256"},
		"RFC 7518 §6.2.2 a private EC key":                 with(ec, "d", tokentest.Encode(make([]byte, 32))),
		"RFC 7518 §6.3.2 a private RSA key":                with(rs, "d", "AQAB"),
		"RFC 7518 §6.3.2 an RSA key's first prime":         with(rs, "p", "AQAB"),
		"RFC 7518 §6.3.2 an RSA key's other primes": with(rs, "oth", []map[string]string{
			{"r": "AQAB", "d": "AQAB", "t": "AQAB"}}),
		"RFC 8037 §2 a private Ed25519 key": with(ed, "d", tokentest.Encode(make([]byte, 32))),
	})
}

// TestECKeysLeftOut has points that are none (RFC 7518 §6.2).
func TestECKeysLeftOut(t *testing.T) {
	ec, p384 := tokentest.NewKey("ES256"), tokentest.NewKey("ES384")
	runLeftOut(t, jwks{
		"RFC 7518 §6.2.1.1 crv missing":                  with(ec, "crv", nil),
		"RFC 7518 §6.2.1.1 crv P-521":                    with(ec, "crv", "P-521"),
		"RFC 7518 §6.2.1.1 crv secp256k1":                with(ec, "crv", "secp256k1"),
		"RFC 7518 §6.2.1.1 crv another than the point's": tokentest.With(p384.JWK(), map[string]any{"crv": "P-256", "alg": "ES256"}),
		"RFC 7518 §6.2.1.2 x missing":                    with(ec, "x", nil),
		"RFC 7518 §6.2.1.2 x an octet short":             with(ec, "x", tokentest.Encode(make([]byte, 31))),
		"RFC 7518 §6.2.1.2 x an octet long":              with(ec, "x", tokentest.Encode(append([]byte{0}, coordinate(t, ec, "x")...))),
		"RFC 7518 §6.2.1.2 x padded":                     with(ec, "x", ec.JWK()["x"].(string)+"="),
		"RFC 7518 §6.2.1.2 x with unused bits":           with(ec, "x", looseEnd(ec.JWK()["x"].(string))),
		"RFC 7518 §6.2.1.2 x a number":                   with(ec, "x", 5),
		"RFC 7518 §6.2.1.3 y missing":                    with(ec, "y", nil),
		"RFC 8725 §3.4 a point beside the curve":         with(ec, "y", ec.JWK()["x"]),
		"RFC 8725 §3.4 the point (0, 0)":                 tokentest.With(ec.JWK(), map[string]any{"x": zeros(32), "y": zeros(32)}),
		"RFC 8725 §3.4 x beyond the field": with(ec, "x", tokentest.Encode(
			elliptic.P256().Params().P.Bytes())),
	})
}

// TestOtherKeysLeftOut has RSA and Ed25519 keys that are too weak, too costly or
// misspelled (RFC 7518 §6.3, RFC 8037 §2).
func TestOtherKeysLeftOut(t *testing.T) {
	rs, ed, weak := tokentest.NewKey("RS256"), tokentest.NewKey("EdDSA"), smallRSA(t, 1024)
	runLeftOut(t, jwks{
		"RFC 7518 §6.3.1.1 n missing":          with(rs, "n", nil),
		"RFC 7518 §6.3.1.1 n empty":            with(rs, "n", ""),
		"RFC 7518 §2 n with a leading zero":    with(rs, "n", tokentest.Encode(append([]byte{0}, coordinate(t, rs, "n")...))),
		"RFC 7518 §6.3.1.1 n padded":           with(rs, "n", rs.JWK()["n"].(string)+"=="),
		"RFC 7518 §3.3 n of 1024 bits":         with(rs, "n", tokentest.Encode(weak.Bytes())),
		"RFC 7518 §3.3 n of 2047 bits":         with(rs, "n", tokentest.Encode(odd(2047))),
		"RFC 8725 §3.4 n of 4097 bits":         with(rs, "n", tokentest.Encode(odd(4097))),
		"RFC 8725 §3.4 n of 16384 bits":        with(rs, "n", tokentest.Encode(odd(16384))),
		"RFC 8017 §3.1 n even":                 with(rs, "n", tokentest.Encode(new(big.Int).Lsh(big.NewInt(1), 2047).Bytes())),
		"RFC 7518 §6.3.1.2 e missing":          with(rs, "e", nil),
		"RFC 8017 §3.1 e = 1":                  with(rs, "e", "AQ"),
		"RFC 8017 §3.1 e = 2":                  with(rs, "e", "Ag"),
		"RFC 8017 §3.1 e even":                 with(rs, "e", "AQAA"),
		"RFC 8017 §3.1 e beyond 31 bits":       with(rs, "e", tokentest.Encode([]byte{1, 0, 0, 0, 1})),
		"RFC 8017 §3.1 e as long as n":         with(rs, "e", rs.JWK()["n"]),
		"RFC 7518 §2 e with a leading zero":    with(rs, "e", "AAEAAQ"),
		"RFC 7518 §6.3.1.2 e a number":         with(rs, "e", 65537),
		"RFC 8037 §2 crv Ed448":                with(ed, "crv", "Ed448"),
		"RFC 8037 §3.2 crv X25519":             with(ed, "crv", "X25519"),
		"RFC 8037 §2 x missing":                with(ed, "x", nil),
		"RFC 8037 §2 x an octet short":         with(ed, "x", zeros(31)),
		"RFC 8037 §2 x a point of small order": with(ed, "x", zeros(32)),
		"RFC 8037 §2 a y":                      with(ed, "y", zeros(32)),
	})
}

// TestKeySetsRefused has sets of which nothing may be used.
func TestKeySetsRefused(t *testing.T) {
	a, b := tokentest.NewKey("ES256"), tokentest.NewKey("ES256")
	rs := tokentest.NewKey("RS256")
	good := string(tokentest.JWKS(a))
	if _, err := token.ParseKeySet([]byte(good), token.Algorithms()); err != nil {
		t.Fatal(err)
	}
	many := []map[string]any{a.JWK()}
	for i := range 99 {
		many = append(many, tokentest.With(b.JWK(), map[string]any{"use": "enc", "kid": fmt.Sprint("k", i)}))
	}
	if _, err := token.ParseKeySet(tokentest.RawJWKS(many...), token.Algorithms()); err != nil {
		t.Fatalf("as many keys as are allowed: %v", err)
	}
	many = append(many, tokentest.With(b.JWK(), map[string]any{"use": "enc"}))
	enc := tokentest.With(b.JWK(), map[string]any{"use": "enc", "kid": a.ID()})
	for clause, jwks := range map[string]string{
		"RFC 7517 §4.5 a kid twice":                    string(tokentest.JWKS(a, b.WithID(a.ID()))),
		"RFC 7517 §4.5 a kid twice, of two kinds":      string(tokentest.JWKS(a, rs.WithID(a.ID()))),
		"RFC 7517 §4.5 a kid twice, once left out":     string(tokentest.RawJWKS(enc, a.JWK())),
		"RFC 7517 §4.5 a kid twice, then left out":     string(tokentest.RawJWKS(a.JWK(), enc)),
		"RFC 8725 §3.1 a key for two algorithms":       string(tokentest.JWKS(rs, rs.WithAlgorithm("PS256").WithID("other"))),
		"RFC 7517 §4.5 a key under two kids":           string(tokentest.JWKS(a, a.WithID("other"))),
		"RFC 7517 §5.1 no keys":                        `{"keys":[]}`,
		"RFC 7517 §5.1 keys missing":                   `{}`,
		"RFC 7517 §5.1 keys null":                      `{"keys":null}`,
		"RFC 7517 §5.1 keys an object":                 `{"keys":{}}`,
		"RFC 7517 §5.1 a key that is no object":        `{"keys":["key"]}`,
		"RFC 7517 §5.1 a key alone":                    marshal(a.JWK()),
		"RFC 7517 §5.1 KEYS":                           strings.Replace(good, "keys", "KEYS", 1),
		"RFC 7517 §5 duplicate keys":                   `{"keys":[],` + good[1:],
		"RFC 7517 §4 duplicate member of a key":        strings.Replace(good, `"kty":`, `"kty":"EC","kty":`, 1),
		"RFC 7517 §4 duplicate member of a key by \\u": strings.Replace(good, `"kid":`, `"k\u0069d":"x","kid":`, 1),
		"RFC 8259 §2 something behind":                 good + "x",
		"RFC 8259 §8.1 BOM":                            "\ufeff" + good,
		"RFC 8259 §8.1 not UTF-8":                      strings.Replace(good, `"kid":"`, `"kid":"`+"\xff", 1),
		"RFC 8259 §9 nested deep":                      `{"keys":[` + strings.Repeat("[", 1000),
		"RFC 8259 §9 too many keys":                    string(tokentest.RawJWKS(many...)),
		"RFC 8259 §9 too many values":                  `{"x":[` + strings.Repeat("0,", 5000) + "0]," + good[1:],
		"RFC 8259 §9 too large":                        good + strings.Repeat(" ", token.MaxKeySetSize),
		"an empty answer":                              "",
		"a page":                                       "<html></html>",
	} {
		t.Run(clause, func(t *testing.T) {
			ks, err := token.ParseKeySet([]byte(jwks), token.Algorithms())
			if err == nil || ks != nil {
				t.Fatalf("accepted, with %v", ks.IDs())
			}
			// Only a set that is one can say that there are no keys.
			if want := clause == "RFC 7517 §5.1 no keys"; errors.Is(err, token.ErrNoKeys) != want {
				t.Errorf("%v, which is ErrNoKeys: %v", err, want)
			}
		})
	}
}

// TestKeysOfAlgorithmsNotAllowed leaves out what the issuer may not sign with.
func TestKeysOfAlgorithmsNotAllowed(t *testing.T) {
	es, rs := tokentest.NewKey("ES256"), tokentest.NewKey("RS256")
	ks, err := token.ParseKeySet(tokentest.JWKS(es, rs), []token.Algorithm{token.ES256})
	if err != nil {
		t.Fatal(err)
	}
	if got := ks.IDs(); len(got) != 1 || got[0] != es.ID() {
		t.Errorf("keys %q, want the ES256 one alone", got)
	}
	for _, algs := range [][]token.Algorithm{nil, {}, {"none"}, {"HS256"}, {token.ES256, ""}} {
		if _, err := token.ParseKeySet(tokentest.JWKS(es), algs); err == nil {
			t.Errorf("the algorithms %q are taken", algs)
		}
	}
}

// TestAlgorithmOfAKeyWithoutOne: RFC 7517 §4.4 makes alg optional. It is taken
// from the kind of key where that leaves one.
func TestAlgorithmOfAKeyWithoutOne(t *testing.T) {
	for alg, allowed := range map[string][]token.Algorithm{
		"ES256": token.Algorithms(), "ES384": token.Algorithms(), "EdDSA": token.Algorithms(),
		"RS256": {token.RS256, token.ES256}, "PS256": {token.PS256},
	} {
		k := tokentest.NewKey(alg)
		jwk := tokentest.With(k.JWK(), map[string]any{"alg": nil, "use": nil})
		ks, err := token.ParseKeySet(tokentest.RawJWKS(jwk), allowed)
		if err != nil {
			t.Errorf("%s: %v", alg, err)
			continue
		}
		if got, _ := ks.Lookup(k.ID()); string(got.Algorithm()) != alg {
			t.Errorf("%s: taken for %s", alg, got.Algorithm())
		}
	}
}

// TestThumbprints are the examples of RFC 7638 §3.1 and RFC 8037 appendix A.3.
func TestThumbprints(t *testing.T) {
	jwks := `{"keys":[
		{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"},
		{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"ed"}]}`
	ks, err := token.ParseKeySet([]byte(jwks), token.Algorithms())
	if err != nil {
		t.Fatal(err)
	}
	for kid, want := range map[string]string{
		"2011-04-29": "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
		"ed":         "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
	} {
		if k, ok := ks.Lookup(kid); !ok || k.Thumbprint() != want {
			t.Errorf("the thumbprint of %s is %v, want %s; notes %q", kid, k, want, ks.Notes())
		}
	}
	for _, alg := range token.Algorithms() {
		k := tokentest.NewKey(string(alg))
		if got, _ := keySet(t, k).Lookup(k.ID()); got.Thumbprint() != k.ID() {
			t.Errorf("%s: thumbprint %s, want %s", alg, got.Thumbprint(), k.ID())
		}
	}
}
