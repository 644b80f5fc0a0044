package controlplane

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"gatehouse.dev/gatehouse/envoy"
)

// An edit that Envoy refuses is told with Envoy's message and the keys that
// changed; the last good configuration is back, all of it, and the next edit
// works.
func TestRefusedEditLeavesTheLastGoodOne(t *testing.T) {
	one := startService(t, "one")
	r := newRig(t, renaming(one.URL, 0))
	good := r.gateway
	l := startLoad(t, r, "/orders")
	l.more(t, 50)
	occupied, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer occupied.Close()

	bad := r.parse(t, renaming(one.URL, 1))
	bad.RedirectListen = occupied.Addr().String()
	if err := r.server.Apply(t.Context(), bad); err != nil {
		t.Fatal(err)
	}
	await(t, "Envoy's refusal", func() error {
		if s := r.status(t); s.Refused == nil || !s.Taken {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	nack := r.status(t).Refused
	if !strings.Contains(nack.Message, "redirect") || nack.Type != listenerType || nack.Node != "edge-1" {
		t.Errorf("the refusal does not say what Envoy refused: %+v", nack)
	}
	if !slices.Contains(nack.Changed, "gateway.redirect_listen") || slices.Contains(nack.Changed, "gateway.listen") {
		t.Errorf("the refusal names the keys %v", nack.Changed)
	}
	if nodes := r.status(t).Nodes; len(nodes) != 1 || nodes[0].Nack == nil {
		t.Errorf("the node's state does not show the refusal: %+v", nodes)
	}
	if request, _ := http.NewRequest(http.MethodGet, "http://"+good.RedirectListen+"/", nil); request != nil {
		if response, err := r.http1.Do(request); err != nil || response.StatusCode != http.StatusPermanentRedirect {
			t.Errorf("the listener that was there is not: %v", err)
		}
	}

	r.apply(t, r.parse(t, renaming(one.URL, 2)))
	if s := r.status(t); s.Refused != nil {
		t.Errorf("a good edit leaves the refusal in the state: %+v", s.Refused)
	}
	r.get(t, "/orders")
	if got := ruleIn(t, r.authz.last()).GetScopes(); got[0] != "edit:2" {
		t.Errorf("the edit after the refusal is not live: %v", got)
	}
	if lost, sent := l.stop(); len(lost) > 0 {
		t.Errorf("%d of %d requests were lost: %s", len(lost), sent, lost[0])
	}
}

// The first configuration of all has no last good one: it is told, not sent in
// a loop, and the next edit works.
func TestRefusedFirstConfiguration(t *testing.T) {
	one := startService(t, "one")
	occupied, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer occupied.Close()
	r := prepareRig(t, renaming(one.URL, 0), func(r *rig, _ *envoyConfig) { r.gateway.RedirectListen = occupied.Addr().String() })
	await(t, "Envoy's refusal", func() error {
		if s := r.status(t); len(s.Nodes) == 0 || s.Nodes[0].Nack == nil {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	// What was not refused works.
	await(t, "the edge", func() error {
		if problem := ask(r.http1, r.url("/orders")); problem != "" {
			return errors.New(problem)
		}
		return nil
	})
	if n := strings.Count(r.metrics(t), `gatehouse_controlplane_nacks_total{resource="Listener"} 1`); n != 1 {
		t.Errorf("refused more than once:\n%s", r.metrics(t))
	}
	occupied.Close()
	mended := r.parse(t, renaming(one.URL, 1))
	mended.RedirectListen = freeAddress(t)
	r.apply(t, mended)
}

// An edit that is not valid changes nothing and is told.
func TestInvalidEdit(t *testing.T) {
	one := startService(t, "one")
	r := newRig(t, renaming(one.URL, 0))
	version := r.status(t).Version
	bad := r.parse(t, renaming(one.URL, 1))
	bad.Routes[0].Service = "nowhere"
	err := r.server.Apply(t.Context(), bad)
	if err == nil || !strings.Contains(err.Error(), `gateway.routes[0].service: "nowhere" names no service`) {
		t.Errorf("Apply: %v", err)
	}
	var status Status
	if err := json.Unmarshal([]byte(r.telemetry(t, "/status")), &status); err != nil {
		t.Fatal(err)
	}
	if status.RefusedEdit == nil || !strings.Contains(status.RefusedEdit.Reason, "nowhere") || status.Groups[envoy.EdgeGroup].Version != version {
		t.Errorf("/status: %+v", status)
	}
	r.apply(t, r.parse(t, renaming(one.URL, 1)))
	if r.server.Status().RefusedEdit != nil {
		t.Error("a good edit leaves the refused one in the state")
	}
}

// A refused route configuration: Envoy drops the whole response and says
// nothing of what it kept, so everything in it is sent again.
func TestRefusedRoutesComeBack(t *testing.T) {
	one := startService(t, "one")
	r := newRig(t, renaming(one.URL, 0))
	l := startLoad(t, r, "/orders")
	l.more(t, 50)
	in, err := r.server.inputs(r.parse(t, renaming(one.URL, 1)))
	if err != nil {
		t.Fatal(err)
	}
	broken := in.edge()
	broken[routeType][edgeRoutes].(*routev3.RouteConfiguration).VirtualHosts[0].Routes[1].Match = &routev3.RouteMatch{
		PathSpecifier: &routev3.RouteMatch_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: "("}},
	}
	r.server.groups[envoy.EdgeGroup].publish(broken.snapshot(&in, resources{}), false)
	await(t, "Envoy's refusal", func() error {
		if s := r.status(t); s.Refused == nil || !s.Taken {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	if nack := r.status(t).Refused; nack.Type != routeType || !slices.Contains(nack.Changed, "gateway.services.orders-1") {
		t.Errorf("the refusal is told as %+v", nack)
	}
	r.apply(t, r.parse(t, renaming(one.URL, 2)))
	if lost, sent := l.stop(); len(lost) > 0 {
		t.Errorf("%d of %d requests were lost: %s", len(lost), sent, lost[0])
	}
}
