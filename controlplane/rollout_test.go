package controlplane

import (
	"fmt"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/envoy"
)

// A service gains a sidecar, moves it to another address and loses it again,
// under load and without a lost request: each side has what the other leads to
// before it does.
func TestSidecarsComeAndGo(t *testing.T) {
	orders := startService(t, "orders")
	gateway := func(sidecar string) string {
		return `
services: {orders: {url: ` + orders.URL + sidecar + `}}
routes: [{id: orders, path: /orders, service: orders, audience: a}]
`
	}
	m := newMeshRig(t, gateway(""))
	m.sidecar(t, "orders") // not known yet: it asks again and again
	l := startLoad(t, m.rig, "/orders")
	l.more(t, 50)
	for range 2 {
		for _, address := range []string{freeAddress(t), freeAddress(t)} {
			m.change(t, gateway(`, sidecar: {address: "`+address+`"}`))
			await(t, "the sidecar", m.settled)
			l.more(t, 50)
			if got := orders.last(); got.Header.Get(envoy.AssertionHeader) != assertionFor("orders") {
				t.Errorf("requests do not come by the sidecar: %v", got.Header)
			}
		}
		m.change(t, gateway(""))
		await(t, "the edit", m.taken)
		if _, there := m.server.Status().Groups["service/orders"]; there {
			t.Error("the group is still there")
		}
		l.more(t, 50)
	}
	if lost, sent := l.stop(); len(lost) > 0 {
		t.Errorf("%d of %d requests were lost: %s", len(lost), sent, lost[0])
	}
}

// change applies an edit without waiting.
func (m *meshRig) change(t *testing.T, text string) {
	t.Helper()
	g := m.parse(t, text)
	if err := m.server.Apply(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	m.gateway = g
}

// An edit that a sidecar refuses does not reach the edge, and everybody goes
// back to what was before.
func TestRefusedSidecarKeepsTheEdge(t *testing.T) {
	orders := startService(t, "orders")
	occupied := startService(t, "occupied")
	gateway := func(id, address string) string {
		return `
services: {orders: {url: ` + orders.URL + `, sidecar: {address: "` + address + `"}}}
routes: [{id: ` + id + `, path: /orders, service: orders, audience: a}]
`
	}
	first := freeAddress(t)
	m := newMeshRig(t, gateway("first", first))
	m.sidecar(t, "orders")
	await(t, "the sidecar", m.settled)
	before := m.server.goals()
	m.change(t, gateway("second", strings.TrimPrefix(occupied.URL, "http://")))
	await(t, "the refusal", func() error {
		g := m.server.Status().Groups["service/orders"]
		if g.Refused == nil || !g.Taken {
			return fmt.Errorf("%+v", g)
		}
		return nil
	})
	for name, s := range m.server.goals() {
		if s.Version != before[name].Version {
			t.Errorf("%s has another version than before", name)
		}
	}
	if status, body := m.get(t, "/orders", "Authorization", bearer); status != 200 || ruleIn(t, m.authz.last()).GetService() != "orders" {
		t.Errorf("afterwards: %d %s", status, body)
	}
	m.change(t, gateway("third", freeAddress(t)))
	await(t, "the next edit", m.settled)
	if status, body := m.get(t, "/orders", "Authorization", bearer); status != 200 {
		t.Errorf("after the next edit: %d %s", status, body)
	}
}
