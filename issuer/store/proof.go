package store

import (
	"context"
	"time"
)

// ClientProof is how a client proves itself other than by a secret (OpenID
// Connect Core §9, RFC 8705 §2). Zero: by its secret, where it has one.
type ClientProof struct {
	// Method is private_key_jwt, tls_client_auth or
	// self_signed_tls_client_auth; empty: by a secret.
	Method string
	// JWKS is the client's JWK Set; JWKSURI is where it is fetched. With
	// private_key_jwt there is one of the two.
	JWKS    []byte
	JWKSURI string
	// Algorithms are those that private_key_jwt may sign with.
	Algorithms []string
	// Name is whom the certificate of tls_client_auth has to name.
	Name CertificateName
	// Thumbprints are x5t#S256 of the certificates of
	// self_signed_tls_client_auth.
	Thumbprints []string
}

// CertificateName is the one name that a client's certificate must have (RFC
// 8705 §2.1.2): exactly one member is set.
type CertificateName struct {
	// SubjectDN is the subject in the form of RFC 4514.
	SubjectDN string
	// DNS, URI, IP and Email are subject alternative names.
	DNS, URI, IP, Email string
}

// Holder is a key that somebody has: by the RFC 7638 thumbprint of a DPoP key,
// or by x5t#S256 of a TLS certificate.
type Holder struct {
	KeyThumbprint         string
	CertificateThumbprint string
}

// Onces are what may be used once, such as the jti of a client's assertion.
type Onces interface {
	// UseOnce notes a use. ErrConsumed: there was one before. It may be
	// forgotten once expiresAt has passed, when nobody takes it any more.
	UseOnce(ctx context.Context, what Hash, expiresAt time.Time) error
}

// PushedRequest is an authorization request that its client pushed (RFC 9126).
type PushedRequest struct {
	// Hash is that of its request_uri.
	Hash     Hash
	ClientID string
	// Parameters are as they were sent, form-encoded.
	Parameters string
	ExpiresAt  time.Time
}

// PushedRequests are authorization requests on their way.
type PushedRequests interface {
	// PushRequest stores a request. ErrConflict: its hash is taken.
	PushRequest(ctx context.Context, p PushedRequest) error
	// TakeRequest returns a request, exactly once. ErrNotFound: there is none,
	// it was taken, or it is another client's (which then learns and changes
	// nothing). ErrExpired: too late.
	TakeRequest(ctx context.Context, request Hash, clientID string) (PushedRequest, error)
}
