package authz

import (
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"gatehouse.dev/gatehouse/policies"
)

// panicking is a source of policies with a bug.
type panicking struct{}

func (panicking) Current() *policies.Set { panic("SECRET token") }

func TestCheckSurvivesAPanic(t *testing.T) {
	w := startWorld(t)
	for name, source := range map[string]policySource{"a value": panicking{}, "a nil pointer": (*nilSource)(nil)} {
		t.Run(name, func(t *testing.T) {
			before := w.figure("gatehouse_authz_panics_total")
			d := w.server.begin()
			good := w.server.policies
			w.server.policies = source
			response, err := w.server.guarded(localContext(), checkOf(w.rule(), w.person()), d)
			got := w.server.conclude(localContext(), d, response, err)
			w.server.policies = good
			if got.GetDeniedResponse().GetStatus().GetCode() != 503 || d.reason != ReasonInternal {
				t.Errorf("got %v", got)
			}
			if w.figure("gatehouse_authz_panics_total") != before+1 {
				t.Error("the panic was not counted")
			}
			if strings.Contains(w.logs.String(), "SECRET") {
				t.Error("the panic's value is in the log")
			}
		})
	}
	w.expect(checkOf(w.rule(), w.person()), 200, ReasonAllowed)
}

type nilSource struct{ set *policies.Set }

func (n *nilSource) Current() *policies.Set { return n.set }

// TestConcludeWithoutAVerdictDenies: the zero value of a decision admits
// nobody.
func TestConcludeWithoutAVerdictDenies(t *testing.T) {
	w := newWorld(t)
	w.start()
	for name, response := range map[string]*authv3.CheckResponse{"none": nil, "an answer": admit(nil, nil)} {
		got := w.server.conclude(localContext(), w.server.begin(), response, nil)
		if got.GetOkResponse() != nil || got.GetDeniedResponse().GetStatus().GetCode() != 503 {
			t.Errorf("%s: got %v", name, got)
		}
	}
}
