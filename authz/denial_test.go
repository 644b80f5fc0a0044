package authz

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
)

var update = flag.Bool("update", false, "write the golden files anew")

// everyReason is the bounded set that metrics and events take.
var everyReason = []Reason{
	ReasonManyCredentials, ReasonMalformedCredential,
	ReasonNoCredential, ReasonMalformedToken, ReasonInvalidToken, ReasonExpiredToken, ReasonUnknownKey,
	ReasonWrongIssuer, ReasonWrongAudience, ReasonRevoked, ReasonUnproven, ReasonUnbound, ReasonProof,
	ReasonInsufficientScope, ReasonPolicy, ReasonClaimsTooLong,
	ReasonCaller, ReasonRuleMissing, ReasonRuleInvalid, ReasonRuleForeign, ReasonUnknownIssuer, ReasonKeysMissing,
	ReasonRevocationMissing, ReasonRevocationStale, ReasonClock, ReasonPolicyMissing, ReasonPolicyError, ReasonProofsFull, ReasonInternal,
	"", "never heard of",
}

// TestDenials holds what the outside sees of every reason: status, headers and
// body, for HTTP and for gRPC.
func TestDenials(t *testing.T) {
	var got strings.Builder
	for _, reason := range everyReason {
		d := &denial{reason: reason, cause: errors.New("SECRET cause"), scopes: []string{"read:orders", "write:orders"}}
		fmt.Fprintf(&got, "== %s\n%s-- gRPC\n%s\n", reason, shown(d.render(&request{}, "req-1")), shown(d.render(&request{grpc: true}, "req-1")))
	}
	if strings.Contains(got.String(), "SECRET") {
		t.Error("a cause reaches the outside")
	}
	golden(t, "denials.golden", got.String())
}

func shown(r *authv3.CheckResponse) string {
	var b strings.Builder
	denied := r.GetDeniedResponse()
	fmt.Fprintf(&b, "%d %s\n", denied.GetStatus().GetCode(), codes.Code(r.GetStatus().GetCode()))
	for _, h := range denied.GetHeaders() {
		fmt.Fprintf(&b, "%s: %s (%s)\n", h.GetHeader().GetKey(), h.GetHeader().GetValue(), h.GetAppendAction())
	}
	return b.String() + denied.GetBody() + "\n"
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; -update writes it anew):\n%s", file, diff)
	}
}

// TestDenialsAlwaysDeny: no reason at all renders as a status that Envoy, or a
// gRPC client, could take for success.
func TestDenialsAlwaysDeny(t *testing.T) {
	for _, reason := range append(everyReason, ReasonAllowed) {
		r := (&denial{reason: reason, cause: errors.New("x")}).render(&request{}, "req-1")
		if r.GetOkResponse() != nil || r.GetStatus().GetCode() == int32(codes.OK) || r.GetDeniedResponse().GetStatus().GetCode() < 400 {
			t.Errorf("%q renders as %v", reason, r)
		}
	}
}

// TestProblemIsJSON: the request id, which a client may have sent, cannot break
// out of the body (RFC 9457 §3).
func TestProblemIsJSON(t *testing.T) {
	id := "\"},\r\n<script>"
	body := (&denial{reason: ReasonNoCredential, cause: errors.New("x")}).render(&request{}, id).GetDeniedResponse().GetBody()
	var p problem
	if err := json.Unmarshal([]byte(body), &p); err != nil || p.RequestID != id || strings.ContainsAny(body, "<\r\n") {
		t.Errorf("got %s, %v", body, err)
	}
}

func TestDenialOf(t *testing.T) {
	if d := denialOf(errors.New("plain")); d.reason != ReasonInternal {
		t.Errorf("a plain error is %q", d.reason)
	}
	if d := denialOf(nil); d.reason != ReasonInternal || answerTo(d.reason).status != 503 {
		t.Errorf("no error is %q", d.reason)
	}
	if d := denialOf(fmt.Errorf("step: %w", deny(ReasonRevoked, "x"))); d.reason != ReasonRevoked {
		t.Errorf("a wrapped denial is %q", d.reason)
	}
}
