package token_test

import (
	"testing"

	"gatehouse.dev/gatehouse/token"
	"gatehouse.dev/gatehouse/token/tokentest"
)

// Bound tokens are for those alone who say that they check the proof, and even
// then not where a member of cnf asks for one that nobody knows.
func TestBoundTokens(t *testing.T) {
	f := newForger("ES256")
	jkt, x5t := f.key.Thumbprint(), tokentest.NewKey("ES256").Thumbprint()
	bound := config(t, f.key)
	bound.Bound = true
	v, plain := verifierOf(t, bound), newVerifier(t, f.key)
	if v.Revision() == plain.Revision() {
		t.Error("claims that one verifier made would pass for the other's")
	}
	for name, row := range map[string]struct {
		cnf    any
		want   token.Confirmation
		reason token.Reason
	}{
		"RFC 9449 §6.1 jkt":                 {map[string]any{"jkt": jkt}, token.Confirmation{KeyThumbprint: jkt}, ""},
		"RFC 8705 §3.1 x5t#S256":            {map[string]any{"x5t#S256": x5t}, token.Confirmation{CertificateThumbprint: x5t}, ""},
		"both":                              {map[string]any{"jkt": jkt, "x5t#S256": x5t}, token.Confirmation{KeyThumbprint: jkt, CertificateThumbprint: x5t}, ""},
		"RFC 7800 §3.2 jwk":                 {map[string]any{"jwk": f.key.JWK()}, token.Confirmation{}, token.ReasonClaim},
		"RFC 7800 §3.1 jkt beside a jwk":    {map[string]any{"jkt": jkt, "jwk": f.key.JWK()}, token.Confirmation{}, token.ReasonClaim},
		"RFC 7800 §3.1 empty":               {map[string]any{}, token.Confirmation{}, token.ReasonClaim},
		"RFC 7800 §3.1 null":                {tokentest.Null, token.Confirmation{}, token.ReasonClaim},
		"RFC 7800 §3.1 a string":            {jkt, token.Confirmation{}, token.ReasonClaim},
		"RFC 9449 §6.1 jkt empty":           {map[string]any{"jkt": ""}, token.Confirmation{}, token.ReasonMalformed},
		"RFC 9449 §6.1 jkt of another hash": {map[string]any{"jkt": "AAAA"}, token.Confirmation{}, token.ReasonMalformed},
		"RFC 8705 §3.1 x5t#S256 padded":     {map[string]any{"x5t#S256": x5t + "="}, token.Confirmation{}, token.ReasonMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			compact := f.claim("cnf", row.cnf)
			if _, err := verify(plain, compact); err == nil {
				t.Error("accepted by a verifier that checks no proofs")
			}
			claims, err := verify(v, compact)
			if row.reason != "" {
				if got := reasonOf(t, err); got != row.reason {
					t.Errorf("refused as %q, want %q", got, row.reason)
				}
				return
			}
			if err != nil || claims.Confirmation() != row.want {
				t.Errorf("confirmation %+v, %v", claims.Confirmation(), err)
			}
		})
	}
	if c := mustVerify(t, v, f.good()).Confirmation(); !c.IsZero() {
		t.Errorf("an unbound token has the confirmation %+v", c)
	}
}
