package authz

import (
	"context"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"gatehouse.dev/gatehouse/internal/serve"
)

// Check decides one request. It never returns an error: whatever goes wrong is
// a denial.
func (s *Server) Check(ctx context.Context, in *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	d := s.begin()
	response, err := s.guarded(ctx, in, d)
	return s.conclude(ctx, d, response, err), nil
}

// decide is the recipe. A step that fails ends it with the denial; only the
// last line allows.
func (s *Server) decide(ctx context.Context, in *authv3.CheckRequest, d *decision) (*authv3.CheckResponse, error) {
	var err error
	d.request = readRequest(in)
	if d.rule, err = s.ruleOf(ctx, d); err != nil {
		return nil, err
	}
	if err = s.checkPeer(d); err != nil {
		return nil, err
	}
	if err = s.identify(ctx, d); err != nil {
		return nil, err
	}
	if d.feed, err = s.issuers.revoked(d.claims, d.rule); err != nil {
		return nil, err
	}
	if d.revision, err = permit(ctx, s.policies, d); err != nil {
		return nil, err
	}
	assertion, err := s.assertions.make(d)
	if err != nil {
		return nil, err
	}
	set, remove, err := headersFor(d, assertion)
	if err != nil {
		return nil, err
	}
	if d.rule.lease > 0 {
		set = append(set, streamEnd(d.rule.lease, d.claims.ExpiresAt().Sub(s.now())))
	}
	d.verdict = allowed
	return admit(set, remove), nil
}

// ruleOf is the verified rule of the route that Envoy matched, if this Envoy
// may present it.
func (s *Server) ruleOf(ctx context.Context, d *decision) (_ *rule, err error) {
	if d.caller, err = serve.Caller(ctx, s.config.LocalIdentity); err != nil {
		return nil, deny(ReasonCaller, "identifying the Envoy that asks: %w", err)
	}
	if err = s.signing.heard(); err != nil {
		return nil, err
	}
	if s.signing.isDenied(d.caller) {
		return nil, deny(ReasonWorkloadDenied, "the Envoy that asks, %q, was revoked", d.caller)
	}
	if !d.request.hasRule {
		return nil, deny(ReasonRuleMissing, "the route carries no rule: its configuration is not from the control plane")
	}
	rule, err := s.rules.verify(d.request.rule)
	if err != nil {
		return nil, deny(ReasonRuleInvalid, "verifying the rule: %w", err)
	}
	if !rule.admits(d.caller) {
		return nil, deny(ReasonRuleForeign, "the rule of route %q is not for %q", rule.route, d.caller)
	}
	return rule, nil
}

// guarded turns a panic of any step into a denial of this one request.
func (s *Server) guarded(ctx context.Context, in *authv3.CheckRequest, d *decision) (response *authv3.CheckResponse, err error) {
	defer func() {
		if fault := recover(); fault != nil {
			response, err = nil, s.panicked(fault)
		}
	}()
	return s.decide(ctx, in, d)
}

// conclude records the decision and gives Envoy its answer. Without an explicit
// verdict it denies.
func (s *Server) conclude(ctx context.Context, d *decision, response *authv3.CheckResponse, err error) *authv3.CheckResponse {
	if err == nil && d.verdict == allowed && response != nil {
		d.reason = ReasonAllowed
	} else {
		denial := denialOf(err)
		denial.proof = demandsProof(denial.reason, d.request, d.rule)
		d.verdict, d.reason, d.cause = denied, denial.reason, denial.cause
		response = denial.render(d.request, d.requestID())
	}
	response.DynamicMetadata = d.metadata()
	s.record(ctx, d)
	return response
}
