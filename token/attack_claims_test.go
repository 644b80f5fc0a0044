package token_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/token"
	"gatehouse.dev/gatehouse/token/tokentest"
)

// labelled are claims that must be bounded strings.
var labelled = map[string]string{
	"iss": "RFC 7519 §4.1.1", "sub": "RFC 7519 §4.1.2", "jti": "RFC 7519 §4.1.7",
	"client_id": "RFC 8693 §4.3", "sid": "OpenID Connect Front-Channel §3", "grant_id": "FAPI Grant Management §6",
}

// TestAttacksOnStringClaims puts into each what is no name of anything.
func TestAttacksOnStringClaims(t *testing.T) {
	f := newForger("ES256")
	var attacks []attack
	for name, clause := range labelled {
		for what, value := range map[string]any{
			"null": tokentest.Null, "empty": "", "a number": 1, "true": true, "an array": []string{f.body[name].(string)},
			"an object": map[string]string{"value": f.body[name].(string)}, "too long": strings.Repeat("x", 513),
			"with NUL": "a\x00b", "with a line break": "a\nb", "with CR": "a\rb", "with DEL": "a\x7fb",
			"with a C1 control": "a\u0085b", "with a line separator": "a\u2028b",
		} {
			attacks = append(attacks, attack{clause + " " + name + " " + what, f.claim(name, value), token.ReasonMalformed})
		}
	}
	runAttacks(t, f, attacks)
}

// TestAttacksOnRequiredClaims leaves out each that RFC 9068 §2.2 requires.
func TestAttacksOnRequiredClaims(t *testing.T) {
	f := newForger("ES256")
	var attacks []attack
	for _, name := range []string{"iss", "exp", "aud", "sub", "client_id", "iat", "jti"} {
		reason := token.ReasonClaim
		if name == "iss" {
			reason = token.ReasonIssuer
		}
		attacks = append(attacks,
			attack{"RFC 9068 §2.2 " + name + " missing", f.claim(name, nil), reason},
			attack{"RFC 7519 §4 " + name + " in upper case", f.claims(map[string]any{name: nil, strings.ToUpper(name): f.body[name]}), reason},
			attack{"RFC 7519 §4 " + name + " in an object", f.claims(map[string]any{name: nil, "claims": map[string]any{name: f.body[name]}}), reason},
		)
	}
	attacks = append(attacks, attack{"RFC 9068 §2.2 no claims at all", f.payload("{}"), token.ReasonIssuer})
	runAttacks(t, f, attacks)
}

func TestAttacksOnTheIssuer(t *testing.T) {
	f := newForger("ES256")
	iss := func(value string) string { return f.claim("iss", value) }
	runAttacks(t, f, []attack{
		{"RFC 8725 §3.8 another issuer", iss("https://attacker.example"), token.ReasonIssuer},
		{"RFC 8725 §3.8 a slash behind", iss(testIssuer + "/"), token.ReasonIssuer},
		{"RFC 8725 §3.8 a path behind", iss(testIssuer + "/tenant"), token.ReasonIssuer},
		{"RFC 8725 §3.8 a domain behind", iss(testIssuer + ".attacker.example"), token.ReasonIssuer},
		{"RFC 8725 §3.8 cut short", iss(testIssuer[:len(testIssuer)-1]), token.ReasonIssuer},
		{"RFC 8725 §3.8 http", iss("http" + strings.TrimPrefix(testIssuer, "https")), token.ReasonIssuer},
		{"RFC 8725 §3.8 upper case", iss(strings.ToUpper(testIssuer)), token.ReasonIssuer},
		{"RFC 8725 §3.8 the default port", iss(testIssuer + ":443"), token.ReasonIssuer},
		{"RFC 8725 §3.8 a user", iss("https://issuer.example@attacker.example"), token.ReasonIssuer},
		{"RFC 8725 §3.8 a fragment", iss(testIssuer + "#"), token.ReasonIssuer},
		{"RFC 8725 §3.8 white space behind", iss(testIssuer + " "), token.ReasonIssuer},
		{"RFC 8725 §3.8 a letter that looks the same", iss(strings.Replace(testIssuer, "i", "і", 1)), token.ReasonIssuer},
	})
}

