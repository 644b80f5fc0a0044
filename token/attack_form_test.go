package token_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/token"
	"gatehouse.dev/gatehouse/token/tokentest"
)

// looseEnd changes the unused low bits of the last character, which decodes to
// the same bytes; the part's length must not be a multiple of four.
func looseEnd(part string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, part[len(part)-1])
	if len(part)%4 == 0 {
		panic("the part has no unused bits")
	}
	return part[:len(part)-1] + string(alphabet[last|1])
}

// standard spells the same bytes in the other base64 alphabet.
func standard(t *testing.T, part string) string {
	raw, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawStdEncoding.EncodeToString(raw)
}

func TestAttacksOnTheForm(t *testing.T) {
	f := newForger("ES256")
	// So that the alphabets differ, and so that there are unused bits.
	f.body["x"] = "~~~???>>>ÿÿÿ"
	for len(marshal(f.body))%3 != 1 {
		f.body["x"] = f.body["x"].(string) + "."
	}
	f.head["x"] = ""
	for len(marshal(f.head))%3 != 1 {
		f.head["x"] = f.head["x"].(string) + "."
	}
	h, p, s := f.parts()
	good := h + "." + p + "." + s
	resign := f.key.SignInput
	m := token.ReasonMalformed

	runAttacks(t, f, []attack{
		{"RFC 7515 §7.1 empty string", "", m},
		{"RFC 7515 §7.1 one part", h, m},
		{"RFC 7515 §7.1 two parts", h + "." + p, m},
		{"RFC 7515 §7.1 four parts", good + "." + s, m},
		{"RFC 7515 §7.1 a dot at the end", good + ".", m},
		{"RFC 7515 §7.1 a dot at the start", "." + good, m},
		{"RFC 7515 §7.1 dots alone", "..", m},
		{"RFC 7515 §7.1 empty header", "." + p + "." + s, m},
		{"RFC 7515 §7.1 empty payload", resign(h + "."), m},
		{"RFC 7515 appendix F detached payload", h + ".." + s, m},
		{"RFC 7516 §7.1 five parts of a JWE", h + "." + p + "." + s + "." + p + "." + s, m},
		{"RFC 7515 §7.2.1 JSON serialization, general", `{"payload":"` + p + `","signatures":[{"protected":"` + h + `","signature":"` + s + `"}]}`, m},
		{"RFC 7515 §7.2.2 JSON serialization, flattened", `{"payload":"` + p + `","protected":"` + h + `","signature":"` + s + `"}`, m},
		{"RFC 7519 §6 unsecured JWT", tokentest.Encode([]byte(`{"alg":"none"}`)) + "." + p + ".", m},
		{"RFC 7515 §2 space in front", " " + good, m},
		{"RFC 7515 §2 space behind", good + " ", m},
		{"RFC 7515 §2 line break behind", good + "\n", m},
		{"RFC 7515 §2 line break in the signature", h + "." + p + "." + s[:8] + "\n" + s[8:], m},
		{"RFC 7515 §2 CRLF in the payload", h + "." + p[:8] + "\r\n" + p[8:] + "." + s, m},
		{"RFC 7515 §2 line break in the header, signed so", resign(h[:8] + "\n" + h[8:] + "." + p), m},
		{"RFC 7515 §2 tab in the payload, signed so", resign(h + "." + p[:8] + "\t" + p[8:]), m},
		{"RFC 7515 §2 padding on the header, signed so", resign(h + "==." + p), m},
		{"RFC 7515 §2 padding on the payload, signed so", resign(h + "." + p + "=="), m},
		{"RFC 7515 §2 padding on the signature", good + "==", m},
		{"RFC 4648 §3.5 unused bits in the header, signed so", resign(looseEnd(h) + "." + p), m},
		{"RFC 4648 §3.5 unused bits in the payload, signed so", resign(h + "." + looseEnd(p)), m},
		{"RFC 4648 §3.5 unused bits in the signature", h + "." + p + "." + looseEnd(s), m},
		{"RFC 4648 §5 the other alphabet, signed so", resign(h + "." + standard(t, p)), m},
		{"RFC 4648 §4 a single character left over", h + "." + p + "." + s + "AAA", m},
		{"RFC 7515 §2 percent-encoded dot", h + "%2E" + p + "." + s, m},
		{"RFC 7515 §2 NUL behind", good + "\x00", m},
		{"RFC 7515 §2 BOM in front", "\ufeff" + good, m},
		{"RFC 7515 §2 full-width dots", strings.ReplaceAll(good, ".", "．"), m},
		{"RFC 6750 §2.1 the scheme left in front", "Bearer " + good, m},
		{"RFC 8725 §3.2 bound on the size", f.claim("x", strings.Repeat("x", token.MaxSize)), m},
	})
}

// TestSizeIsBoundedExactly keeps the bound where the documentation has it.
func TestSizeIsBoundedExactly(t *testing.T) {
	f := newForger("ES256")
	v := newVerifier(t, f.key)
	fill := func(n int) string { return f.claim("x", strings.Repeat("x", n)) }
	n := token.MaxSize*3/4 - len(marshal(f.body)) - len(marshal(f.head)) - 80
	for len(fill(n+1)) <= token.MaxSize {
		n++
	}
	mustVerify(t, v, fill(n))
	if _, err := verify(v, fill(n+3)); reasonOf(t, err) != token.ReasonMalformed {
		t.Errorf("a token of %d bytes: %v", len(fill(n+3)), err)
	}
}
