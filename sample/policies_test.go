package sample

import (
	"testing"

	"gatehouse.dev/gatehouse/policies"
)

func TestPolicies(t *testing.T) {
	results, err := policies.RunTests(t.Context(), "policies")
	if err != nil {
		t.Fatal(err)
	}
	ours := 0
	for _, r := range results {
		if r.Package == "orders.approve_test" {
			ours++
		}
		if r.Outcome != policies.TestPassed {
			t.Errorf("%s:%d: %s %s: %s", r.File, r.Line, r.Name, r.Outcome, r.Detail)
		}
	}
	if ours == 0 {
		t.Error("the sample's policy has no test that ran")
	}
}
