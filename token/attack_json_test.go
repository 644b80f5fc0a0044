package token_test

import (
	"fmt"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/token"
)

// TestAttacksByDuplicateMembers has objects that two readers read in two ways.
func TestAttacksByDuplicateMembers(t *testing.T) {
	f := newForger("ES256")
	m := token.ReasonMalformed
	runAttacks(t, f, []attack{
		{"RFC 7515 §4 duplicate header member, equal", f.headText(`"alg":"ES256"`), m},
		{"RFC 7515 §4 duplicate header member, another value", f.headText(`"alg":"none"`), token.ReasonAlgorithm},
		{"RFC 7515 §4 duplicate kid", f.headText(`"kid":"other"`), m},
		{"RFC 7515 §4 duplicate by an escaped name", f.headText(`"\u0061lg":"ES256"`), m},
		{"RFC 7515 §4 duplicate of a member not read", f.headText(`"x":1,"x":1`), m},
		{"RFC 7519 §4 duplicate claim, equal", f.bodyText(`"iss":"` + testIssuer + `"`), m},
		{"RFC 7519 §4 duplicate claim, another value", f.bodyText(`"sub":"usr_root"`), m},
		{"RFC 7519 §4 duplicate exp", f.bodyText(`"exp":9999999999`), m},
		{"RFC 7519 §4 duplicate by an escaped name, \\u", f.bodyText(`"\u0073ub":"usr_root"`), m},
		{"RFC 7519 §4 duplicate by an escaped name, upper-case hex", f.bodyText(`"sc\u006Fpe":"admin"`), m},
		{"RFC 7519 §4 duplicate by an escaped solidus", f.bodyText(`"a/b":1,"a\/b":2`), m},
		{"RFC 7519 §4 duplicate in a nested object", f.bodyText(`"x":{"a":1,"a":2}`), m},
		{"RFC 7519 §4 duplicate deep inside arrays", f.bodyText(`"x":[[{"y":[{"a":1,"\u0061":2}]}]]`), m},
		{"RFC 7519 §4 duplicate of an empty name", f.bodyText(`"":1,"":2`), m},
	})
}

// TestAttacksOnTheGrammar has what lenient readers take for JSON.
func TestAttacksOnTheGrammar(t *testing.T) {
	f := newForger("ES256")
	m := token.ReasonMalformed
	body := marshal(f.body)
	runAttacks(t, f, []attack{
		{"RFC 8259 §2 something after the object", f.payload(body + "{}"), m},
		{"RFC 8259 §2 a comma after the object", f.payload(body + ","), m},
		{"RFC 8259 §2 NUL after the object", f.payload(body + "\x00"), m},
		{"RFC 8259 §2 form feed as white space", f.payload("\f" + body), m},
		{"RFC 8259 §2 no-break space as white space", f.payload("\u00a0" + body), m},
		{"RFC 8259 §4 a comma before the end", f.payload(strings.TrimSuffix(body, "}") + ",}"), m},
		{"RFC 8259 §4 a comma in front", f.payload("{," + body[1:]), m},
		{"RFC 8259 §4 no colon", f.bodyText(`"x" 1`), m},
		{"RFC 8259 §4 a name without quotes", f.bodyText(`x:1`), m},
		{"RFC 8259 §4 no value", f.bodyText(`"x":`), m},
		{"RFC 8259 §4 cut off", f.payload(body[:len(body)-1]), m},
		{"RFC 8259 §4 object closed as an array", f.bodyText(`"x":{"a":1]`), m},
		{"RFC 8259 §5 array closed as an object", f.bodyText(`"x":[1}`), m},
		{"RFC 8259 §5 a comma before an array's end", f.bodyText(`"x":[1,]`), m},
		{"RFC 8259 §2 a comment", f.payload("{/**/" + body[1:]), m},
		{"RFC 8259 §3 True", f.bodyText(`"x":True`), m},
		{"RFC 8259 §3 NaN", f.bodyText(`"x":NaN`), m},
		{"RFC 8259 §3 Infinity", f.bodyText(`"x":-Infinity`), m},
		{"RFC 8259 §3 a literal cut off", f.payload(`{"x":tru`), m},
		{"RFC 8259 §6 a leading zero", f.bodyText(`"x":01`), m},
		{"RFC 8259 §6 a plus sign", f.bodyText(`"x":+1`), m},
		{"RFC 8259 §6 a point in front", f.bodyText(`"x":.5`), m},
		{"RFC 8259 §6 a point behind", f.bodyText(`"x":1.`), m},
		{"RFC 8259 §6 hexadecimal", f.bodyText(`"x":0x10`), m},
		{"RFC 8259 §6 an exponent without digits", f.bodyText(`"x":1e+`), m},
		{"RFC 8259 §6 a minus sign alone", f.bodyText(`"x":-`), m},
		{"RFC 7493 §2.2 a number beyond a double", f.bodyText(`"x":1e400`), m},
		{"RFC 7493 §2.2 a number lost to zero", f.bodyText(`"x":1e-400`), m},
		{"RFC 7493 §2.2 zero with a huge exponent", f.bodyText(`"x":0e999999999`), m},
		{"RFC 7493 §2.2 an integer of a thousand digits", f.bodyText(`"x":` + strings.Repeat("9", 1000)), m},
		{"RFC 7493 §2.2 more digits than a double has", f.bodyText(`"x":0.` + strings.Repeat("1", 50)), m},
	})
}

