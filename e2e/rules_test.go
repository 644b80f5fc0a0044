package e2e

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/e2e/harness"
	"gatehouse.dev/gatehouse/envoy"
	rulev1 "gatehouse.dev/gatehouse/proto/gatehouse/rule/v1"
)

// strangerKey is a rule key of nobody's, and the file with its public half.
func strangerKey(t *testing.T, dir string) (private ed25519.PrivateKey, file string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(dir, "stranger.pub")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return private, file
}

// Every way in which a rule can be wrong, asked of the authorizer as Envoy
// asks. The token is good, so that the rule alone is to blame.
func TestRulesTravelSigned(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	_, access := s.Robot(t, "robot", "read:orders")
	checker := s.NewChecker(t, harness.Authz)
	key := s.RuleKey(t)
	stranger, _ := strangerKey(t, s.Dir)
	good := func() *rulev1.Rule { return s.Rule(s.URL("")) }
	with := func(change func(*rulev1.Rule)) map[string]string {
		rule := good()
		change(rule)
		return harness.SignRule(t, rule, key)
	}
	packed := func(change func(*rulev1.SignedRule)) map[string]string {
		signed := harness.UnpackRule(t, harness.SignRule(t, good(), key)[envoy.RuleExtension])
		change(signed)
		return harness.PackRule(t, signed)
	}
	expect := func(name string, extensions map[string]string, want int) {
		t.Helper()
		response, err := checker.Check(t, access, extensions)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := harness.Verdict(response); got != want {
			t.Errorf("%s: %d, want %d", name, got, want)
		}
	}
	expect("a good rule", harness.SignRule(t, good(), key), 200)
	for name, extensions := range map[string]map[string]string{
		"no extensions":        nil,
		"no rule":              {"other": "value"},
		"an empty rule":        {envoy.RuleExtension: ""},
		"no base64url":         {envoy.RuleExtension: "%%%"},
		"no message":           {envoy.RuleExtension: "AAAA"},
		"signed by a stranger": harness.SignRule(t, good(), stranger),
		"a stranger's, as ours": packed(func(r *rulev1.SignedRule) {
			r.Signature = ed25519.Sign(stranger, append([]byte(envoy.RuleContext), r.Rule...))
		}),
		"signed as another thing": packed(func(r *rulev1.SignedRule) {
			r.Signature = ed25519.Sign(key, r.Rule)
		}),
		"not signed": packed(func(r *rulev1.SignedRule) { r.Signature = nil }),
		"one bit of the signature": packed(func(r *rulev1.SignedRule) {
			r.Signature[20] ^= 1
		}),
		"one bit of the rule": packed(func(r *rulev1.SignedRule) { r.Rule[len(r.Rule)-1] ^= 1 }),
		"a scope less": packed(func(r *rulev1.SignedRule) {
			r.Rule = []byte(strings.Replace(string(r.Rule), "read:orders", "read:nothin", 1))
		}),
		"another node's":         with(func(r *rulev1.Rule) { r.NodeIdentities = []string{"spiffe://gatehouse.local/gateway/inner"} }),
		"nobody's":               with(func(r *rulev1.Rule) { r.NodeIdentities = nil }),
		"no issuers":             with(func(r *rulev1.Rule) { r.Issuers = nil }),
		"no audience":            with(func(r *rulev1.Rule) { r.Audience = "" }),
		"no service":             with(func(r *rulev1.Rule) { r.Service = "" }),
		"no token source":        with(func(r *rulev1.Rule) { r.TokenSources = nil }),
		"an unknown source":      with(func(r *rulev1.Rule) { r.TokenSources = []rulev1.TokenSource{99} }),
		"no revocation age":      with(func(r *rulev1.Rule) { r.RevocationMaxAgeMs = 0 }),
		"a policy of nobody's":   with(func(r *rulev1.Rule) { r.Policy = "not.there" }),
		"an unknown issuer only": with(func(r *rulev1.Rule) { r.Issuers = []string{"https://unknown.example"} }),
	} {
		expect(name, extensions, 503)
	}
	// What a sound rule demands, it gets.
	expect("another audience", with(func(r *rulev1.Rule) { r.Audience = harness.ProfileAPI }), 401)
	expect("another scope", with(func(r *rulev1.Rule) { r.Scopes = []string{"write:orders"} }), 403)
	expect("a good rule, still", harness.SignRule(t, good(), key), 200)
}

// The same through Envoy: while its control plane signs with a key that the
// authorizer does not know, every guarded route is closed, and with both keys
// known, as during a replacement, all are open.
func TestRulesTravelThroughEnvoy(t *testing.T) {
	s := harness.Start(t, harness.Options{Configure: func(s *harness.System, c harness.Config) {
		_, file := strangerKey(t, s.Dir)
		c.Set("authz.rule_keys", []string{file})
	}})
	_, access := s.Robot(t, "robot", "read:orders")
	before := s.Orders.Requests.Load()
	answer := s.Call(t, "GET", "/orders", access)
	if answer.Status != 503 || s.Orders.Requests.Load() != before {
		t.Errorf("a rule of a foreign control plane: %s", answer)
	}
	if strings.Contains(answer.Body, "rule") || strings.Contains(answer.Body, "sign") {
		t.Errorf("the answer tells of the inside: %s", answer)
	}
	if log := s.Process(harness.Authz).Log(); !strings.Contains(log, "authz.rule_keys") {
		t.Errorf("the log does not tell the operator:\n%s", log)
	}
	s.Expect(t, 200, "GET", "/open", "")

	s.Process(harness.Authz).Stop(t)
	s.Edit(t, func(c harness.Config) {
		keys := c.Get("authz.rule_keys").([]string)
		c.Set("authz.rule_keys", append(keys[:1:1], "data/keys/rule.pub"))
	})
	s.StartPart(t, harness.Authz)
	harness.Eventually(t, time.Second, s.Says(200, "GET", "/orders", access))
}

// What Envoy is given is signed, route by route; what has no check says so.
func TestRulesTravelEveryRoute(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	public := s.RuleKey(t).Public().(ed25519.PublicKey)
	guarded := map[string]bool{}
	for _, route := range s.Config().Routes() {
		guarded[route["id"].(string)] = route["public"] != true
	}
	found := 0
	for _, route := range s.EdgeRoutes(t) {
		signed, err := harness.CheckOf(t, route)
		switch {
		case err != nil:
			t.Error(err)
		case (signed != nil) != guarded[route.GetName()]:
			t.Errorf("the route %s has a check: %t", route.GetName(), signed != nil)
		case signed != nil:
			found++
			if !ed25519.Verify(public, append([]byte(envoy.RuleContext), signed.GetRule()...), signed.GetSignature()) {
				t.Errorf("the rule of %s is not signed by the control plane", route.GetName())
			}
		}
	}
	if found != len(s.Config().Routes())-2 { // open, open-h2
		t.Errorf("%d routes have a rule", found)
	}
}
