package authz

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	revocationv1 "gatehouse.dev/gatehouse/proto/gatehouse/revocation/v1"
	rulev1 "gatehouse.dev/gatehouse/proto/gatehouse/rule/v1"
)

// hammer checks one request from several goroutines until stop, and reports
// every verdict that is not among those allowed.
func (w *world) hammer(stop <-chan struct{}, rule, token string, fine ...Reason) *sync.WaitGroup {
	w.Helper()
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				response, err := w.client.Check(context.Background(), checkOf(rule, token))
				if err != nil {
					w.Errorf("Check: %v", err)
					return
				}
				reason := Reason(response.GetDynamicMetadata().GetFields()["reason"].GetStringValue())
				if !slices.Contains(fine, reason) || (response.GetOkResponse() != nil) != (reason == ReasonAllowed) {
					w.Errorf("got %s", reason)
					return
				}
			}
		})
	}
	return &group
}

// TestRevocationWhileChecking: a token is allowed until it is revoked and never
// afterwards, while the feed brings thousands more.
func TestRevocationWhileChecking(t *testing.T) {
	w := startWorld(t)
	claims := personClaims(w.now())
	token := mint(t, w.key, claims)
	stop := make(chan struct{})
	group := w.hammer(stop, w.rule(), token, ReasonAllowed, ReasonRevoked)
	for i := range 2000 {
		w.feed.revoke(revocationv1.Kind_KIND_TOKEN, fmt.Sprint("other-", i), 0)
	}
	w.feed.revoke(revocationv1.Kind_KIND_TOKEN, claims["jti"].(string), 0)
	w.eventually("refused", func() bool {
		_, reason := w.verdict(checkOf(w.rule(), token))
		return reason == ReasonRevoked
	})
	for range 100 {
		w.expect(checkOf(w.rule(), token), 401, ReasonRevoked)
	}
	close(stop)
	group.Wait()
}

// TestPolicyReloadWhileChecking: each verdict is the old policy's or the new
// one's, an edit that does not compile changes nothing, and no request is lost.
func TestPolicyReloadWhileChecking(t *testing.T) {
	w := startWorld(t)
	approve := w.rule(func(r *rulev1.Rule) { r.Policy = "orders.approve" })
	token := w.person()
	stop := make(chan struct{})
	group := w.hammer(stop, approve, token, ReasonAllowed, ReasonPolicy)
	becomes := func(text string, want Reason) {
		w.writePolicy("approve.rego", text)
		w.eventually(string(want), func() bool {
			_, reason := w.verdict(checkOf(approve, token))
			return reason == want
		})
	}
	becomes("package orders.approve\n\nallow if \"nobody\" in input.token.roles\n", ReasonPolicy)
	w.writePolicy("approve.rego", "package orders.approve\n\nallow if {\n")
	w.eventually("refused", func() bool { return w.server.store.LastError() != nil })
	w.expect(checkOf(approve, token), 403, ReasonPolicy)
	becomes(teamPolicy, ReasonAllowed)
	close(stop)
	group.Wait()
}
