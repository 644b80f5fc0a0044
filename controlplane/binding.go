package controlplane

import (
	"net/url"

	"gatehouse.dev/gatehouse/internal/conf"
	rulev1 "gatehouse.dev/gatehouse/proto/gatehouse/rule/v1"
)

// TokenBinding is what a route demands of what its tokens are bound to.
type TokenBinding string

// Demands of a route. Whatever a token is bound to has to be proven on every
// route.
const (
	// BindingAny takes tokens that are bound to nothing, too.
	BindingAny TokenBinding = "any"
	// BindingRequired takes bound tokens alone.
	BindingRequired TokenBinding = "required"
	// BindingDPoP takes tokens that are bound to a DPoP key alone.
	BindingDPoP TokenBinding = "dpop"
	// BindingMTLS takes tokens that are bound to a TLS certificate alone.
	BindingMTLS TokenBinding = "mtls"
)

// bind writes into a rule what its tokens must be bound to, and by what that is
// proven.
func (g *Gateway) bind(rule *rulev1.Rule, demand TokenBinding) {
	const bearer, dpop = rulev1.TokenSource_TOKEN_SOURCE_AUTHORIZATION_BEARER, rulev1.TokenSource_TOKEN_SOURCE_AUTHORIZATION_DPOP
	const key, certificate = rulev1.TokenBinding_TOKEN_BINDING_DPOP, rulev1.TokenBinding_TOKEN_BINDING_CERTIFICATE
	rule.TokenSources = []rulev1.TokenSource{bearer, dpop}
	rule.Origins = g.origins()
	rule.PeerCertificate = g.MTLSHost != ""
	switch demand {
	case BindingDPoP:
		rule.TokenSources, rule.Bindings = []rulev1.TokenSource{dpop}, []rulev1.TokenBinding{key}
	case BindingMTLS:
		rule.Bindings = []rulev1.TokenBinding{certificate}
	case BindingRequired:
		rule.Bindings = []rulev1.TokenBinding{key, certificate}
	}
}

// origins are those by which clients know the gateway.
func (g *Gateway) origins() []string {
	public, err := url.Parse(g.PublicURL)
	if err != nil {
		panic(packError{err})
	}
	origins := []string{public.Scheme + "://" + public.Host}
	if g.MTLSHost != "" {
		origins = append(origins, g.MTLSURL())
	}
	return ordered(origins)
}

// MTLSURL is the URL of the host for mutual TLS; empty: there is none.
func (g *Gateway) MTLSURL() string {
	public, err := url.Parse(g.PublicURL)
	if g.MTLSHost == "" || err != nil {
		return ""
	}
	if public.Port() == "" {
		return public.Scheme + "://" + g.MTLSHost
	}
	return public.Scheme + "://" + g.MTLSHost + ":" + public.Port()
}

// validateBinding reports a demand that is none, or that nothing can meet.
func (r *Route) validateBinding(mtls bool) (vs conf.Violations) {
	switch r.TokenBinding {
	case "", BindingAny, BindingRequired, BindingDPoP:
	case BindingMTLS:
		if !mtls {
			vs.Add("token_binding", r.TokenBinding, "cannot be met: clients can show no certificate", "set gateway.mtls_host")
		}
	default:
		vs.Add("token_binding", r.TokenBinding, "is no binding", "write any, required, dpop or mtls")
	}
	return vs
}