func TestAttacksOnTheAudience(t *testing.T) {
	f := newForger("ES256")
	aud := func(value any) string { return f.claim("aud", value) }
	many := make([]string, 65)
	for i := range many {
		many[i] = testAudience
	}
	m := token.ReasonMalformed
	runAttacks(t, f, []attack{
		{"RFC 7519 §4.1.3 null", aud(tokentest.Null), m},
		{"RFC 7519 §4.1.3 empty string", aud(""), m},
		{"RFC 7519 §4.1.3 empty array", aud([]string{}), m},
		{"RFC 7519 §4.1.3 a number", aud(1), m},
		{"RFC 7519 §4.1.3 an object", aud(map[string]bool{testAudience: true}), m},
		{"RFC 7519 §4.1.3 an array with null", aud([]any{testAudience, nil}), m},
		{"RFC 7519 §4.1.3 an array with a number", aud([]any{testAudience, 1}), m},
		{"RFC 7519 §4.1.3 an array with an empty string", aud([]string{testAudience, ""}), m},
		{"RFC 7519 §4.1.3 an array in an array", aud([]any{[]string{testAudience}}), m},
		{"RFC 7519 §4.1.3 a control inside", aud([]string{testAudience, "a\nb"}), m},
		{"RFC 7519 §4.1.3 too many", aud(many), m},
		{"RFC 7519 §4.1.3 too long", aud(strings.Repeat("x", 513)), m},
	})
}

// TestAudienceIsComparedExactly is RFC 7519 §4.1.3 with §2: case-sensitive,
// whole strings.
func TestAudienceIsComparedExactly(t *testing.T) {
	f := newForger("ES256")
	v := newVerifier(t, f.key)
	single := mustVerify(t, v, f.good())
	several := mustVerify(t, v, f.claim("aud", []string{"https://a.example", testAudience}))
	for _, other := range []string{
		"", testAudience + "/", testAudience[:len(testAudience)-1], testAudience + "x", strings.ToUpper(testAudience),
		"http://orders.example", "orders.example", testAudience + " ", "https://a.example " + testAudience,
		"https://a.example," + testAudience, "*",
	} {
		if single.HasAudience(other) || several.HasAudience(other) {
			t.Errorf("a token for %q is taken for one for %q", testAudience, other)
		}
	}
	if !single.HasAudience(testAudience) || !several.HasAudience(testAudience) || !several.HasAudience("https://a.example") {
		t.Error("the token's own audience is not found")
	}
	spaced := mustVerify(t, v, f.claim("aud", "https://a.example "+testAudience))
	if spaced.HasAudience(testAudience) {
		t.Error("a list in one string is taken apart")
	}
}

