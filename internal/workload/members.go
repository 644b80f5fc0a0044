package workload

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	workloadv1 "gatehouse.dev/gatehouse/proto/gatehouse/workload/v1"
)

// Members is what the members of a trust domain know of each other at one
// moment. It never changes.
type Members struct {
	// Version is the control plane's name for all that follows but Held.
	Version string
	// Roots are the trust bundle.
	Roots []*x509.Certificate
	// Denied are the SPIFFE ids that were revoked.
	Denied []string
	// Keys are what assertions are verified with.
	Keys []AssertionKey
}

// AssertionKey is a public key that an authorizer signs assertions with.
type AssertionKey struct {
	// ID is the key id.
	ID string
	// JWK is the public key.
	JWK json.RawMessage
	// ExpiresAt is when it is forgotten, unless it is published again.
	ExpiresAt time.Time
	// Held tells whether everybody who watches has it, so that it may sign.
	Held bool
}

func parseMembers(state *workloadv1.TrustState) (*Members, error) {
	m := &Members{Version: state.GetVersion(), Denied: state.GetDenied()}
	var err error
	if m.Roots, err = parseDER(state.GetBundle().GetRoots()); err != nil {
		return nil, fmt.Errorf("reading the trust bundle: %w", err)
	}
	if len(m.Roots) == 0 || m.Version == "" {
		return nil, errors.New("the control plane sent a trust bundle without roots or version")
	}
	for _, k := range state.GetAssertionKeys() {
		// One key that will not do must not keep the deny list from us.
		if !publicJWK(k.GetId(), k.GetJwk()) {
			continue
		}
		m.Keys = append(m.Keys, AssertionKey{ID: k.GetId(), JWK: k.GetJwk(), ExpiresAt: k.GetExpiresAt().AsTime(), Held: k.GetHeld()})
	}
	return m, nil
}

// publicJWK takes no key with a private half (RFC 7518 §6), for it would be
// served to every process of this machine, and none under another's id.
func publicJWK(id string, text []byte) bool {
	var jwk map[string]json.RawMessage
	if err := json.Unmarshal(text, &jwk); err != nil {
		return false
	}
	for _, private := range []string{"d", "k", "p", "q", "dp", "dq", "qi", "oth"} {
		if _, there := jwk[private]; there {
			return false
		}
	}
	var kid string
	return json.Unmarshal(jwk["kid"], &kid) == nil && kid == id
}

// JWKS are the assertion keys that are good at a time, as a JWK Set (RFC 7517
// §5).
func (m *Members) JWKS(now time.Time) []byte {
	set := struct {
		Keys []json.RawMessage `json:"keys"`
	}{Keys: []json.RawMessage{}}
	for _, k := range m.Keys {
		if now.Before(k.ExpiresAt) {
			set.Keys = append(set.Keys, k.JWK)
		}
	}
	text, err := json.Marshal(set)
	if err != nil {
		panic(err) // each part was parsed
	}
	return text
}
