package controlplane

import (
	"strconv"
	"strings"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

const (
	// patience is how long the way to a new snapshot waits for an Envoy's answer
	// before it goes on without: a gap then is better than old routes for ever.
	patience = 15 * time.Second
	// resolving is how long a cluster that is found by name gets for its first
	// answer from DNS. Envoy does not tell over xDS when it has come.
	resolving = 2 * time.Second
	// linger is how long what routes used to lead to stays after they have
	// changed: a request that has its route and waits for its check still goes
	// there.
	linger = 2 * checkTimeout
)

// session decides what one Envoy is sent next over its stream: make before
// break. First come clusters and their secrets; when the Envoy has them, the
// listeners and routes that use them; when it has those, and the last requests
// under the old routes are on their way, what is not needed any more goes.
//
// This is decided from what the Envoy itself says it holds, not from what was
// published before, so it is the same for an edit, for an Envoy that reconnects,
// and for a control plane that starts with another configuration than it ended
// with; a newer snapshot just moves the goal. A session has no goroutine and no
// clock of its own.
type session struct {
	subs   map[string]*subscription
	nonces uint64
	// atOnce drops the order, to prove in tests that it is needed.
	atOnce bool

	target  *Snapshot
	keep    bool      // what target no longer has stays for now
	since   time.Time // when target became the goal
	warm    time.Time // when names of clusters are taken to be resolved
	gone    time.Time // when the old routes are taken to be unused
	made    *Snapshot // what the Envoy has all of
	settled *Snapshot // and nothing else
}

func newSession() *session {
	s := &session{subs: map[string]*subscription{}}
	for _, typeURL := range allTypes {
		s.subs[typeURL] = newSubscription(typeURL)
	}
	return s
}

// refusal is a NACK: what was refused, and why.
type refusal struct {
	snapshot *Snapshot
	typeURL  string
	message  string
}

// receive takes in a request; a NACK comes back.
func (s *session) receive(r *discoveryv3.DeltaDiscoveryRequest, now time.Time) *refusal {
	sub, known := s.subs[r.GetTypeUrl()]
	if !known {
		return nil // a type that nothing of ours leads to
	}
	var refused *refusal
	if sub.awaited != nil && r.GetResponseNonce() == sub.awaited.nonce {
		if detail := r.GetErrorDetail(); detail != nil {
			refused = &refusal{snapshot: sub.refuse(now).snapshot, typeURL: sub.typeURL, message: strings.TrimSpace(detail.GetMessage())}
		} else {
			s.accepted(sub, sub.accept(), now)
		}
	}
	sub.subscribe(r)
	return refused
}

func (s *session) accepted(sub *subscription, r *response, now time.Time) {
	switch sub.typeURL {
	case clusterType:
		for _, sent := range r.sent {
			if r.snapshot.resolved[sent.GetName()] {
				s.warm = now.Add(resolving)
			}
		}
	case listenerType, routeType:
		if len(r.sent) > 0 {
			s.gone = now.Add(linger)
		}
	}
}

// names are how many resources the Envoy asks for or holds.
func (s *session) names() (n int) {
	for _, sub := range s.subs {
		n += max(len(sub.names), len(sub.held))
	}
	return n
}

// aim makes a snapshot the goal; keep: removing nothing yet.
func (s *session) aim(target *Snapshot, keep bool, now time.Time) {
	if target != s.target {
		s.target, s.since, s.made, s.settled = target, now, nil, nil
	}
	s.keep = keep
}

// next is what is to be sent now, at most one response per type.
func (s *session) next(now time.Time) (due []*discoveryv3.DeltaDiscoveryResponse) {
	if s.target == nil {
		return nil
	}
	late := s.atOnce || now.Sub(s.since) >= patience
	ready := late || s.clustersReady(now)
	// Never for being late alone: old routes may still lead there.
	unused := s.atOnce || ready && !s.keep && s.routesHeld() && !now.Before(s.gone)
	for _, typeURL := range allTypes {
		sub := s.subs[typeURL]
		if sub.silent(s.target, now) {
			continue
		}
		r := &response{snapshot: s.target}
		if ready || typeURL == clusterType || typeURL == secretType {
			r.sent = sub.changed(s.target)
		}
		if unused {
			r.removed = sub.surplus(s.target)
		}
		if len(r.sent)+len(r.removed) > 0 {
			due = append(due, s.send(sub, r))
		}
	}
	s.settle()
	return due
}

func (s *session) send(sub *subscription, r *response) *discoveryv3.DeltaDiscoveryResponse {
	s.nonces++
	r.nonce = strconv.FormatUint(s.nonces, 10)
	sub.awaited = r
	return &discoveryv3.DeltaDiscoveryResponse{
		SystemVersionInfo: s.target.Version,
		TypeUrl:           sub.typeURL,
		Nonce:             r.nonce,
		Resources:         r.sent,
		RemovedResources:  r.removed,
	}
}

// clustersReady tells whether routes may lead to the target's clusters.
func (s *session) clustersReady(now time.Time) bool {
	clusters := s.subs[clusterType]
	if !clusters.holds(s.target, sortedKeys(s.target.types[clusterType])) || !s.subs[secretType].holds(s.target, s.target.needed) {
		return false
	}
	// An Envoy without routes has nothing to lose by a name that is not resolved.
	return !now.Before(s.warm) || len(s.subs[routeType].held) == 0
}

func (s *session) routesHeld() bool {
	for _, typeURL := range []string{listenerType, routeType} {
		if !s.subs[typeURL].holds(s.target, sortedKeys(s.target.types[typeURL])) {
			return false
		}
	}
	return true
}

// settle notes when the Envoy has all of the target, and when nothing else.
func (s *session) settle() {
	surplus := false
	for _, typeURL := range allTypes {
		sub := s.subs[typeURL]
		if !sub.holds(s.target, sortedKeys(s.target.types[typeURL])) {
			return
		}
		surplus = surplus || len(sub.surplus(s.target)) > 0
	}
	s.made = s.target
	if !surplus {
		s.settled = s.target
	}
}

// wake is when next may have more to send without a request; zero: not by time
// alone.
func (s *session) wake(now time.Time) time.Time {
	if s.target == nil || s.settled == s.target {
		return time.Time{}
	}
	var soonest time.Time
	consider := func(at time.Time) {
		if at.After(now) && (soonest.IsZero() || at.Before(soonest)) {
			soonest = at
		}
	}
	consider(s.warm)
	consider(s.gone)
	consider(s.since.Add(patience))
	for _, sub := range s.subs {
		if sub.blocked == s.target {
			consider(sub.retryAt)
		}
	}
	return soonest
}