func TestAttacksOnScopeAndRoles(t *testing.T) {
	f := newForger("ES256")
	scope := func(value any) string { return f.claim("scope", value) }
	roles := func(value any) string { return f.claim("roles", value) }
	many := make([]string, 65)
	for i := range many {
		many[i] = "s" + strings.Repeat("x", i)
	}
	m := token.ReasonMalformed
	runAttacks(t, f, []attack{
		{"RFC 8693 §4.2 scope an array", scope([]string{"read:orders"}), m},
		{"RFC 8693 §4.2 scope null", scope(tokentest.Null), m},
		{"RFC 8693 §4.2 scope a number", scope(1), m},
		{"RFC 8693 §4.2 scope an object", scope(map[string]bool{"read:orders": true}), m},
		{"RFC 6749 §3.3 scope empty", scope(""), m},
		{"RFC 6749 §3.3 a space alone", scope(" "), m},
		{"RFC 6749 §3.3 a space in front", scope(" read:orders"), m},
		{"RFC 6749 §3.3 a space behind", scope("read:orders "), m},
		{"RFC 6749 §3.3 two spaces", scope("read:orders  write:orders"), m},
		{"RFC 6749 §3.3 a tab", scope("read:orders\twrite:orders"), m},
		{"RFC 6749 §3.3 a line break", scope("read:orders\nwrite:orders"), m},
		{"RFC 6749 §3.3 a no-break space", scope("read:orders\u00a0write:orders"), m},
		{"RFC 6749 §3.3 a quotation mark", scope(`read:"orders"`), m},
		{"RFC 6749 §3.3 a backslash", scope(`read\orders`), m},
		{"RFC 6749 §3.3 DEL", scope("read\x7f"), m},
		{"RFC 6749 §3.3 not ASCII", scope("lesé:orders"), m},
		{"RFC 6749 §3.3 a scope twice", scope("read:orders read:orders"), m},
		{"RFC 6749 §3.3 too many", scope(strings.Join(many, " ")), m},
		{"RFC 9068 §2.2.3.1 roles a string", roles("approver"), m},
		{"RFC 9068 §2.2.3.1 roles null", roles(tokentest.Null), m},
		{"RFC 9068 §2.2.3.1 roles an object", roles(map[string]bool{"approver": true}), m},
		{"RFC 9068 §2.2.3.1 roles with a number", roles([]any{"approver", 1}), m},
		{"RFC 9068 §2.2.3.1 roles with null", roles([]any{nil}), m},
		{"RFC 9068 §2.2.3.1 roles with an empty string", roles([]string{""}), m},
		{"RFC 9068 §2.2.3.1 roles nested", roles([]any{[]string{"approver"}}), m},
		{"RFC 9068 §2.2.3.1 roles with a control", roles([]string{"a\r\nx-admin: 1"}), m},
		{"RFC 9068 §2.2.3.1 roles too many", roles(many), m},
		{"RFC 9068 §2.2.3.1 roles with one too long", roles([]string{strings.Repeat("x", 256)}), m},
	})
}

// TestAttacksOnDatesKinds is the grammar of NumericDate (RFC 7519 §2).
func TestAttacksOnDatesKinds(t *testing.T) {
	f := newForger("ES256")
	f.body["nbf"] = testNow.Unix()
	var attacks []attack
	for name, clause := range map[string]string{"exp": "RFC 7519 §4.1.4", "nbf": "RFC 7519 §4.1.5", "iat": "RFC 7519 §4.1.6", "auth_time": "RFC 9068 §2.2.1"} {
		for what, text := range map[string]string{
			"a string": `"1800000000"`, "null": "null", "true": "true", "an array": "[1800000000]", "an object": `{"$date":1}`,
			"an ISO date": `"2027-01-15T08:00:00Z"`, "beyond a double": "1e400", "NaN": "NaN", "Infinity": "Infinity",
			"negative": "-1", "negative zero": "-0", "milliseconds": "1800000000000", "2^63": "9223372036854775808",
			"2^64 and the time": "18446744075509551616", "a huge number": "1e300", "a leading zero": "01800000000",
			"hexadecimal": "0x6b49d200", "an underscore": "1_800_000_000", "a comma": "1800000000,5", "empty": `""`,
		} {
			attacks = append(attacks, attack{clause + " " + name + " " + what, f.claimText(name, text), token.ReasonMalformed})
		}
	}
	runAttacks(t, f, attacks)
}

