package authz

import (
	"encoding/json"
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	rulev1 "gatehouse.dev/gatehouse/proto/gatehouse/rule/v1"
)

func TestCheckEvent(t *testing.T) {
	w := startWorld(t)
	in := checkOf(w.rule(func(r *rulev1.Rule) { r.Policy = "orders.approve" }), w.person(),
		"x-request-id", "req-42", "traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	w.expect(in, 200, ReasonAllowed)
	var event map[string]any
	if err := json.Unmarshal([]byte(w.logs.last()), &event); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"level": "INFO", "msg": "decision", "verdict": "allowed", "reason": "allowed",
		"method": "GET", "path": "/orders", "host": "gate.example", "source": "",
		"request_id": "req-42", "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
		"route": "orders-list", "service": "orders",
		"issuer": testIssuer, "subject": "usr_ada", "subject_type": "user", "client_id": "shop",
		"policy": "orders.approve", "policy_revision": w.server.store.Current().Revision(), "feed_sequence": 0.0,
	}
	for key, value := range want {
		if event[key] != value {
			t.Errorf("%s is %v, want %v", key, event[key], value)
		}
	}
	for _, key := range []string{"time", "decision_id", "token_id", "feed_age_ms", "latency_us"} {
		if event[key] == nil {
			t.Errorf("there is no %s", key)
		}
	}
	if len(event) != len(want)+5 {
		t.Errorf("the event is %v", event)
	}
	if n := w.figure("gatehouse_authz_decisions_total", "allowed", "allowed"); n != 1 {
		t.Errorf("%v decisions were counted", n)
	}
}

func TestCheckEventLevels(t *testing.T) {
	w := newWorld(t)
	w.config.AllowedEvents = "debug"
	w.start()
	w.waitReady()
	for _, c := range []struct {
		in    *authv3.CheckRequest
		level string
	}{
		{checkOf(w.rule(), w.person()), "DEBUG"},
		{checkOf(w.rule(), ""), "INFO"},
		{checkOf("", ""), "WARN"},
	} {
		w.check(c.in)
		if !strings.Contains(w.logs.last(), `"level":"`+c.level+`"`) {
			t.Errorf("want level %s: %s", c.level, w.logs.last())
		}
	}
}
