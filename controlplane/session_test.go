package controlplane

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/status"
)

// snapshotOf has resources by "kind name=version"; clusters named dns/… must be
// resolved.
func snapshotOf(resources ...string) *Snapshot {
	kinds := map[string]string{"c": clusterType, "s": secretType, "l": listenerType, "r": routeType}
	s := &Snapshot{Version: strings.Join(resources, " "), types: map[string]map[string]*discoveryv3.Resource{}, resolved: map[string]bool{}}
	for _, typeURL := range allTypes {
		s.types[typeURL] = map[string]*discoveryv3.Resource{}
	}
	for _, text := range resources {
		kind, rest, _ := strings.Cut(text, " ")
		name, version, _ := strings.Cut(rest, "=")
		s.types[kinds[kind]][name] = &discoveryv3.Resource{Name: name, Version: version, Resource: pack(&clusterv3.Cluster{Name: name})}
		s.resolved[name] = strings.HasPrefix(name, "dns/")
	}
	return s
}

// fakeEnvoy is the other side of a session, which answers as Envoy does.
type fakeEnvoy struct {
	t       *testing.T
	session *session
	now     time.Time
	refuses string // the name of a resource that it refuses
	held    map[string]string
	log     []string // what it was sent, as "+c name" and "-c name"
}

func newFakeEnvoy(t *testing.T) *fakeEnvoy {
	return &fakeEnvoy{t: t, session: newSession(), now: time.Unix(1_000_000, 0), held: map[string]string{}}
}

// connect opens the four subscriptions, holding what it held before.
func (e *fakeEnvoy) connect(target *Snapshot) {
	e.session = newSession()
	for _, typeURL := range allTypes {
		r := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL, InitialResourceVersions: map[string]string{}}
		for key, version := range e.held {
			if kind, name, _ := strings.Cut(key, " "); kind == typeURL {
				r.InitialResourceVersions[name] = version
			}
		}
		if typeURL == secretType || typeURL == routeType {
			r.ResourceNamesSubscribe = sortedKeys(target.types[typeURL])
			for name := range r.InitialResourceVersions {
				r.ResourceNamesSubscribe = append(r.ResourceNamesSubscribe, name)
			}
		}
		e.session.receive(r, e.now)
	}
	e.log = nil
}

// exchange answers until nothing more comes at this moment, and tells what was
// sent, in rounds.
func (e *fakeEnvoy) exchange(target *Snapshot) []string {
	e.log = nil
	e.session.aim(target, false, e.now)
	for range 20 {
		due := e.session.next(e.now)
		if len(due) == 0 {
			return e.log
		}
		var round []string
		for _, r := range due {
			round = append(round, e.answer(r)...)
		}
		slices.Sort(round)
		e.log = append(e.log, strings.Join(round, " "))
	}
	e.t.Fatalf("a loop: %v", e.log)
	return nil
}

func (e *fakeEnvoy) answer(r *discoveryv3.DeltaDiscoveryResponse) (sent []string) {
	kind := map[string]string{clusterType: "c", secretType: "s", listenerType: "l", routeType: "r"}[r.GetTypeUrl()]
	ack := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()}
	for _, resource := range r.GetResources() {
		sent = append(sent, "+"+kind+"/"+resource.GetName())
		if resource.GetName() == e.refuses {
			ack.ErrorDetail = &status.Status{Message: "no"}
		}
	}
	for _, name := range r.GetRemovedResources() {
		sent = append(sent, "-"+kind+"/"+name)
	}
	if ack.ErrorDetail == nil {
		for _, resource := range r.GetResources() {
			e.held[r.GetTypeUrl()+" "+resource.GetName()] = resource.GetVersion()
		}
		for _, name := range r.GetRemovedResources() {
			delete(e.held, r.GetTypeUrl()+" "+name)
		}
	}
	e.session.receive(ack, e.now)
	return sent
}

// pass moves the clock.
func (e *fakeEnvoy) pass(d time.Duration) { e.now = e.now.Add(d) }

func expect(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

var (
	before = snapshotOf("c authz=1", "c a=1", "s edge=1", "l edge=1", "r edge=1")
	after  = snapshotOf("c authz=1", "c b=1", "s edge=1", "l edge=1", "r edge=2")
)

// started is an Envoy that has before, wholly.
func started(t *testing.T) *fakeEnvoy {
	e := newFakeEnvoy(t)
	e.connect(before)
	expect(t, "the start", e.exchange(before), "+c/a +c/authz +s/edge", "+l/edge +r/edge")
	if e.session.settled != before {
		t.Fatal("an Envoy that has everything is not settled")
	}
	e.pass(time.Hour)
	return e
}

// Make, switch, wait, break.
func TestOrder(t *testing.T) {
	e := started(t)
	expect(t, "the edit", e.exchange(after), "+c/b", "+r/edge")
	e.pass(linger - 1)
	expect(t, "before requests under way are done", e.exchange(after))
	if at := e.session.wake(e.now); at.Sub(e.now) != 1 {
		t.Errorf("it would wake in %v", at.Sub(e.now))
	}
	e.pass(1)
	expect(t, "after", e.exchange(after), "-c/a")
	if e.session.settled != after || !e.session.wake(e.now).IsZero() {
		t.Error("not settled, or it would wake for nothing")
	}
}

// A cluster that is found by name gets time for it.
func TestOrderWaitsForNames(t *testing.T) {
	e := started(t)
	named := snapshotOf("c authz=1", "c dns/b=1", "s edge=1", "l edge=1", "r edge=2")
	expect(t, "the edit", e.exchange(named), "+c/dns/b")
	e.pass(resolving)
	expect(t, "after resolving", e.exchange(named), "+r/edge")
}

// Routes wait for the secrets of their clusters.
func TestOrderWaitsForSecrets(t *testing.T) {
	e := started(t)
	withSecret := snapshotOf("c authz=1", "c b=1", "s edge=1", "s client=1", "l edge=1", "r edge=2")
	withSecret.needed = []string{"client"}
	expect(t, "before it is asked for", e.exchange(withSecret), "+c/b")
	e.session.receive(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: secretType, ResourceNamesSubscribe: []string{"client"}}, e.now)
	expect(t, "then", e.exchange(withSecret), "+s/client", "+r/edge")
}