// TestAttacksOnText has strings that are no Unicode text, or end where others go on.
func TestAttacksOnText(t *testing.T) {
	f := newForger("ES256")
	m := token.ReasonMalformed
	body := marshal(f.body)
	runAttacks(t, f, []attack{
		{"RFC 8259 §8.1 BOM in front", f.payload("\ufeff" + body), m},
		{"RFC 8259 §7 an unknown escape", f.bodyText(`"x":"\x41"`), m},
		{"RFC 8259 §7 an escape cut off", f.bodyText(`"x":"\u00"`), m},
		{"RFC 8259 §7 an escape with a sign", f.bodyText(`"x":"\u+123"`), m},
		{"RFC 8259 §7 a line break in a string", f.bodyText("\"x\":\"a\nb\""), m},
		{"RFC 8259 §7 NUL in a string", f.bodyText("\"x\":\"a\x00b\""), m},
		{"RFC 8259 §7 a control after an escape", f.bodyText("\"x\":\"\\t\x01\""), m},
		{"RFC 8259 §7 quotes that are not closed", f.payload(`{"x":"abc`), m},
		{"RFC 8259 §7 a backslash at the end", f.payload(`{"x":"abc\`), m},
		{"RFC 8259 §7 single quotes", f.bodyText(`'x':1`), m},
		{"RFC 7493 §2.1 a lone high surrogate", f.bodyText(`"x":"\ud800"`), m},
		{"RFC 7493 §2.1 a lone low surrogate", f.bodyText(`"x":"\udc00"`), m},
		{"RFC 7493 §2.1 surrogates in the wrong order", f.bodyText(`"x":"\udc00\ud800"`), m},
		{"RFC 7493 §2.1 a high surrogate and a letter", f.bodyText(`"x":"\ud800\u0041"`), m},
		{"RFC 7493 §2.1 a high surrogate and what only looks like a low one", f.bodyText(`"x":"\ud800xxdc00"`), m},
		{"RFC 7493 §2.1 a lone surrogate in a name", f.bodyText(`"\ud800":1`), m},
		{"RFC 8259 §8.1 invalid UTF-8 in a value", f.bodyText("\"x\":\"\xff\""), m},
		{"RFC 8259 §8.1 invalid UTF-8 in a name", f.bodyText("\"\xc3\x28\":1"), m},
		{"RFC 3629 §3 an overlong encoding", f.bodyText("\"x\":\"\xc0\xaf\""), m},
		{"RFC 3629 §3 an encoded surrogate", f.bodyText("\"x\":\"\xed\xa0\x80\""), m},
		{"RFC 8259 §8.1 UTF-16", f.payload(utf16(body)), m},
	})
}

// TestAttacksOnTheReadersPatience has what costs more to read than to write.
func TestAttacksOnTheReadersPatience(t *testing.T) {
	f := newForger("ES256")
	m := token.ReasonMalformed
	deep := func(open, inner, end string, n int) string {
		return strings.Repeat(open, n) + inner + strings.Repeat(end, n)
	}
	var members strings.Builder
	for i := range 128 {
		fmt.Fprintf(&members, `"m%d":0,`, i)
	}
	runAttacks(t, f, []attack{
		{"RFC 8259 §9 arrays nested deep", f.bodyText(`"x":` + deep("[", "", "]", 1000)), m},
		{"RFC 8259 §9 objects nested deep", f.bodyText(`"x":` + deep(`{"x":`, "1", "}", 500)), m},
		{"RFC 8259 §9 arrays opened and never closed", f.payload(`{"x":` + strings.Repeat("[", 5000)), m},
		{"RFC 8259 §9 one level too deep", f.bodyText(`"x":` + deep("[", "", "]", 16)), m},
		{"RFC 8259 §9 too many members", f.payload("{" + members.String() + `"m":0}`), m},
	})
}

// TestAttacksOnWhatIsInside has headers and payloads that are no objects.
func TestAttacksOnWhatIsInside(t *testing.T) {
	f := newForger("ES256")
	m := token.ReasonMalformed
	body := marshal(f.body)
	runAttacks(t, f, []attack{
		{"RFC 7519 §7.2 the payload is an array", f.payload("[" + body + "]"), m},
		{"RFC 7519 §7.2 the payload is a string", f.payload(`"` + testIssuer + `"`), m},
		{"RFC 7519 §7.2 the payload is null", f.payload("null"), m},
		{"RFC 7519 §7.2 the payload is white space", f.payload(" "), m},
		{"RFC 7519 §5.2 the payload is a token", f.payload(f.good()), m},
		{"RFC 7515 §5.2 the header is an array", f.key.SignRaw([]byte("["+marshal(f.head)+"]"), []byte(body)), m},
		{"RFC 7515 §5.2 the header is null", f.key.SignRaw([]byte("null"), []byte(body)), m},
		{"RFC 7515 §5.2 the header has something after it", f.key.SignRaw([]byte(marshal(f.head)+" 0"), []byte(body)), m},
		{"RFC 7515 §5.2 the header is not UTF-8", f.headText("\"x\":\"\xfe\""), m},
		{"RFC 7515 §5.2 the header has a BOM", f.key.SignRaw([]byte("\ufeff"+marshal(f.head)), []byte(body)), m},
	})
}

func utf16(text string) string {
	var out strings.Builder
	for _, r := range text {
		out.WriteByte(0)
		out.WriteByte(byte(r))
	}
	return out.String()
}
