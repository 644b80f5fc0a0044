//go:build soak

package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/e2e/harness"
	"gatehouse.dev/gatehouse/envoy"
)

// Certificates of every kind, roots and assertion keys rotate, and each part is
// restarted or replaced, for as long as there is time, under a load that must
// lose nothing. It runs with no other test beside it: a certificate of ten
// seconds that is renewed at half of that leaves no time for a machine that is
// busy with something else.
func TestSoakMesh(t *testing.T) {
	again := until(t)
	m := startMesh(t, harness.Options{Configure: shortLived(t)})
	f := m.startTraffic(t)
	f.awaitMore(t, 20)
	f.observe(t)
	authorizers := 2 // that were started
	upkeep := []struct {
		name string
		do   func()
	}{
		{"restart of an authorizer", func() { authorizers++; m.restart(t, harness.Authz) }},
		{"another sidecar of orders", func() { m.replace(t, "orders") }},
		{"restart of the control plane", func() { m.restart(t, harness.ControlPlane) }},
		{"restart of the other authorizer", func() { authorizers++; m.restart(t, harness.AuthzName(1)) }},
		{"another sidecar of profile", func() { m.replace(t, "profile") }},
	}
	least := leastTurns(t)
	for round := 0; round < least.certificates || again(round); round++ {
		began := time.Now()
		f.tokens.replace(m.Token(t, m.robot, "read:orders"))
		m.rotateRoot(t)
		f.awaitMore(t, 20)
		next := upkeep[round%len(upkeep)]
		next.do()
		f.awaitMore(t, 20)
		t.Logf("round %d, a root and %s: %v", round+1, next.name, time.Since(began).Round(100*time.Millisecond))
	}
	if err := harness.Try(3*time.Minute, func() error { return f.turns(least, authorizers) }); err != nil {
		t.Error(err)
	}
	f.expectNoneLost(t, 100)
	f.tell(t, authorizers)
}

// least is how often everything has to rotate: there is time for 20 times in ten
// minutes.
type least struct{ certificates, keys int }

func leastTurns(t *testing.T) least {
	if soaking(t) >= 10*time.Minute {
		return least{20, 20}
	}
	return least{2, 1}
}

// observe looks all the time at what each part shows, until the test ends.
func (f *traffic) observe(t *testing.T) {
	config := f.m.Config()
	addresses, _ := config.Get("controlplane.authz").([]string)
	if len(addresses) != 2 {
		t.Fatalf("the authorizers are at %v", config.Get("controlplane.authz"))
	}
	shown := map[string]*tls.Config{}
	at := map[string]string{}
	watch := func(part, id, address string) {
		shown[part], at[part] = f.asEdge(part, id), address
		shown[part].NextProtos = []string{"h2"}
	}
	for i, address := range addresses {
		watch(harness.AuthzName(i), envoy.AuthzIdentity(trustDomain), address)
	}
	watch("the control plane", envoy.ControlPlaneIdentity(trustDomain), config.Text("controlplane.listen"))
	watch("the sidecar of profile", profileID, f.m.Address("profile"))

	ctx, stop := context.WithCancel(context.Background())
	var all sync.WaitGroup
	t.Cleanup(func() { stop(); all.Wait() })
	all.Go(func() {
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			for part, config := range shown {
				// It may be away: that is the loads' business.
				if conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 2 * time.Second}, "tcp", at[part], config); err == nil {
					conn.Close()
				}
			}
			f.observeEdge()
			f.learn(t)
		}
	})
}

// observeEdge notes the certificate with which the edge's Envoy calls others.
func (f *traffic) observeEdge() {
	var answer struct {
		Certificates []struct {
			Chain []struct {
				Serial string `json:"serial_number"`
				Names  []struct {
					URI string `json:"uri"`
				} `json:"subject_alt_names"`
			} `json:"cert_chain"`
		} `json:"certificates"`
	}
	_, body, err := harness.Get("http://" + f.m.Config().Text("envoy.admin") + "/certs")
	if err != nil || json.Unmarshal([]byte(body), &answer) != nil {
		return
	}
	for _, c := range answer.Certificates {
		for _, link := range c.Chain {
			if len(link.Names) == 1 && link.Names[0].URI == edgeID {
				f.seen.note(leavesOf("the edge"), link.Serial)
			}
		}
	}
}

// observed are the parts whose leaves somebody has seen.
var observed = []string{harness.Authz, harness.AuthzName(1), "the control plane", "the edge", "the sidecar of orders", "the sidecar of profile"}

// turns is what rotated too seldom. Of certificates the first is not counted, and
// of assertion keys as many as authorizers were started: those did not replace one
// that grew old.
func (f *traffic) turns(least least, authorizers int) error {
	kinds := []string{roots, intermediates}
	for _, part := range observed {
		kinds = append(kinds, leavesOf(part))
	}
	for _, kind := range kinds {
		if n := f.seen.count(kind) - 1; n < least.certificates {
			return fmt.Errorf("%s rotated %d times, not %d", kind, n, least.certificates)
		}
	}
	if n := f.seen.count(assertionKeys) - authorizers; n < least.keys {
		return fmt.Errorf("assertion keys rotated by age %d times, not %d", n, least.keys)
	}
	return nil
}

// tell logs how often everything rotated, as its peers saw it.
func (f *traffic) tell(t *testing.T, authorizers int) {
	t.Logf("rotations seen by peers: roots %d, intermediates %d, assertion keys %d by age and %d by starts of authorizers",
		f.seen.count(roots)-1, f.seen.count(intermediates)-1, f.seen.count(assertionKeys)-authorizers, authorizers-2)
	for _, part := range observed {
		t.Logf("rotations seen by peers: %s %d", leavesOf(part), f.seen.count(leavesOf(part))-1)
	}
	for _, name := range sorted(f.loads) {
		t.Logf("%d requests %s", len(f.loads[name].Stop()), name)
	}
}

// replace leaves no token but this one: the others end in time.
func (n *newest) replace(access string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.tokens = []string{access}
}

func (m *mesh) restart(t *testing.T, part string) {
	t.Helper()
	m.Process(part).Stop(t)
	m.StartPart(t, part)
}
