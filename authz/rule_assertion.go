package authz

import (
	"errors"
	"fmt"
	"slices"

	"gatehouse.dev/gatehouse/envoy"
)

// checkAssertions refuses a rule whose demands on assertions do not fit together.
func (r *rule) checkAssertions(domain string) error {
	switch {
	case slices.Contains(r.peers, ""):
		return errors.New("the rule has an empty one among its peers")
	case r.assertionFor != "" && !isService(r.assertionFor, domain):
		return fmt.Errorf("the rule has the assertion_audience %q, which is no service of %s", r.assertionFor, domain)
	case !r.fromAssertion && r.acting != "":
		return errors.New("the rule has acting, and takes no assertion")
	case !r.fromAssertion:
		return nil
	case !isService(r.audience, domain):
		return fmt.Errorf("the rule takes assertions for %q, which is no service of %s", r.audience, domain)
	case !slices.Equal(r.issuers, []string{envoy.AuthzIdentity(domain)}):
		return fmt.Errorf("the rule takes assertions of %q, not of %q", r.issuers, envoy.AuthzIdentity(domain))
	case r.acting == "":
		return r.checkInbound()
	default:
		return r.checkOutbound()
	}
}

// checkInbound: other machines reach the route, so the peer must be known.
func (r *rule) checkInbound() error {
	switch {
	case len(r.peers) == 0:
		return errors.New("the rule takes assertions from any peer: it needs peers")
	case r.assertionFor != "":
		return errors.New("the rule makes another assertion of one that comes in: that is for outbound routes, with acting")
	}
	return nil
}

// checkOutbound: the service itself calls, through its own sidecar.
func (r *rule) checkOutbound() error {
	switch {
	case r.acting != r.audience || !slices.Equal(r.nodes, []string{r.acting}):
		return errors.New("the rule's acting is not its audience and its one node identity: a service acts for itself alone")
	case r.assertionFor == "":
		return errors.New("the rule has acting, and no assertion_audience")
	case len(r.peers) > 0:
		return errors.New("the rule has acting and peers: a service calls its own sidecar without TLS")
	}
	return nil
}
