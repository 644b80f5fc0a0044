package authz

import (
	"context"
	"net"
	"strings"

	"gatehouse.dev/gatehouse/policies"
)

// policySource has the current policies.
type policySource interface{ Current() *policies.Set }

// permit asks the scope policy and the one that the rule names. It returns the
// revision of the policies it asked.
func permit(ctx context.Context, source policySource, d *decision) (revision string, err error) {
	set, rule := source.Current(), d.rule
	if set == nil {
		return "", deny(ReasonPolicyMissing, "no policies are loaded")
	}
	if rule.policy != "" && !set.Has(rule.policy) {
		return set.Revision(), deny(ReasonPolicyMissing, "no policy %q is loaded; there are %s", rule.policy, strings.Join(set.Names(), ", "))
	}
	verdict, err := set.Decide(ctx, rule.policy, policyInput(d))
	switch {
	case err != nil:
		return set.Revision(), deny(ReasonPolicyError, "deciding: %w", err)
	case verdict.Allow:
		return set.Revision(), nil
	case verdict.DeniedBy == policies.ScopePolicy:
		return set.Revision(), insufficientScope(rule, verdict)
	default:
		return set.Revision(), deny(ReasonPolicy, "%s: %s", verdict.DeniedBy, verdict.Reason)
	}
}

func insufficientScope(rule *rule, verdict policies.Verdict) error {
	err := denialOf(deny(ReasonInsufficientScope, "%s: %s", verdict.DeniedBy, verdict.Reason))
	err.scopes = rule.scopes
	return err
}

// policyInput is the document that policies see; it has no credential in it.
func policyInput(d *decision) policies.Input {
	r, rule, claims := d.request, d.rule, d.claims
	input := policies.Input{
		Route: policies.Route{ID: rule.route, Service: rule.service},
		Request: policies.Request{
			Method: r.method, Path: r.path, Query: r.query, Host: hostname(r.host),
			SourceAddress: r.source,
		},
		Token: policies.Token{
			Issuer: claims.Issuer(), Subject: claims.Subject(), SubjectType: claims.SubjectType(), ClientID: claims.ClientID(),
			Audience: claims.Audience(), Scopes: claims.Scopes(), Roles: claims.Roles(),
			ID: claims.ID(), SessionID: claims.SessionID(), GrantID: claims.GrantID(),
			IssuedAt: claims.IssuedAt(), ExpiresAt: claims.ExpiresAt(),
		},
		Required: policies.Required{Scopes: rule.scopes},
	}
	if d.assertion != nil {
		input.Assertion = policies.Assertion{Caller: d.assertion.Requester(), Actors: d.assertion.Actors()}
	}
	if rule.policy != "" {
		// Decoding costs more than all else here, and the scope policy reads
		// neither these nor the headers.
		input.Token.Claims, input.Request.Headers = claims.Raw(), policyHeaders(r)
	}
	return input
}

// policyHeaders joins the lines of one header as RFC 9110 §5.3 has it. Pseudo
// headers have members of their own, and credentials are left out.
func policyHeaders(r *request) map[string]string {
	headers := map[string]string{}
	for name, value := range r.headers {
		switch {
		case name == "authorization" || name == "cookie" || strings.HasPrefix(name, ":"):
		case headers[name] != "":
			headers[name] += ", " + value
		default:
			headers[name] = value
		}
	}
	return headers
}

// hostname is an authority without its port.
func hostname(authority string) string {
	if host, _, err := net.SplitHostPort(authority); err == nil {
		return host
	}
	return strings.TrimSuffix(strings.TrimPrefix(authority, "["), "]")
}