// An Envoy that does not ask for what it needs does not keep its old routes for
// ever, nor does it lose what they lead to.
func TestOrderHasAnEnd(t *testing.T) {
	e := started(t)
	stuck := snapshotOf("c authz=1", "c b=1", "s edge=1", "s client=1", "l edge=1", "r edge=2", "r never=1")
	stuck.needed = []string{"client"}
	e.exchange(stuck)
	e.pass(patience)
	expect(t, "after the patience", e.exchange(stuck), "+r/edge")
	e.pass(time.Hour)
	expect(t, "removals", e.exchange(stuck))
}

// An Envoy that comes back is sent what it lacks, in the same order, though this
// control plane never knew what it held.
func TestReconnect(t *testing.T) {
	e := started(t)
	e.connect(before)
	expect(t, "to the same", e.exchange(before))
	if e.session.settled != before {
		t.Error("not settled at once")
	}
	e.connect(after)
	expect(t, "to another", e.exchange(after), "+c/b", "+r/edge")
	e.connect(after) // in between
	expect(t, "once more", e.exchange(after), "-c/a")
}

// A newer edit moves the goal at any point of the way.
func TestNewerEditWins(t *testing.T) {
	e := started(t)
	e.session.aim(after, false, e.now)
	due := e.session.next(e.now) // +c/b, not answered yet
	newest := snapshotOf("c authz=1", "c n=1", "s edge=1", "l edge=1", "r edge=3")
	e.session.aim(newest, false, e.now)
	expect(t, "while an answer is due", e.exchange(newest))
	e.answer(due[0])
	expect(t, "then", e.exchange(newest), "+c/n", "+r/edge")
	e.pass(linger)
	expect(t, "at last", e.exchange(newest), "-c/a -c/b")
}

// After a NACK the same is not sent again at once, and the last good snapshot
// is sent whole, as nobody knows what Envoy kept.
func TestRefusal(t *testing.T) {
	e := started(t)
	e.refuses = "b"
	bad := snapshotOf("c authz=2", "c b=1", "s edge=1", "l edge=1", "r edge=2")
	expect(t, "the edit", e.exchange(bad), "+c/authz +c/b")
	expect(t, "again", e.exchange(bad))
	expect(t, "the last good one", e.exchange(before), "+c/authz", "-c/b")
	if e.session.settled != before {
		t.Error("not settled on the last good one")
	}
}

// Where there is no last good one, it is tried again, later and later.
func TestRefusalIsTriedAgain(t *testing.T) {
	e := newFakeEnvoy(t)
	e.refuses = "edge"
	e.connect(before)
	e.exchange(before)
	for i, wait := range []time.Duration{firstRetry, 2 * firstRetry, 4 * firstRetry} {
		e.pass(wait - 1)
		expect(t, fmt.Sprint("too early ", i), e.exchange(before))
		e.pass(1)
		if got := e.exchange(before); len(got) != 1 {
			t.Errorf("try %d: %v", i, got)
		}
	}
	e.refuses = ""
	e.pass(lastRetry)
	e.exchange(before)
	if e.session.settled != before {
		t.Error("it does not recover")
	}
}

// Subscriptions follow the protocol: names come and go, and asking again gets
// an answer again.
func TestSubscriptions(t *testing.T) {
	e := started(t)
	ask := func(subscribe, unsubscribe string) []string {
		r := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: routeType}
		if subscribe != "" {
			r.ResourceNamesSubscribe = []string{subscribe}
		}
		if unsubscribe != "" {
			r.ResourceNamesUnsubscribe = []string{unsubscribe}
		}
		e.session.receive(r, e.now)
		return e.exchange(before)
	}
	expect(t, "asked again", ask("edge", ""), "+r/edge")
	e.pass(linger)
	expect(t, "not there", ask("none", ""), "-r/none")
	expect(t, "given up", ask("", "none"))
	expect(t, "not wanted any more", ask("", "edge"))
	expect(t, "wanted after all", ask("edge", ""), "+r/edge")
	// A stale answer and an unknown type are nothing.
	e.session.receive(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: routeType, ResponseNonce: "old", ErrorDetail: &status.Status{}}, e.now)
	e.session.receive(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: "type.googleapis.com/unknown"}, e.now)
	expect(t, "nothing", e.exchange(before))
}
