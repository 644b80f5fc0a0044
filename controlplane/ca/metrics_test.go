package ca

import (
	"testing"

	workloadv1 "gatehouse.dev/gatehouse/proto/gatehouse/workload/v1"
)

// What is issued, refused and revoked, and what ends when, can be alerted on.
func TestMetrics(t *testing.T) {
	r := newRig(t)
	token := r.token(orders)
	client := r.enrolment(token)
	for range 2 { // the second time it is used up
		client.Enrol(t.Context(), &workloadv1.EnrolRequest{JoinToken: token.Secret, Csr: csr(t, newKey(t), orders)})
	}
	if _, err := r.admin().Revoke(t.Context(), &workloadv1.RevokeRequest{SpiffeId: other}); err != nil {
		t.Fatal(err)
	}
	watch(t, r.localTrust()).until("a start", func(*workloadv1.TrustState) bool { return true })
	families, err := r.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			name := family.GetName()
			for _, label := range m.GetLabel() {
				name += " " + label.GetValue()
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	current := r.authority.current.Load()
	for name, want := range map[string]float64{
		"gatehouse_ca_issued_total": 1, "gatehouse_ca_refused_total enrolment": 1, "gatehouse_ca_refused_total renewal": 0,
		"gatehouse_ca_denied_workloads": 1, "gatehouse_ca_watchers": 1,
		"gatehouse_ca_intermediate_end_seconds": float64(current.ends.Unix()), "gatehouse_ca_root_end_seconds": float64(current.roots[0].NotAfter.Unix()),
	} {
		if value, there := got[name]; !there || value != want {
			t.Errorf("%s is %v (%t), want %v", name, value, there, want)
		}
	}
}
