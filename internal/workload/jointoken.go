package workload

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// Fingerprint is the SHA-256 of a root's certificate in DER.
type Fingerprint [sha256.Size]byte

// FingerprintOf is the fingerprint of a certificate.
func FingerprintOf(certificate *x509.Certificate) Fingerprint { return sha256.Sum256(certificate.Raw) }

// JoinToken lets a workload enrol, once: it proves the workload to the CA, and
// its fingerprints prove the CA to the workload. It shows its secret nowhere
// but in Encode.
type JoinToken struct {
	// ID is the one SPIFFE id that it is good for.
	ID string
	// Secret is what the CA knows the hash of: EnrolRequest.join_token.
	Secret string
	// Roots are the fingerprints of the CA's roots.
	Roots []Fingerprint
	// ExpiresAt is when the CA refuses it.
	ExpiresAt time.Time
}

const (
	// joinPrefix names the format; another format gets another number.
	joinPrefix = "ghj1."
	// maxJoinToken bounds the text of a token.
	maxJoinToken = 4096
	// maxRoots are the old and the new one, and room.
	maxRoots = 4
)

// joinFields is the payload, JSON in base64url without padding.
type joinFields struct {
	ID      string   `json:"id"`
	Secret  string   `json:"secret"`
	Roots   [][]byte `json:"roots"`
	Expires int64    `json:"expires"` // Unix seconds
}

// Encode is the token as text: "ghj1." and a payload.
func (t JoinToken) Encode() string {
	fields := joinFields{ID: t.ID, Secret: t.Secret, Expires: t.ExpiresAt.Unix()}
	for _, root := range t.Roots {
		fields.Roots = append(fields.Roots, root[:])
	}
	payload, err := json.Marshal(fields)
	if err != nil {
		panic(err) // strings, bytes and a number
	}
	return joinPrefix + base64.RawURLEncoding.EncodeToString(payload)
}

// ParseJoinToken reads what Encode wrote; white space around it does not
// matter. Its errors do not show the text.
func ParseJoinToken(text string) (JoinToken, error) {
	text = strings.TrimSpace(text)
	encoded, ok := strings.CutPrefix(text, joinPrefix)
	if !ok || len(text) > maxJoinToken {
		return JoinToken{}, errors.New("this is no join token: it does not begin with " + joinPrefix + ", as what `gatehouse workload token` makes does")
	}
	payload, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return JoinToken{}, errors.New("the join token is not whole: copy all of it")
	}
	var fields joinFields
	decoder := json.NewDecoder(bytes.NewReader(payload))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&fields); err != nil {
		return JoinToken{}, errors.New("the join token is not whole: copy all of it")
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return JoinToken{}, errors.New("the join token is not whole: something follows it")
	}
	return fields.token()
}

func (f joinFields) token() (JoinToken, error) {
	if f.ID == "" || f.Secret == "" || f.Expires <= 0 || len(f.Roots) == 0 || len(f.Roots) > maxRoots {
		return JoinToken{}, errors.New("the join token lacks its id, secret, roots or end")
	}
	t := JoinToken{ID: f.ID, Secret: f.Secret, ExpiresAt: time.Unix(f.Expires, 0).UTC()}
	for _, root := range f.Roots {
		if len(root) != sha256.Size {
			return JoinToken{}, errors.New("the join token has a fingerprint that is no SHA-256")
		}
		t.Roots = append(t.Roots, Fingerprint(root))
	}
	return t, nil
}

// String leaves the secret out.
func (t JoinToken) String() string {
	return fmt.Sprintf("join token for %s until %s", t.ID, t.ExpiresAt.Format(time.RFC3339))
}

// GoString leaves the secret out of %#v.
func (t JoinToken) GoString() string { return t.String() }

// LogValue leaves the secret out of logs.
func (t JoinToken) LogValue() slog.Value { return slog.StringValue(t.String()) }

// TLS is how to reach the enrolment server: TLS 1.3 without a client
// certificate, to exactly the SPIFFE id server (the control plane's), under one
// of the roots that the token names, at the time of now.
func (t JoinToken) TLS(server string, now func() time.Time) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		// There is no root to verify against yet: VerifyConnection does it all.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			return t.VerifyServer(state.PeerCertificates, server, now())
		},
	}
}

// VerifyServer verifies the chain that the enrolment server presents, leaf
// first and with its root: the root is one that the token names, the leaf
// chains to it and has exactly the SPIFFE id server.
func (t JoinToken) VerifyServer(presented []*x509.Certificate, server string, now time.Time) error {
	if len(presented) == 0 {
		return errors.New("the enrolment server presents no certificate")
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	pinned := false
	for _, c := range presented[1:] {
		if slices.Contains(t.Roots, FingerprintOf(c)) {
			roots.AddCert(c)
			pinned = true
		} else {
			between.AddCert(c)
		}
	}
	if !pinned {
		return errors.New("the enrolment server's root has another fingerprint than the join token says: it is not the CA that made the token (is the address controlplane.enrolment_listen?), or its root was replaced; ask for a new token")
	}
	leaf := presented[0]
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}); err != nil {
		return fmt.Errorf("verifying the enrolment server: %w", err)
	}
	if len(leaf.URIs) != 1 || leaf.URIs[0].String() != server {
		return fmt.Errorf("verifying the enrolment server: it is %v, not %s", leaf.URIs, server)
	}
	return nil
}
