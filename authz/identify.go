package authz

import (
	"context"
	"slices"
)

// identify finds out who a request is from: by its access token at the edge,
// with the proof of what that is bound to; by the assertion that another Envoy
// passed on inside.
func (s *Server) identify(ctx context.Context, d *decision) (err error) {
	if !d.rule.fromAssertion {
		if err = s.issuers.ready(d.rule); err != nil {
			return err
		}
		bearer, err := credential(d.request, d.rule)
		if err != nil {
			return err
		}
		if d.claims, err = s.issuers.claims(ctx, bearer, d.rule); err != nil {
			return err
		}
		return s.bindings.check(d.request, d.rule, bearer, d.claims)
	}
	assertion, err := s.assertions.verify(d.request, d.rule)
	if err != nil {
		return err
	}
	if err := s.checkChain(d, assertion.Requester(), assertion.Actors()); err != nil {
		return err
	}
	d.assertion, d.claims = assertion, assertion.Claims()
	return nil
}

// checkPeer admits the TLS peers that the rule names, and none that was
// revoked. Envoy verified the peer's certificate, and tells its SPIFFE id.
func (s *Server) checkPeer(d *decision) error {
	peer := d.request.peer
	switch {
	case peer != "" && s.signing.isDenied(peer):
		return deny(ReasonWorkloadDenied, "the peer %q was revoked", peer)
	case len(d.rule.peers) > 0 && !slices.Contains(d.rule.peers, peer):
		return deny(ReasonPeer, "the peer is %q, the route is for %q", peer, d.rule.peers)
	}
	return nil
}

// checkChain refuses an assertion that somebody else than its requester
// presents, so that none can be used again by who received it, and one that
// came through a workload that was revoked since.
func (s *Server) checkChain(d *decision, requester string, actors []string) error {
	if d.rule.acting == "" && requester != d.request.peer {
		return deny(ReasonPeer, "the assertion was made for %.200q, and %q presents it", requester, d.request.peer)
	}
	for _, id := range append(slices.Clone(actors), requester) {
		if s.signing.isDenied(id) {
			return deny(ReasonWorkloadDenied, "the assertion came through %.200q, which was revoked", id)
		}
	}
	return nil
}
