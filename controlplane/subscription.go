package controlplane

import (
	"slices"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// What an Envoy holds under a name, besides a version.
const (
	unknownVersion = "?" // it refused something, so nobody can tell
	absentVersion  = "-" // it was told that there is no such resource
)

// subscription is one resource type on one stream: what the Envoy wants, what
// it holds, and the one response it has not answered yet.
type subscription struct {
	typeURL  string
	started  bool
	wildcard bool
	names    map[string]bool
	held     map[string]string // by name; the version
	awaited  *response
	// After a refusal nothing more is sent for that snapshot until retryAt, each
	// time later: a refusal must not become a loop.
	blocked  *Snapshot
	retryAt  time.Time
	attempts int
}

// response is what was sent and not answered yet.
type response struct {
	nonce    string
	snapshot *Snapshot
	sent     []*discoveryv3.Resource
	removed  []string
}

func newSubscription(typeURL string) *subscription {
	return &subscription{typeURL: typeURL, names: map[string]bool{}, held: map[string]string{}}
}

// subscribe takes in what a request asks for (xDS protocol, "Incremental xDS").
func (s *subscription) subscribe(r *discoveryv3.DeltaDiscoveryRequest) {
	if !s.started {
		s.started = true
		for name, version := range r.GetInitialResourceVersions() {
			s.held[name] = version
		}
		// A first request without names asks for all; only these types know that.
		s.wildcard = len(r.GetResourceNamesSubscribe()) == 0 && (s.typeURL == clusterType || s.typeURL == listenerType)
	} else {
		for _, name := range r.GetResourceNamesSubscribe() {
			// Asked for again, it is sent again.
			delete(s.held, name)
		}
	}
	for _, name := range r.GetResourceNamesSubscribe() {
		if name == "*" {
			s.wildcard = true
			continue
		}
		s.names[name] = true
	}
	for _, name := range r.GetResourceNamesUnsubscribe() {
		if name == "*" {
			s.wildcard = false
		}
		delete(s.names, name)
		if !s.wildcard {
			delete(s.held, name)
		}
	}
}

func (s *subscription) wants(name string) bool { return s.wildcard || s.names[name] }

// changed are the resources that the Envoy lacks or has in another version.
func (s *subscription) changed(target *Snapshot) (resources []*discoveryv3.Resource) {
	for _, name := range sortedKeys(target.types[s.typeURL]) {
		r := target.types[s.typeURL][name]
		if s.wants(name) && s.held[name] != r.GetVersion() {
			resources = append(resources, r)
		}
	}
	return resources
}

// surplus are the names that the Envoy holds or waits for and that are no more.
func (s *subscription) surplus(target *Snapshot) (names []string) {
	for name := range s.held {
		if s.held[name] != absentVersion && target.types[s.typeURL][name] == nil {
			names = append(names, name)
		}
	}
	for name := range s.names {
		if _, held := s.held[name]; !held && target.types[s.typeURL][name] == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// holds tells whether the Envoy has all of the target's resources of this type
// and has said so; names: only these.
func (s *subscription) holds(target *Snapshot, names []string) bool {
	if s.awaited != nil {
		return false
	}
	for _, name := range names {
		if r := target.types[s.typeURL][name]; r != nil && s.held[name] != r.GetVersion() {
			return false
		}
	}
	return true
}

// silent tells whether nothing may be sent now: an answer is due, or the Envoy
// refused this snapshot lately.
func (s *subscription) silent(target *Snapshot, now time.Time) bool {
	return !s.started || s.awaited != nil || s.blocked == target && now.Before(s.retryAt)
}

// accept takes in an ACK.
func (s *subscription) accept() *response {
	r := s.awaited
	s.awaited, s.blocked, s.attempts = nil, nil, 0
	for _, sent := range r.sent {
		s.held[sent.GetName()] = sent.GetVersion()
	}
	for _, name := range r.removed {
		delete(s.held, name)
		if s.names[name] {
			s.held[name] = absentVersion
		}
	}
	return r
}

const (
	firstRetry = 10 * time.Second
	lastRetry  = 5 * time.Minute
)

// refuse takes in a NACK: Envoy may have applied a part of it.
func (s *subscription) refuse(now time.Time) *response {
	r := s.awaited
	s.awaited = nil
	for _, sent := range r.sent {
		s.held[sent.GetName()] = unknownVersion
	}
	for _, name := range r.removed {
		s.held[name] = unknownVersion
	}
	s.attempts++
	s.blocked = r.snapshot
	s.retryAt = now.Add(min(firstRetry<<min(s.attempts-1, 8), lastRetry))
	return r
}
