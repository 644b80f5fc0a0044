package authz

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	rulev1 "gatehouse.dev/gatehouse/proto/gatehouse/rule/v1"
	"gatehouse.dev/gatehouse/token"
)

// longestMaxAge is the longest revocation_max_age_ms that is believed; beyond
// it the units are wrong.
const longestMaxAge = 30 * 24 * time.Hour

// rule is a verified rulev1.Rule in which nothing is zero or unknown, so that
// no later step has to ask again.
type rule struct {
	route         string
	service       string
	nodes         []string
	issuers       []string
	audience      string
	scopes        []string
	fromBearer    bool
	fromAssertion bool
	fromProof     bool
	policy        string
	maxAge        time.Duration
	assertionFor  string        // whom an assertion is made for; empty: nobody
	peers         []string      // who may be the TLS peer; empty: anybody
	acting        string        // the service that calls out; empty: none does
	lease         time.Duration // how long a response may go on; 0: no stream

	// origins are the gateway's, for DPoP proofs; bindings are what a token must
	// have one of; peerCertificate: the TLS peer's certificate proves its tokens.
	origins         []string
	bindings        []rulev1.TokenBinding
	peerCertificate bool
}

// parseRule reads the signed bytes of a rule. The signature says who made it,
// not that this version understands it: whatever is zero or unknown here would
// otherwise be a demand that nobody checks.
func parseRule(signed []byte, domain string) (*rule, error) {
	var message rulev1.Rule
	if err := proto.Unmarshal(signed, &message); err != nil {
		return nil, fmt.Errorf("decoding the rule: %w", err)
	}
	if err := understood(message.ProtoReflect()); err != nil {
		return nil, err
	}
	r := &rule{
		route: message.GetRoute(), service: message.GetService(),
		nodes: message.GetNodeIdentities(), issuers: message.GetIssuers(),
		audience: message.GetAudience(), scopes: message.GetScopes(), policy: message.GetPolicy(),
		assertionFor: message.GetAssertionAudience(), peers: message.GetPeers(), acting: message.GetActing(),
		origins: message.GetOrigins(), bindings: message.GetBindings(), peerCertificate: message.GetPeerCertificate(),
	}
	return r, errors.Join(
		named("route", r.route), named("service", r.service), named("audience", r.audience),
		listed("node_identities", r.nodes), listed("issuers", r.issuers),
		r.readSources(message.GetTokenSources()), r.readMaxAge(message.GetRevocationMaxAgeMs()), r.readLease(message.GetStreamLeaseMs()), r.checkScopes(),
		r.checkAssertions(domain), r.checkBindings(),
	)
}

// heeded tells whether a step of Check acts upon the field of this number.
func heeded(number protoreflect.FieldNumber) bool {
	return number <= 13 || 30 <= number && number <= 32
}

// understood refuses a rule that demands more than Check looks at, whether or
// not this version knows the demand's name.
func understood(message protoreflect.Message) (err error) {
	if len(message.GetUnknown()) > 0 {
		return errors.New("the rule has fields that this version does not know: upgrade authz before the control plane")
	}
	message.Range(func(field protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		if !heeded(field.Number()) {
			err = fmt.Errorf("the rule sets %s, which this version does not heed: upgrade authz before the control plane", field.Name())
		}
		return err == nil
	})
	return err
}

// admits tells whether the Envoy with this SPIFFE id may present the rule.
func (r *rule) admits(node string) bool { return slices.Contains(r.nodes, node) }

func (r *rule) readSources(sources []rulev1.TokenSource) error {
	if len(sources) == 0 {
		return errors.New("the rule has no token_sources")
	}
	for _, source := range sources {
		switch source {
		case rulev1.TokenSource_TOKEN_SOURCE_AUTHORIZATION_BEARER:
			r.fromBearer = true
		case rulev1.TokenSource_TOKEN_SOURCE_ASSERTION:
			r.fromAssertion = true
		case rulev1.TokenSource_TOKEN_SOURCE_AUTHORIZATION_DPOP:
			r.fromProof = true
		default:
			return fmt.Errorf("the rule has the token source %d, which this version does not know", source)
		}
	}
	if r.fromAssertion && len(sources) > 1 {
		return errors.New("the rule takes assertions and something else: their audiences mean different things")
	}
	return nil
}

func (r *rule) checkBindings() error {
	for _, binding := range r.bindings {
		if binding != rulev1.TokenBinding_TOKEN_BINDING_DPOP && binding != rulev1.TokenBinding_TOKEN_BINDING_CERTIFICATE {
			return fmt.Errorf("the rule has the binding %d, which this version does not know", binding)
		}
	}
	if r.fromProof {
		return listed("origins", r.origins)
	}
	return nil
}

func (r *rule) readMaxAge(ms uint64) error {
	if ms == 0 || ms > uint64(longestMaxAge/time.Millisecond) {
		return fmt.Errorf("the rule has revocation_max_age_ms %d, not 1 to %d", ms, longestMaxAge/time.Millisecond)
	}
	r.maxAge = time.Duration(ms) * time.Millisecond
	return nil
}

// longestLease is the longest stream_lease_ms that is believed.
const longestLease = 24 * time.Hour

func (r *rule) readLease(ms uint64) error {
	if ms > uint64(longestLease/time.Millisecond) {
		return fmt.Errorf("the rule has stream_lease_ms %d, more than %d", ms, longestLease/time.Millisecond)
	}
	r.lease = time.Duration(ms) * time.Millisecond
	return nil
}

func (r *rule) checkScopes() error {
	for _, scope := range r.scopes {
		if !token.IsScope(scope) {
			return fmt.Errorf("the rule has the scope %q, which is no scope-token (RFC 6749 §3.3)", scope)
		}
	}
	return nil
}

func named(field, value string) error {
	if value == "" {
		return fmt.Errorf("the rule has no %s", field)
	}
	return nil
}

func listed(field string, values []string) error {
	if len(values) == 0 || slices.Contains(values, "") {
		return fmt.Errorf("the rule has no %s, or an empty one among them", field)
	}
	return nil
}
