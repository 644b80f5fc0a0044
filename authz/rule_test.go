package authz

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/internal/conf"
	rulev1 "gatehouse.dev/gatehouse/proto/gatehouse/rule/v1"
)

func newTestRules(t testing.TB, signers ...ruleSigner) *rules {
	t.Helper()
	var files []conf.Path
	for _, s := range signers {
		files = append(files, s.file)
	}
	r, err := newRules(files, testDomain)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRuleOfEitherKey(t *testing.T) {
	old, next := newRuleSigner(t), newRuleSigner(t)
	rules := newTestRules(t, old, next)
	for name, signer := range map[string]ruleSigner{"first": old, "second": next} {
		r, err := rules.verify(signer.sign(t, ordersRule()))
		if err != nil {
			t.Fatalf("%s key: %v", name, err)
		}
		if r.route != "orders-list" || r.service != "orders" || r.maxAge != 10*time.Minute || !r.admits(testNode) || r.admits(testNode+"/x") {
			t.Errorf("%s key: read %+v", name, r)
		}
	}
}

// ruleAttacks are encodings that a signature alone does not save, or that have
// none; each names the reason in the words of the error.
func ruleAttacks(t *testing.T, signer ruleSigner) map[string]struct{ encoded, want string } {
	t.Helper()
	edited := func(edit func(*rulev1.Rule)) string {
		r := ordersRule()
		edit(r)
		return signer.sign(t, r)
	}
	inbound := func(edit func(*rulev1.Rule)) string {
		r := inboundRule(testOrders)
		edit(r)
		return signer.sign(t, r)
	}
	outbound := func(edit func(*rulev1.Rule)) string {
		r := outboundRule(testOrders, testProfile)
		edit(r)
		return signer.sign(t, r)
	}
	good := signer.sign(t, ordersRule())
	raw, _ := base64.RawURLEncoding.DecodeString(good)
	bytesOf := marshal(t, ordersRule())
	unknown := protowire.AppendVarint(protowire.AppendTag(nil, 100, protowire.VarintType), 1)
	withSignature := func(message []byte) string {
		return encodeRule(t, &rulev1.SignedRule{Rule: bytesOf, Signature: ed25519.Sign(signer.private, message), KeyId: signer.keyID()})
	}
	return map[string]struct{ encoded, want string }{
		"empty":                               {"", "unknown key"},
		"not base64url":                       {"!" + good, "base64url"},
		"standard base64":                     {strings.Repeat("+", 8) + good, "base64url"},
		"padded":                              {base64.URLEncoding.EncodeToString(append(raw, 0x1a, 0)), "base64url"},
		"a line break within":                 {good[:9] + "\n" + good[9:], "line breaks"},
		"a line break after":                  {good + "\r\n", "line breaks"},
		"too long":                            {good + strings.Repeat("A", maxRule), "more than"},
		"cut off":                             {good[:len(good)-40], "decoding"},
		"unsigned":                            {encodeRule(t, &rulev1.SignedRule{Rule: bytesOf}), "unknown key"},
		"no signature":                        {encodeRule(t, &rulev1.SignedRule{Rule: bytesOf, KeyId: signer.keyID()}), "signature is wrong"},
		"another key":                         {newRuleSigner(t).sign(t, ordersRule()), "unknown key"},
		"another key under this one's id":     {encodeRule(t, &rulev1.SignedRule{Rule: bytesOf, KeyId: signer.keyID(), Signature: ed25519.Sign(newRuleSigner(t).private, append([]byte(envoy.RuleContext), bytesOf...))}), "signature is wrong"},
		"a signature without context":         {withSignature(bytesOf), "signature is wrong"},
		"a signature of another context":      {withSignature(append([]byte("gatehouse-rule-v2\x00"), bytesOf...)), "signature is wrong"},
		"unknown field of the envelope":       {base64.RawURLEncoding.EncodeToString(append(bytes.Clone(raw), unknown...)), "does not know"},
		"unknown field of the rule":           {signer.signBytes(t, append(bytes.Clone(bytesOf), unknown...)), "does not know"},
		"an assertion for another domain":     {edited(func(r *rulev1.Rule) { r.AssertionAudience = "spiffe://x/service/orders" }), "no service of"},
		"an assertion for no service":         {edited(func(r *rulev1.Rule) { r.AssertionAudience = testNode }), "no service of"},
		"an empty peer":                       {edited(func(r *rulev1.Rule) { r.Peers = []string{testNode, ""} }), "peers"},
		"an actor without an assertion":       {edited(func(r *rulev1.Rule) { r.Acting = testOrders }), "takes no assertion"},
		"assertions and tokens":               {inbound(func(r *rulev1.Rule) { r.TokenSources = append(r.TokenSources, 1) }), "something else"},
		"assertions for no service":           {inbound(func(r *rulev1.Rule) { r.Audience = testAudience }), "no service of"},
		"assertions for a foreign service":    {inbound(func(r *rulev1.Rule) { r.Audience = "spiffe://x/service/orders" }), "no service of"},
		"assertions of another issuer":        {inbound(func(r *rulev1.Rule) { r.Issuers = []string{testIssuer} }), "not of"},
		"assertions from any peer":            {inbound(func(r *rulev1.Rule) { r.Peers = nil }), "needs peers"},
		"another assertion of one that came":  {inbound(func(r *rulev1.Rule) { r.AssertionAudience = testProfile }), "outbound"},
		"acting for another":                  {outbound(func(r *rulev1.Rule) { r.Acting = testProfile }), "acts for itself"},
		"acting with another's assertion":     {outbound(func(r *rulev1.Rule) { r.Audience = testProfile }), "acts for itself"},
		"acting on other nodes too":           {outbound(func(r *rulev1.Rule) { r.NodeIdentities = append(r.NodeIdentities, testNode) }), "acts for itself"},
		"acting towards nobody":               {outbound(func(r *rulev1.Rule) { r.AssertionAudience = "" }), "no assertion_audience"},
		"acting over TLS":                     {outbound(func(r *rulev1.Rule) { r.Peers = []string{testNode} }), "acting and peers"},
		"signed bytes that are no rule":       {signer.signBytes(t, []byte("\xff\xff\xff")), "decoding the rule"},
		"no bytes":                            {signer.signBytes(t, nil), "no route"},
		"no route":                            {edited(func(r *rulev1.Rule) { r.Route = "" }), "no route"},
		"no service":                          {edited(func(r *rulev1.Rule) { r.Service = "" }), "no service"},
		"no node identities":                  {edited(func(r *rulev1.Rule) { r.NodeIdentities = nil }), "no node_identities"},
		"an empty node identity":              {edited(func(r *rulev1.Rule) { r.NodeIdentities = []string{testNode, ""} }), "no node_identities"},
		"no issuers":                          {edited(func(r *rulev1.Rule) { r.Issuers = nil }), "no issuers"},
		"an empty issuer":                     {edited(func(r *rulev1.Rule) { r.Issuers = []string{""} }), "no issuers"},
		"no audience":                         {edited(func(r *rulev1.Rule) { r.Audience = "" }), "no audience"},
		"an empty scope":                      {edited(func(r *rulev1.Rule) { r.Scopes = []string{""} }), "no scope-token"},
		"a scope that is two (RFC 6749 §3.3)": {edited(func(r *rulev1.Rule) { r.Scopes = []string{"a b"} }), "no scope-token"},
		"a scope that ends a quoted string":   {edited(func(r *rulev1.Rule) { r.Scopes = []string{`a"`} }), "no scope-token"},
		"a scope with a backslash":            {edited(func(r *rulev1.Rule) { r.Scopes = []string{`a\`} }), "no scope-token"},
		"DPoP without an origin":              {edited(func(r *rulev1.Rule) { provable(r); r.Origins = nil }), "no origins"},
		"DPoP with an empty origin":           {edited(func(r *rulev1.Rule) { provable(r); r.Origins = []string{""} }), "no origins"},
		"a binding that nobody knows":         {edited(func(r *rulev1.Rule) { r.Bindings = []rulev1.TokenBinding{3} }), "binding 3"},
		"no binding at all":                   {edited(func(r *rulev1.Rule) { r.Bindings = []rulev1.TokenBinding{0} }), "binding 0"},
		"no token sources":                    {edited(func(r *rulev1.Rule) { r.TokenSources = nil }), "no token_sources"},
		"revocation_max_age_ms 0":             {edited(func(r *rulev1.Rule) { r.RevocationMaxAgeMs = 0 }), "revocation_max_age_ms"},
		"revocation_max_age_ms beyond all":    {edited(func(r *rulev1.Rule) { r.RevocationMaxAgeMs = 1 << 63 }), "revocation_max_age_ms"},
	}
}

func TestRuleAttacks(t *testing.T) {
	signer := newRuleSigner(t)
	for name, c := range ruleAttacks(t, signer) {
		t.Run(name, func(t *testing.T) {
			rules := newTestRules(t, signer)
			if _, err := rules.verify(c.encoded); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if rules.count() != 0 {
				t.Error("a refused rule was kept")
			}
		})
	}
}

// TestRuleLease: a lease beyond a day is not believed.
func TestRuleLease(t *testing.T) {
	signer := newRuleSigner(t)
	for ms, good := range map[uint64]bool{0: true, 1: true, 86_400_000: true, 86_400_001: false, 1 << 63: false} {
		r := ordersRule()
		r.StreamLeaseMs = ms
		got, err := newTestRules(t, signer).verify(signer.sign(t, r))
		if (err == nil) != good || good && got.lease != time.Duration(ms)*time.Millisecond {
			t.Errorf("%d ms: %+v, %v", ms, got, err)
		}
	}
}

// TestStreamEnd: a stream ends with its token or its lease, and always.
func TestStreamEnd(t *testing.T) {
	for _, row := range []struct {
		lease, life time.Duration
		want        string
	}{
		{time.Hour, time.Minute, "60000"}, {time.Second, time.Minute, "1000"}, {time.Hour, 0, "1"},
		{time.Hour, -time.Second, "1"}, {time.Hour, time.Microsecond, "1"},
	} {
		h := streamEnd(row.lease, row.life)
		if got := h.GetHeader().GetValue(); got != row.want || h.GetHeader().GetKey() != "x-envoy-upstream-stream-duration-ms" {
			t.Errorf("lease %v, life %v: %q", row.lease, row.life, got)
		}
	}
}

// TestRuleTokenSources: of all numbers that the enum can carry, the known ones
// alone are taken, and no unknown one beside them.
func TestRuleTokenSources(t *testing.T) {
	signer := newRuleSigner(t)
	rules := newTestRules(t, signer)
	const bearer, dpop = rulev1.TokenSource_TOKEN_SOURCE_AUTHORIZATION_BEARER, rulev1.TokenSource_TOKEN_SOURCE_AUTHORIZATION_DPOP
	for number := int32(-2); number < 20; number++ {
		r := ordersRule()
		r.TokenSources = []rulev1.TokenSource{bearer, rulev1.TokenSource(number)}
		r.Origins = []string{testOrigin}
		_, err := rules.verify(signer.sign(t, r))
		if source := rulev1.TokenSource(number); (err == nil) != (source == bearer || source == dpop) {
			t.Errorf("token source %d: %v", number, err)
		}
	}
}

// TestRuleAlteredBit: no bit of an encoded rule can change unnoticed.
func TestRuleAlteredBit(t *testing.T) {
	signer := newRuleSigner(t)
	rules := newTestRules(t, signer)
	raw, err := base64.RawURLEncoding.DecodeString(signer.sign(t, ordersRule()))
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(raw) * 8 {
		altered := bytes.Clone(raw)
		altered[i/8] ^= 1 << (i % 8)
		if _, err := rules.verify(base64.RawURLEncoding.EncodeToString(altered)); err == nil {
			t.Fatalf("bit %d: taken", i)
		}
	}
}

func TestRulesAreVerifiedOnceAndBounded(t *testing.T) {
	signer := newRuleSigner(t)
	rules := newTestRules(t, signer)
	encoded := signer.sign(t, ordersRule())
	first, err := rules.verify(encoded)
	if err != nil {
		t.Fatal(err)
	}
	rules.keys = nil // nothing verifies any more
	if again, err := rules.verify(strings.Clone(encoded)); err != nil || again != first {
		t.Errorf("verified again: %v", err)
	}
	for i := range maxRules + 10 {
		rules.keep(fmt.Sprint(i), first)
	}
	if rules.count() != maxRules {
		t.Errorf("%d rules are kept, want %d", rules.count(), maxRules)
	}
	if _, err := rules.verify(encoded); err == nil {
		t.Error("the oldest rule was not forgotten")
	}
	rules.keep(strings.Repeat("x", maxRuleBytes/2-ruleOverhead), first)
	if rules.count() != 1 || rules.bytes > maxRuleBytes {
		t.Errorf("%d rules of %d bytes are kept", rules.count(), rules.bytes)
	}
}

func TestRuleKeyFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	for name, c := range map[string]struct{ file, want string }{
		"absent":         {filepath.Join(dir, "none"), "gatehouse init"},
		"not PEM":        {write("a", "key"), "PEM"},
		"another key":    {string(writePublic(t, unpublishedKey(t).Public())), "Ed25519"},
		"bad bytes":      {write("b", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"), "parsing"},
		"something else": {write("c", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), "PUBLIC KEY"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newRules([]conf.Path{conf.Path(c.file)}, testDomain)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "rule_keys[0]") {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	if _, err := newRules([]conf.Path{conf.Path(filepath.Join(dir, "none"))}, testDomain); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// FuzzRule: whatever is taken says what the signer said.
func FuzzRule(f *testing.F) {
	signer := newRuleSigner(f)
	good := signer.sign(f, ordersRule())
	for _, seed := range []string{good, good + "\n", good[:20], "", good + "AA", good + "="} {
		f.Add(seed)
	}
	rules := newTestRules(f, signer)
	want, err := rules.decode(good)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, encoded string) {
		if got, err := rules.decode(encoded); err == nil && !reflect.DeepEqual(got, want) {
			t.Fatalf("%q was read as %+v", encoded, got)
		}
	})
}
