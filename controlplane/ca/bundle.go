package ca

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwk"

	workloadv1 "gatehouse.dev/gatehouse/proto/gatehouse/workload/v1"
)

// refreshHint is how often others should fetch the bundle (SPIFFE Trust Domain
// and Bundle §4.1.2): a new root is there for longer before it issues.
const refreshHint = 5 * time.Minute

// bundleDocument is the SPIFFE bundle format.
type bundleDocument struct {
	Keys     []map[string]any `json:"keys"`
	Sequence uint64           `json:"spiffe_sequence"`
	Refresh  int              `json:"spiffe_refresh_hint"`
}

// BundleJSON is a trust bundle in the SPIFFE bundle format (SPIFFE Trust Domain
// and Bundle §4): a JWK set in which each root is a key of use x509-svid.
func BundleJSON(b *workloadv1.Bundle) ([]byte, error) {
	document := bundleDocument{Keys: []map[string]any{}, Sequence: b.GetSequence(), Refresh: int(refreshHint / time.Second)}
	for _, der := range b.GetRoots() {
		key, err := bundleKey(der)
		if err != nil {
			return nil, fmt.Errorf("writing the bundle of %s: %w", b.GetTrustDomain(), err)
		}
		document.Keys = append(document.Keys, key)
	}
	return json.MarshalIndent(document, "", "  ")
}

func bundleKey(der []byte) (members map[string]any, err error) {
	root, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	key, err := jwk.FromRaw(root.PublicKey)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(key)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &members); err != nil {
		return nil, err
	}
	members["use"] = "x509-svid"
	// RFC 7517 §4.7: base64 with padding, not base64url.
	members["x5c"] = []string{base64.StdEncoding.EncodeToString(der)}
	return members, nil
}

// Bundle serves the trust bundle, which is public.
func (s *Server) Bundle() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		state, _ := s.trust.current()
		text, err := BundleJSON(state.GetBundle())
		if err != nil {
			s.logger.Error("publishing the trust bundle", "error", err)
			http.Error(w, "the bundle cannot be written", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(text)
	})
}
