package authz

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/google/go-cmp/cmp"

	"gatehouse.dev/gatehouse/envoy"
	rulev1 "gatehouse.dev/gatehouse/proto/gatehouse/rule/v1"
)

// headersSet are the headers that an answer sets; each must replace.
func headersSet(t testing.TB, r *authv3.CheckResponse) map[string]string {
	t.Helper()
	set := map[string]string{}
	for _, h := range r.GetOkResponse().GetHeaders() {
		if h.GetAppendAction() != corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD {
			t.Errorf("%s is %s", h.GetHeader().GetKey(), h.GetAppendAction())
		}
		set[h.GetHeader().GetKey()] = h.GetHeader().GetValue()
	}
	return set
}

func TestCheckTellsTheServiceWhoCalls(t *testing.T) {
	w := startWorld(t)
	client := personClaims(w.now()).with("sub", "shop").without("roles").without("sid").without("grant_id").without("auth_time")
	for _, c := range []struct {
		name   string
		claims claimSet
		set    map[string]string
		remove []string
	}{
		{"a person", personClaims(w.now()), map[string]string{
			"x-gatehouse-subject": "usr_ada", "x-gatehouse-subject-type": "user", "x-gatehouse-client-id": "shop",
			"x-gatehouse-scope": "read:orders profile", "x-gatehouse-roles": "customer,approver", "x-gatehouse-issuer": testIssuer,
		}, []string{"x-gatehouse-actor", "gatehouse-assertion"}},
		{"a client, which has no roles", client, map[string]string{
			"x-gatehouse-subject": "shop", "x-gatehouse-subject-type": "client", "x-gatehouse-client-id": "shop",
			"x-gatehouse-scope": "read:orders profile", "x-gatehouse-issuer": testIssuer,
		}, []string{"x-gatehouse-roles", "x-gatehouse-actor", "gatehouse-assertion"}},
		{"hostile roles", personClaims(w.now()).with("roles", []string{"a,admin", "x-gatehouse-roles: admin", "Größe"}), map[string]string{
			"x-gatehouse-subject": "usr_ada", "x-gatehouse-subject-type": "user", "x-gatehouse-client-id": "shop",
			"x-gatehouse-scope": "read:orders profile", "x-gatehouse-issuer": testIssuer,
			"x-gatehouse-roles": "a%2Cadmin,x-gatehouse-roles:%20admin,Gr%C3%B6%C3%9Fe",
		}, []string{"x-gatehouse-actor", "gatehouse-assertion"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for range 2 { // new, then seen
				got := w.check(checkOf(w.rule(), mint(t, w.key, c.claims)))
				if diff := cmp.Diff(c.set, headersSet(t, got)); diff != "" {
					t.Errorf("headers (-want +got):\n%s%s", diff, w.logs.last())
				}
				if diff := cmp.Diff(c.remove, got.GetOkResponse().GetHeadersToRemove()); diff != "" {
					t.Errorf("removed (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestCheckRefusesClaimsThatNoHeaderHolds(t *testing.T) {
	w := startWorld(t)
	var roles []string
	for i := range 6 {
		roles = append(roles, strconv.Itoa(i)+strings.Repeat("é", 126))
	}
	for n, status := range []int{200, 200, 200, 200, 200, 200, 403} {
		reason := map[int]Reason{200: ReasonAllowed, 403: ReasonClaimsTooLong}[status]
		w.expect(checkOf(w.rule(), mint(t, w.key, personClaims(w.now()).with("roles", roles[:n]))), status, reason)
	}
}

func TestCheckMetadata(t *testing.T) {
	w := startWorld(t)
	got := w.check(checkOf(w.rule(), w.person())).GetDynamicMetadata().AsMap()
	for _, each := range []string{"decision_id", "token_id"} {
		if text, _ := got[each].(string); text == "" {
			t.Errorf("no %s", each)
		}
		delete(got, each)
	}
	want := map[string]any{
		"subject": "usr_ada", "subject_type": "user", "client_id": "shop", "issuer": testIssuer,
		"scopes": "read:orders profile", "route": "orders-list", "reason": "allowed",
		"roles": "customer,approver",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metadata (-want +got):\n%s", diff)
	}
	planned := w.check(checkOf(w.rule(), mint(t, w.key, personClaims(w.now()).with("plan", "pro")))).GetDynamicMetadata().AsMap()
	if planned["plan"] != "pro" {
		t.Errorf("the plan is %v", planned["plan"])
	}
	// A denied request names nobody: its claims must not fill a limit.
	denied := w.check(checkOf(w.rule(func(r *rulev1.Rule) { r.Scopes = []string{"admin"} }), w.person())).GetDynamicMetadata().AsMap()
	if keys := slices.Sorted(maps.Keys(denied)); !slices.Equal(keys, []string{"decision_id", "reason", "route"}) {
		t.Errorf("a denial's metadata has %v", keys)
	}
}

// TestCheckRules: a rule that is not this gateway's, whole and known, is 503,
// whatever the token.
func TestCheckRules(t *testing.T) {
	w := startWorld(t)
	token := w.person()
	w.expect(checkOf(w.rule(), token), 200, ReasonAllowed)
	for name, c := range ruleAttacks(t, w.signer) {
		t.Run(name, func(t *testing.T) {
			w.expect(checkOf(c.encoded, token), 503, ReasonRuleInvalid)
			w.expect(checkOf(c.encoded, ""), 503, ReasonRuleInvalid)
		})
	}
	t.Run("none", func(t *testing.T) {
		in := checkOf("", token)
		in.Attributes.ContextExtensions = nil
		w.expect(in, 503, ReasonRuleMissing)
	})
	t.Run("another key of the extensions", func(t *testing.T) {
		in := checkOf("", token)
		in.Attributes.ContextExtensions = map[string]string{"gatehouse_rule": w.rule()}
		w.expect(in, 503, ReasonRuleMissing)
	})
	t.Run("another node", func(t *testing.T) {
		w.expect(checkOf(w.rule(func(r *rulev1.Rule) { r.NodeIdentities = []string{envoy.ServiceIdentity("gatehouse.local", "orders")} }), token), 503, ReasonRuleForeign)
	})
	t.Run("an issuer that is not configured", func(t *testing.T) {
		w.expect(checkOf(w.rule(func(r *rulev1.Rule) { r.Issuers = []string{"https://other.example"} }), token), 503, ReasonUnknownIssuer)
	})
	t.Run("nothing at all", func(t *testing.T) {
		w.expect(&authv3.CheckRequest{}, 503, ReasonRuleMissing)
	})
}

// TestCheckTokens: one row, one clause.
func TestCheckTokens(t *testing.T) {
	w := startWorld(t)
	good := personClaims(w.now())
	header := map[string]any{"alg": "ES256", "typ": "at+jwt", "kid": kidOf(w.key)}
	token := mint(t, w.key, good)
	tampered := func() string {
		parts := strings.Split(mint(t, w.key, good), ".")
		parts[1] = b64(mustJSON(t, good.with("scope", "read:orders admin")))
		return strings.Join(parts, ".")
	}
	for _, c := range []struct {
		name   string
		token  string
		reason Reason
	}{
		{"good", token, ReasonAllowed},
		{"RFC 9068 §4: expired", mint(t, w.key, good.with("iat", w.now().Add(-5*time.Minute).Unix()).with("exp", w.now().Add(-time.Minute).Unix())), ReasonExpiredToken},
		{"RFC 9068 §4: another audience", mint(t, w.key, good.with("aud", "https://profile.example")), ReasonWrongAudience},
		{"RFC 9068 §4: the audience is compared exactly", mint(t, w.key, good.with("aud", testAudience+"/")), ReasonWrongAudience},
		{"RFC 9068 §4: one audience of several is enough", mint(t, w.key, good.with("aud", []string{"https://profile.example", testAudience})), ReasonAllowed},
		{"RFC 9068 §4: another issuer", mint(t, w.key, good.with("iss", "https://evil.example")), ReasonWrongIssuer},
		{"RFC 8725 §3.1: alg none", b64(mustJSON(t, map[string]any{"alg": "none", "typ": "at+jwt", "kid": kidOf(w.key)})) + "." + b64(mustJSON(t, good)) + ".", ReasonMalformedToken},
		{"RFC 8725 §3.1: an algorithm that the issuer does not use", mintWithHeader(t, w.key, map[string]any{"alg": "PS256", "typ": "at+jwt", "kid": kidOf(w.key)}, good), ReasonInvalidToken},
		{"RFC 9110 §5.5: a line break in a claim", mint(t, w.key, good.with("roles", []string{"a\r\nx-gatehouse-roles: admin"})), ReasonMalformedToken},
		{"a life longer than max_lifetime", mint(t, w.key, good.with("exp", w.now().Add(time.Hour).Unix())), ReasonInvalidToken},
		{"RFC 8725 §3.11: an ID token", mintWithHeader(t, w.key, map[string]any{"alg": "ES256", "typ": "JWT", "kid": kidOf(w.key)}, good), ReasonInvalidToken},
		{"RFC 7515 §5.2: altered claims", tampered(), ReasonInvalidToken},
		{"RFC 7515 §5.2: another key under a known kid", mintWithHeader(t, unpublishedKey(t), header, good), ReasonInvalidToken},
		{"RFC 7517 §4.5: an unknown key", mint(t, unpublishedKey(t), good), ReasonUnknownKey},
		{"no JWS", "abc", ReasonMalformedToken},
		{"RFC 9068 §2.2: no jti", mint(t, w.key, good.without("jti")), ReasonInvalidToken},
		{"RFC 9068 §2.2: no client_id", mint(t, w.key, good.without("client_id")), ReasonInvalidToken},
		{"RFC 7519 §4.1.6: issued in the future", mint(t, w.key, good.with("iat", w.now().Add(5*time.Minute).Unix())), ReasonInvalidToken},
	} {
		t.Run(c.name, func(t *testing.T) {
			status := 401
			if c.reason == ReasonAllowed {
				status = 200
			}
			for range 2 { // the second may come from the cache
				w.expect(checkOf(w.rule(), c.token), status, c.reason)
			}
		})
	}
	if strings.Contains(w.logs.String(), strings.Split(token, ".")[2]) {
		t.Error("a token's signature is in the log")
	}
}

// TestCheckRejudgesSeenTokens: what depends on the route or the time is asked
// anew of a token that was verified before.
func TestCheckRejudgesSeenTokens(t *testing.T) {
	w := startWorld(t)
	token := w.person()
	w.expect(checkOf(w.rule(), token), 200, ReasonAllowed)
	w.expect(checkOf(w.rule(func(r *rulev1.Rule) { r.Audience = "https://profile.example" }), token), 401, ReasonWrongAudience)
	w.expect(checkOf(w.rule(func(r *rulev1.Rule) { r.Issuers = []string{"https://other.example", testIssuer + "/"} }), token), 503, ReasonUnknownIssuer)
	w.expect(checkOf(w.rule(func(r *rulev1.Rule) { r.Scopes = []string{"admin"} }), token), 403, ReasonInsufficientScope)
	if hits := w.figure("gatehouse_authz_token_cache_total", "hit"); hits < 2 {
		t.Errorf("%v hits: the token was not seen before", hits)
	}
	w.advance(10*time.Minute + w.config.Skew + time.Second)
	w.expect(checkOf(w.rule(), token), 401, ReasonExpiredToken)
}

// advance moves the clocks of the issuer and of the authorizer.
func (w *world) advance(d time.Duration) {
	w.Helper()
	w.offset.Add(int64(d))
	w.feed.change(func() { w.feed.offset += d })
	w.eventually("in step again", func() bool { return len(w.server.Missing()) == 0 })
}

func TestCheckScopesAndPolicies(t *testing.T) {
	w := startWorld(t)
	ada := personClaims(w.now())
	approve := func(r *rulev1.Rule) { r.Policy = "orders.approve" }
	both := func(r *rulev1.Rule) { r.Scopes = []string{"read:orders", "write:orders"} }
	w.expect(checkOf(w.rule(approve), mint(t, w.key, ada)), 200, ReasonAllowed)
	w.expect(checkOf(w.rule(approve), mint(t, w.key, ada.with("roles", []string{"customer"}))), 403, ReasonPolicy)
	w.expect(checkOf(w.rule(both), mint(t, w.key, ada)), 403, ReasonInsufficientScope)
	w.expect(checkOf(w.rule(func(r *rulev1.Rule) { r.Scopes = nil }), mint(t, w.key, ada.without("scope"))), 200, ReasonAllowed)
	w.expect(checkOf(w.rule(func(r *rulev1.Rule) { r.Policy = "orders.unknown" }), mint(t, w.key, ada)), 503, ReasonPolicyMissing)

	challenge := func(in *authv3.CheckRequest) (string, string) {
		denied := w.check(in).GetDeniedResponse()
		for _, h := range denied.GetHeaders() {
			if h.GetHeader().GetKey() == "www-authenticate" {
				return h.GetHeader().GetValue(), denied.GetBody()
			}
		}
		return "", denied.GetBody()
	}
	if got, _ := challenge(checkOf(w.rule(both), mint(t, w.key, ada))); got != `Bearer error="insufficient_scope", scope="read:orders write:orders"` {
		t.Errorf("RFC 6750 §3.1: the challenge is %q", got)
	}
	got, body := challenge(checkOf(w.rule(approve), mint(t, w.key, ada.with("roles", []string{"customer"}))))
	if got != "" || strings.Contains(body, "SECRET") || strings.Contains(body, "approve") {
		t.Errorf("a policy's denial shows %q and %s", got, body)
	}
}

func TestCheckPolicyErrors(t *testing.T) {
	w := newWorld(t)
	w.writePolicy("broken.rego", "package orders.broken\n\nallow := true if input.token.roles[0] == \"customer\"\nallow := false if input.token.roles[1] == \"approver\"\n")
	w.start()
	w.waitReady()
	w.expect(checkOf(w.rule(func(r *rulev1.Rule) { r.Policy = "orders.broken" }), w.person()), 503, ReasonPolicyError)
}

func TestCheckProblemBody(t *testing.T) {
	w := startWorld(t)
	in := checkOf(w.rule(), "", "x-request-id", "req-42")
	denied := w.check(in).GetDeniedResponse()
	var p problem
	if err := json.Unmarshal([]byte(denied.GetBody()), &p); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(problem{Type: "about:blank", Title: "Unauthorized", Status: 401, Detail: "An access token is required.", RequestID: "req-42"}, p); diff != "" {
		t.Error(diff)
	}
	hostile := w.check(checkOf(w.rule(), "", "x-request-id", "\r\nx: y"))
	if err := json.Unmarshal([]byte(hostile.GetDeniedResponse().GetBody()), &p); err != nil || p.RequestID != hostile.GetDynamicMetadata().AsMap()["decision_id"] {
		t.Errorf("a hostile request id became %q", p.RequestID)
	}
	grpc := w.check(checkOf(w.rule(), "", "content-type", "application/grpc+proto"))
	if body := grpc.GetDeniedResponse().GetBody(); body != "An access token is required." || grpc.GetStatus().GetCode() != 16 {
		t.Errorf("a gRPC request got %q, %v", body, grpc.GetStatus())
	}
}
