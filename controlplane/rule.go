package controlplane

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"gatehouse.dev/gatehouse/envoy"
	rulev1 "gatehouse.dev/gatehouse/proto/gatehouse/rule/v1"
)

// RuleSigner signs rules. Ed25519 is deterministic (RFC 8032 §5.1.6) and no
// time is signed, so that replicas with one key make identical rules.
type RuleSigner struct {
	key ed25519.PrivateKey
	id  []byte
}

// NewRuleSigner signs with key.
func NewRuleSigner(key ed25519.PrivateKey) *RuleSigner {
	return &RuleSigner{key: key, id: envoy.RuleKeyID(key.Public().(ed25519.PublicKey))}
}

// readRuleSigner reads the PEM file of a rule key, which nobody else may read.
func readRuleSigner(file string) (*RuleSigner, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("%w (`gatehouse init` makes one)", err)
	}
	if info.Mode().Perm()&^fs.FileMode(0o700) != 0 {
		return nil, fmt.Errorf("%q has the mode %o, and others may use it: chmod 600 it", file, info.Mode().Perm())
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("%q holds no PEM block PRIVATE KEY: move it away, and `gatehouse init` makes a new one", file)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parsing %q: %w", file, err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%q holds a %T: rules are signed with Ed25519 keys alone", file, parsed)
	}
	return NewRuleSigner(key), nil
}

// sign is the rule as it travels in context_extensions.
func (s *RuleSigner) sign(rule *rulev1.Rule) string {
	bytes := pack(rule).GetValue()
	signed := &rulev1.SignedRule{
		Rule:      bytes,
		Signature: ed25519.Sign(s.key, append([]byte(envoy.RuleContext), bytes...)),
		KeyId:     s.id,
	}
	return base64.RawURLEncoding.EncodeToString(pack(signed).GetValue())
}

// edgeRule is what a route of the edge demands. Lists whose order says nothing
// are sorted, so that writing them in another order changes nothing.
func edgeRule(g *Gateway, r *Route, trustDomain string) *rulev1.Rule {
	rule := &rulev1.Rule{
		Route:              r.ID,
		Service:            r.Service,
		NodeIdentities:     []string{envoy.EdgeIdentity(trustDomain)},
		Issuers:            ordered(g.issuersOf(r)),
		Audience:           g.audienceOf(r),
		Scopes:             ordered(r.Scopes),
		Policy:             r.Policy,
		RevocationMaxAgeMs: milliseconds(g.maxAgeOf(r)),
		// With a sidecar or without, a service may verify who calls.
		AssertionAudience: envoy.ServiceIdentity(trustDomain, r.Service),
		StreamLeaseMs:     milliseconds(r.Stream),
	}
	g.bind(rule, r.TokenBinding)
	return rule
}

// inboundRule is what a service's own sidecar demands: an assertion for this
// service, from one of the peers.
func inboundRule(g *Gateway, r *Route, trustDomain string, peers []string) *rulev1.Rule {
	self := envoy.ServiceIdentity(trustDomain, r.Service)
	return &rulev1.Rule{
		Route:              r.ID,
		Service:            r.Service,
		NodeIdentities:     []string{self},
		Issuers:            []string{envoy.AuthzIdentity(trustDomain)},
		Audience:           self,
		Scopes:             ordered(r.Scopes),
		TokenSources:       []rulev1.TokenSource{rulev1.TokenSource_TOKEN_SOURCE_ASSERTION},
		Policy:             r.Policy,
		RevocationMaxAgeMs: milliseconds(g.maxAgeOf(r)),
		Peers:              peers,
	}
}

// outboundRule trades the assertion that a service got for one with which it
// may call another.
func outboundRule(g *Gateway, caller, target, trustDomain string) *rulev1.Rule {
	self := envoy.ServiceIdentity(trustDomain, caller)
	return &rulev1.Rule{
		Route:              outboundRoute,
		Service:            target,
		NodeIdentities:     []string{self},
		Issuers:            []string{envoy.AuthzIdentity(trustDomain)},
		Audience:           self,
		TokenSources:       []rulev1.TokenSource{rulev1.TokenSource_TOKEN_SOURCE_ASSERTION},
		RevocationMaxAgeMs: milliseconds(g.RevocationMaxAge),
		AssertionAudience:  envoy.ServiceIdentity(trustDomain, target),
		Acting:             self,
	}
}

func milliseconds(d time.Duration) uint64 { return uint64(d / time.Millisecond) }

func ordered(list []string) []string {
	sorted := slices.Clone(list)
	slices.Sort(sorted)
	return slices.Compact(sorted)
}
