package token_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gatehouse.dev/gatehouse/token"
	"gatehouse.dev/gatehouse/token/tokentest"
)

// TestGoodTokens has what the specifications allow and a strict reader could
// come to refuse.
func TestGoodTokens(t *testing.T) {
	f := newForger("ES256")
	v := newVerifier(t, f.key)
	body := marshal(f.body)
	head := []byte(marshal(f.head))
	deep := strings.Repeat("[", 15) + strings.Repeat("]", 15)
	var members strings.Builder
	for i := range 128 - len(f.body) {
		fmt.Fprintf(&members, `"m%d":0,`, i)
	}
	for clause, text := range map[string]string{
		"RFC 7515 §4 an unknown header parameter":           f.header(map[string]any{"x-trace": map[string]any{"a": []int{1}}}),
		"RFC 7515 §4.1.7 x5t":                               f.header(map[string]any{"x5t": "abc", "x5t#S256": "def"}),
		"RFC 7515 §4 a parameter in another case":           f.header(map[string]any{"CRIT": []string{"x"}}),
		"RFC 9068 §4 typ application/at+jwt":                f.header(map[string]any{"typ": "application/at+jwt"}),
		"RFC 8259 §2 white space in the header":             f.key.SignRaw([]byte(" \t\r\n"+strings.ReplaceAll(string(head), ",", " ,\n")+"\n"), []byte(body)),
		"RFC 8259 §2 white space in the claims":             f.payload("\n" + strings.ReplaceAll(body, `":`, `" : `) + "\r\n"),
		"RFC 8259 §7 escapes in a value":                    f.payload(strings.Replace(body, "usr_anna", `\u0075sr_\u0061nna`, 1)),
		"RFC 8259 §7 escapes in a name":                     f.payload(strings.Replace(body, `"sub"`, `"s\u0075b"`, 1)),
		"RFC 8259 §7 every escape":                          f.bodyText(`"x":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00"`),
		"RFC 8259 §7 NUL escaped in a claim not read":       f.bodyText(`"x":"\u0000"`),
		"RFC 8259 §4 an empty name":                         f.bodyText(`"":1`),
		"RFC 8259 §4 names alike but for case":              f.bodyText(`"SUB":"usr_eve","Sub":1`),
		"RFC 8259 §4 the same name in two objects":          f.bodyText(`"x":{"a":1},"y":{"a":1,"b":{"a":1}},"a":1`),
		"RFC 8259 §9 as deep as is allowed":                 f.bodyText(`"x":` + deep),
		"RFC 8259 §9 as many members as are allowed":        f.payload("{" + members.String() + body[1:]),
		"RFC 8259 §9 objects and arrays side by side":       f.bodyText(`"x":[` + strings.Repeat("{},[],", 20) + `0],"y":{},"z":{}`),
		"RFC 8259 §6 numbers":                               f.bodyText(`"x":[0,-0,1.5,-1e10,1E-10,2e+3,123456789012345678]`),
		"RFC 8259 §3 literals":                              f.bodyText(`"x":[true,false,null,{},[]]`),
		"RFC 7519 §4.1.3 aud an array of one":               f.claim("aud", []string{testAudience}),
		"RFC 7519 §4.1.3 aud twice the same":                f.claim("aud", []string{testAudience, testAudience}),
		"RFC 7519 §4.1.2 a subject that is not ASCII":       f.claim("sub", "usr_ánna"),
		"RFC 9068 §2.2.3 no scope":                          f.claim("scope", nil),
		"RFC 6749 §3.3 every character of a scope":          f.claim("scope", "!#$%&'()*+,-./:;<=>?@[]^_`{|}~ A"),
		"RFC 9068 §2.2.3.1 no roles":                        f.claim("roles", nil),
		"RFC 9068 §2.2.3.1 roles empty":                     f.claim("roles", []string{}),
		"RFC 9068 §2.2.1 claims about the authentication":   f.claims(map[string]any{"acr": "1", "amr": []string{"pwd"}}),
		"RFC 7519 §4.1.5 nbf":                               f.claim("nbf", testNow.Unix()),
		"RFC 9068 §5 a subject of another issuer's making":  f.claim("sub", "anna@example.org"),
		"RFC 7519 §4 another's plan, a number":              f.claim("plan", 7),
		"RFC 7519 §4 another's plan, an object":             f.claim("plan", map[string]any{"id": "pro"}),
		"RFC 7519 §4 another's plan, a long text":           f.claim("plan", strings.Repeat("p", 64)),
		"RFC 7519 §4 a claim named like a header parameter": f.claims(map[string]any{"crit": []string{"x"}, "alg": "none", "jwk": 1}),
	} {
		t.Run(clause, func(t *testing.T) {
			claims, err := verify(v, text)
			if err != nil {
				t.Fatal(err)
			}
			if claims.SubjectType() != token.SubjectUser {
				t.Errorf("taken for a %s", claims.SubjectType())
			}
		})
	}
}

