package authz

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	rulev1 "gatehouse.dev/gatehouse/proto/gatehouse/rule/v1"
	"gatehouse.dev/gatehouse/token"
)

// proofMaxAge is how old a DPoP proof may be (RFC 9449 §11.1), and with the skew
// how long its jti is remembered.
const proofMaxAge = time.Minute

// proofAlgorithms are what DPoP proofs may be signed with. RSA keys are left
// out: with a key of the caller's choice they cost us most.
var proofAlgorithms = []token.Algorithm{token.ES256, token.ES384, token.EdDSA}

// bindings check that whoever presents a bound token holds what it is bound to
// (RFC 7800 §3).
type bindings struct {
	skew time.Duration
	now  func() time.Time
	// used are the proofs of late. Each authorizer has its own, so a proof may be
	// replayed once at each.
	used *token.Replays
}

// check denies a token that is bound to what the request does not prove, one
// that came in another way than its kind must, and one that is not bound where
// the rule wants it to be.
func (b *bindings) check(r *request, rule *rule, compact string, claims *token.Claims) error {
	bound, byProof := claims.Confirmation(), r.byProof()
	switch {
	case byProof && bound.KeyThumbprint == "": // RFC 9449 §7.1
		return deny(ReasonUnbound, "the token came with the scheme DPoP and is bound to no key")
	case !byProof && bound.KeyThumbprint != "": // RFC 9449 §7.2
		return deny(ReasonUnproven, "the token is bound to a key and came without the scheme DPoP")
	case !rule.wants(bound):
		return deny(ReasonUnbound, "the route wants tokens that are bound to one of %v", rule.bindings)
	}
	if bound.CertificateThumbprint != "" {
		if err := r.checkCertificate(rule, bound); err != nil {
			return deny(ReasonUnproven, "the token is bound to a certificate: %w", err)
		}
	}
	if byProof {
		return b.checkProof(r, rule, compact, bound)
	}
	return nil
}

// wants tells whether what a token is bound to is enough for the rule.
func (r *rule) wants(bound token.Confirmation) bool {
	return len(r.bindings) == 0 ||
		bound.KeyThumbprint != "" && slices.Contains(r.bindings, rulev1.TokenBinding_TOKEN_BINDING_DPOP) ||
		bound.CertificateThumbprint != "" && slices.Contains(r.bindings, rulev1.TokenBinding_TOKEN_BINDING_CERTIFICATE)
}

// checkProof checks the request's DPoP proof (RFC 9449 §4.3). Its jti counts
// once all else is right, so that no stranger can use it up.
func (b *bindings) checkProof(r *request, rule *rule, compact string, bound token.Confirmation) error {
	if len(r.proofs) != 1 {
		return deny(ReasonProof, "the request has %d DPoP headers", len(r.proofs))
	}
	now := b.now()
	urls := make([]string, len(rule.origins))
	for i, origin := range rule.origins {
		urls[i] = origin + r.path
	}
	proof, err := token.VerifyProof(r.proofs[0], token.ProofRequest{Method: r.method, URLs: urls, AccessToken: compact},
		token.ProofRules{Algorithms: proofAlgorithms, MaxAge: proofMaxAge, Skew: b.skew}, now)
	if err != nil {
		return deny(ReasonProof, "verifying the DPoP proof: %w", err)
	}
	if !proof.Proves(bound) {
		return deny(ReasonUnproven, "the DPoP proof is by another key than the one that the token is bound to")
	}
	switch err := b.used.Use(now, proof.IssuedAt().Add(proofMaxAge), proof.Thumbprint(), proof.ID()); {
	case errors.Is(err, token.ErrReplaysFull):
		return deny(ReasonProofsFull, "remembering the DPoP proof: %w: raise authz.proof_entries", err)
	case err != nil:
		return deny(ReasonProof, "the DPoP proof: %w", err)
	}
	return nil
}

// byProof tells whether the access token came with the scheme DPoP.
func (r *request) byProof() bool {
	if len(r.authorization) != 1 {
		return false
	}
	scheme, _, _ := strings.Cut(r.authorization[0], " ")
	return strings.EqualFold(scheme, "DPoP")
}

// checkCertificate holds the certificate of the TLS peer, of whose private key
// Envoy has seen the proof in the handshake, against the token's (RFC 8705 §3).
func (r *request) checkCertificate(rule *rule, bound token.Confirmation) error {
	if !rule.peerCertificate || r.certificate == "" {
		return errors.New("the connection has none: it is shown at the host for mutual TLS alone")
	}
	text, err := url.PathUnescape(r.certificate)
	if err != nil {
		return err
	}
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return errors.New("the one that Envoy tells is no PEM")
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return err
	}
	if token.CertificateThumbprint(certificate) != bound.CertificateThumbprint {
		return errors.New("the connection's is another")
	}
	return nil
}

// demandsProof tells whether a caller has to be told about DPoP: it tried, or
// the route takes nothing else.
func demandsProof(reason Reason, r *request, rule *rule) bool {
	return reason == ReasonProof || r != nil && r.byProof() ||
		rule != nil && len(rule.bindings) == 1 && rule.bindings[0] == rulev1.TokenBinding_TOKEN_BINDING_DPOP
}

// proofChallenge is the part of a challenge that names the algorithms (RFC 9449
// §7.1).
var proofChallenge = func() string {
	names := make([]string, len(proofAlgorithms))
	for i, algorithm := range proofAlgorithms {
		names[i] = string(algorithm)
	}
	return `DPoP algs="` + strings.Join(names, " ") + `"`
}()