func TestAttacksOnDates(t *testing.T) {
	f := newForger("ES256")
	at := func(d time.Duration) int64 { return testNow.Add(d).Unix() }
	dates := func(issued, expires time.Duration) string {
		return f.claims(map[string]any{"iat": at(issued), "exp": at(expires)})
	}
	runAttacks(t, f, []attack{
		{"RFC 7519 §4.1.4 expired", dates(-5*time.Minute, -time.Minute), token.ReasonExpired},
		{"RFC 7519 §4.1.4 expired by the skew exactly", dates(-5*time.Minute, -testSkew), token.ReasonExpired},
		{"RFC 7519 §4.1.4 exp zero", f.claims(map[string]any{"exp": 0, "iat": 0}), token.ReasonLifetime},
		{"RFC 7519 §4.1.4 expired long ago", f.claims(map[string]any{"exp": 300, "iat": 0}), token.ReasonExpired},
		{"RFC 7519 §4.1.6 issued in the future", dates(testSkew+time.Second, 5*time.Minute), token.ReasonNotYetValid},
		{"RFC 7519 §4.1.6 issued a fraction beyond the skew", f.claim("iat", float64(at(testSkew))+0.5), token.ReasonNotYetValid},
		{"RFC 7519 §4.1.6 issued in the year 9999", f.claims(map[string]any{"iat": 253402300000, "exp": 253402300299}), token.ReasonNotYetValid},
		{"RFC 7519 §4.1.5 not yet valid", f.claim("nbf", at(testSkew+time.Second)), token.ReasonNotYetValid},
		{"RFC 7519 §4.1.5 never valid", f.claim("nbf", f.body["exp"]), token.ReasonLifetime},
		{"RFC 9068 §2.2 expires when issued", dates(0, 0), token.ReasonLifetime},
		{"RFC 9068 §2.2 expires before it is issued", dates(time.Minute, 0), token.ReasonLifetime},
		{"RFC 8725 §3.11 lives longer than allowed", dates(0, testLifetime+time.Second), token.ReasonLifetime},
		{"RFC 8725 §3.11 lives a fraction longer than allowed", f.claims(map[string]any{"iat": at(0), "exp": float64(at(testLifetime)) + 0.25}), token.ReasonLifetime},
		{"RFC 8725 §3.11 lives to the year 9999", f.claim("exp", 253402300799), token.ReasonLifetime},
	})
}

// TestAttacksOnTheSubject keep people and clients apart (RFC 9068 §5).
func TestAttacksOnTheSubject(t *testing.T) {
	f := newForger("ES256")
	runAttacks(t, f, []attack{
		{"RFC 9068 §5 a client with a person's id", f.claims(map[string]any{"sub": "usr_anna", "client_id": "usr_anna"}), token.ReasonClaim},
		{"RFC 9068 §5 client_id a person's id", f.claim("client_id", "usr_eve"), token.ReasonClaim},
		{"RFC 7800 §3.1 bound by jwk", f.claim("cnf", map[string]any{"jwk": f.key.JWK()}), token.ReasonClaim},
		{"RFC 9449 §6.1 bound by DPoP", f.claim("cnf", map[string]any{"jkt": f.key.ID()}), token.ReasonClaim},
		{"RFC 8705 §3.1 bound by a certificate", f.claim("cnf", map[string]any{"x5t#S256": f.key.ID()}), token.ReasonClaim},
		{"RFC 7800 §3.1 cnf empty", f.claim("cnf", map[string]any{}), token.ReasonClaim},
		{"RFC 7800 §3.1 cnf null", f.claim("cnf", tokentest.Null), token.ReasonClaim},
	})
}

// TestDatesAtTheirBounds has tokens that are just right.
func TestDatesAtTheirBounds(t *testing.T) {
	f := newForger("ES256")
	v := newVerifier(t, f.key)
	at := func(d time.Duration) int64 { return testNow.Add(d).Unix() }
	for name, claims := range map[string]map[string]any{
		"expired within the skew":       {"iat": at(-5 * time.Minute), "exp": at(-testSkew + time.Second)},
		"issued within the skew":        {"iat": at(testSkew), "exp": at(5 * time.Minute)},
		"nbf within the skew":           {"nbf": at(testSkew)},
		"the longest lifetime":          {"iat": at(0), "exp": at(testLifetime)},
		"dates with a fraction":         {"iat": float64(at(0)) + 0.25, "exp": float64(at(time.Minute)) + 0.75},
		"dates with an exponent":        {"iat": float64(at(0)), "exp": math.Round(float64(at(time.Minute)))},
		"an nbf that has long been due": {"nbf": 0},
	} {
		if _, err := verify(v, f.claims(claims)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