// TestEveryAlgorithm verifies a token by each.
func TestEveryAlgorithm(t *testing.T) {
	var keys []*tokentest.Key
	for _, alg := range token.Algorithms() {
		keys = append(keys, tokentest.NewKey(string(alg)))
	}
	v := newVerifier(t, keys...)
	for _, key := range keys {
		claims := mustVerify(t, v, key.Sign(key.Header(), tokentest.Claims(testIssuer, testAudience, testNow)))
		if claims.KeyID() != key.ID() {
			t.Errorf("%s: verified with the key %q, want %q", key.Algorithm(), claims.KeyID(), key.ID())
		}
	}
}

// TestClaims reads each claim back.
func TestClaims(t *testing.T) {
	f := newForger("ES256")
	v := newVerifier(t, f.key)
	body := tokentest.With(f.body, map[string]any{
		"aud": []string{"https://a.example", testAudience}, "roles": []string{"customer", "a, b"}, "jti": "t-1", "plan": "pro",
		"x": map[string]any{"big": json.Number("9007199254740993")},
	})
	c := mustVerify(t, v, f.key.Sign(f.head, body))
	got := map[string]any{
		"iss": c.Issuer(), "sub": c.Subject(), "type": c.SubjectType(), "client": c.ClientID(), "jti": c.ID(),
		"sid": c.SessionID(), "grant": c.GrantID(), "aud": c.Audience(), "scope": c.Scopes(), "roles": c.Roles(),
		"iat": c.IssuedAt(), "exp": c.ExpiresAt(), "kid": c.KeyID(), "plan": c.Plan(),
	}
	want := map[string]any{
		"iss": testIssuer, "sub": "usr_anna", "type": "user", "client": "web", "jti": "t-1",
		"sid": "ses_1", "grant": "grt_1", "aud": []string{"https://a.example", testAudience},
		"scope": []string{"read:orders", "write:orders"}, "roles": []string{"customer", "a, b"},
		"iat": testNow, "exp": testNow.Add(300e9), "kid": f.key.ID(), "plan": "pro",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	var raw map[string]any
	decoder := json.NewDecoder(strings.NewReader(marshal(body)))
	decoder.UseNumber()
	if err := decoder.Decode(&raw); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(raw, c.Raw()); diff != "" {
		t.Error(diff)
	}
}

// TestSubjectType tells a client that acts for itself from everybody else.
func TestSubjectType(t *testing.T) {
	f := newForger("ES256")
	v := newVerifier(t, f.key)
	for _, row := range []struct{ sub, client, want string }{
		{"svc-orders", "svc-orders", token.SubjectClient},
		{"usr_anna", "web", token.SubjectUser},
		{"svc-orders", "svc-order", token.SubjectUser},
		{"svc-orders", "SVC-ORDERS", token.SubjectUser},
	} {
		claims := mustVerify(t, v, f.claims(map[string]any{"sub": row.sub, "client_id": row.client}))
		if got := claims.SubjectType(); got != row.want {
			t.Errorf("sub %q with client_id %q is a %q, want %q", row.sub, row.client, got, row.want)
		}
	}
}

// TestZeroClaimsAllowNothing: whoever makes Claims without a Verifier gets
// claims that are expired, for nobody and from nobody.
func TestZeroClaimsAllowNothing(t *testing.T) {
	var c token.Claims
	if err := c.CheckTime(testNow, testSkew); reasonOf(t, err) != token.ReasonExpired {
		t.Errorf("they are in time: %v", err)
	}
	if c.Subject() != "" || c.SubjectType() != "" || c.Issuer() != "" || c.KeyID() != "" || c.HasAudience("") || c.HasAudience(testAudience) {
		t.Error("they name somebody")
	}
	if len(c.Raw()) != 0 || len(c.Scopes()) != 0 || !c.ExpiresAt().IsZero() {
		t.Error("they say something")
	}
	v := newVerifier(t, tokentest.NewKey("ES256"))
	if err := v.Recheck(&c); err == nil {
		t.Error("they are taken for verified")
	}
}
