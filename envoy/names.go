// Package envoy holds what the control plane, the authorizer and a running
// Envoy must agree on: names, the bootstrap, and the Envoy process itself.
package envoy

import (
	"crypto/ed25519"
	"crypto/sha256"
)

// Where a route's Rule travels, and what its signature covers.
const (
	// RuleExtension is the key of ext_authz's context_extensions whose value is
	// the route's SignedRule, base64url without padding.
	RuleExtension = "gatehouse-rule"
	// RuleContext stands in front of the Rule's bytes when they are signed, so
	// that the signature means nothing anywhere else.
	RuleContext = "gatehouse-rule-v1\x00"
)

// Headers through which services learn who is calling.
const (
	// HeaderPrefix begins every header that only Gatehouse may set.
	HeaderPrefix      = "x-gatehouse-"
	HeaderSubject     = HeaderPrefix + "subject"
	HeaderSubjectType = HeaderPrefix + "subject-type"
	HeaderClientID    = HeaderPrefix + "client-id"
	HeaderScope       = HeaderPrefix + "scope"
	HeaderRoles       = HeaderPrefix + "roles"
	HeaderIssuer      = HeaderPrefix + "issuer"
	// HeaderActor lists the SPIFFE ids of the services that call on the
	// subject's behalf, the nearest first; absent on requests from the edge.
	HeaderActor = HeaderPrefix + "actor"
	// AssertionHeader carries the signed assertion; it is outside the prefix so
	// that one prefix rule strips everything else.
	AssertionHeader = "gatehouse-assertion"
	// StreamDurationHeader is Envoy's own: how long, in milliseconds, a stream
	// may go on.
	StreamDurationHeader = "x-envoy-upstream-stream-duration-ms"
	// NarrowHeader is how a service that calls another passes on fewer scopes
	// than it has: those that it lists, separated by spaces.
	NarrowHeader = "gatehouse-narrow-scope"
)

// MetadataNamespace is where Envoy puts the dynamic metadata of the ext_authz
// filter, whatever the filter's configured name.
const MetadataNamespace = "envoy.filters.http.ext_authz"

// What an Envoy says of a request that is watched while it is under way, by
// whoever ends it when a workload that has a part in it is revoked.
const (
	// PeerAttribute is Envoy's own: the first URI of the peer's certificate.
	PeerAttribute = "connection.uri_san_peer_certificate"
	// TargetMetadata is the gRPC metadata with the SPIFFE id of the service that
	// the request goes to.
	TargetMetadata = "gatehouse-target"
)

// EdgeGroup is the node group, Envoy's `cluster`, of the edge.
const EdgeGroup = "edge"

// ServiceGroup is the node group of a service's sidecars.
func ServiceGroup(service string) string { return "service/" + service }

// EdgeIdentity is the SPIFFE id of the edge Envoys.
func EdgeIdentity(trustDomain string) string { return identity(trustDomain, "gateway/edge") }

// AuthzIdentity is the SPIFFE id of the authorizers.
func AuthzIdentity(trustDomain string) string { return identity(trustDomain, "authz") }

// ControlPlaneIdentity is the SPIFFE id of the control plane.
func ControlPlaneIdentity(trustDomain string) string { return identity(trustDomain, "controlplane") }

// IssuerIdentity is the SPIFFE id of the issuer.
func IssuerIdentity(trustDomain string) string { return identity(trustDomain, "issuer") }

// RateLimitIdentity is the SPIFFE id of the rate-limit service.
func RateLimitIdentity(trustDomain string) string { return identity(trustDomain, "ratelimit") }

// ServiceIdentity is the SPIFFE id of a service's sidecar.
func ServiceIdentity(trustDomain, service string) string {
	return identity(trustDomain, "service/"+service)
}

func identity(trustDomain, path string) string { return "spiffe://" + trustDomain + "/" + path }

// RuleKeyID is the SignedRule's key_id: the first 8 bytes of the SHA-256 of
// the public key.
func RuleKeyID(public ed25519.PublicKey) []byte {
	sum := sha256.Sum256(public)
	return sum[:8]
}
