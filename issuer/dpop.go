package issuer

import (
	"crypto/rand"
	"errors"
	"net/http"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/token"
)

const (
	// proofMaxAge is how old a DPoP proof may be. Its nonce says more exactly
	// when it was made; iat is left room for clocks that are off.
	proofMaxAge = 2 * time.Minute
	// nonceSpan is how long a nonce is given out; it is good for twice as long.
	nonceSpan = time.Minute
	// maxProofs bounds the proofs that are remembered: 4 MiB or so.
	maxProofs = 1 << 16
)

// proofAlgorithms are what DPoP proofs may be signed with. RSA keys are left
// out: with a key of the attacker's choice they cost us most.
var proofAlgorithms = []token.Algorithm{token.ES256, token.ES384, token.EdDSA}

// proofs checks DPoP proofs (RFC 9449). Nonces are of this process alone: with
// a restart all are void, and with them every proof whose jti it had seen.
type proofs struct {
	nonces *token.Nonces
	seen   *token.Replays
}

func newProofs() *proofs {
	key := make([]byte, 32)
	rand.Read(key) // never fails (crypto/rand)
	return &proofs{nonces: token.NewNonces(key, nonceSpan), seen: token.NewReplays(maxProofs)}
}

// proofOf is the DPoP proof of a request, for an access token where it comes
// with one; nil: the request has no proof (RFC 9449 §4.3, §8).
func (s *server) proofOf(w http.ResponseWriter, r *http.Request, accessToken string) (*token.Proof, error) {
	headers := r.Header["Dpop"]
	if len(headers) == 0 {
		return nil, nil
	}
	now := s.now()
	w.Header().Set("DPoP-Nonce", s.proofs.nonces.Current(now))
	if len(headers) > 1 {
		return nil, badProof(errors.New("there is more than one DPoP header"))
	}
	proof, err := token.VerifyProof(headers[0], token.ProofRequest{
		Method: r.Method, URLs: s.urlsOf(r.URL.Path), AccessToken: accessToken,
	}, token.ProofRules{Algorithms: proofAlgorithms, MaxAge: proofMaxAge, Skew: skew}, now)
	if err != nil {
		return nil, badProof(err)
	}
	if !s.proofs.nonces.Good(proof.Nonce(), now) {
		return nil, &failure{code: codeUseNonce, description: "the DPoP proof lacks a nonce of the DPoP-Nonce header"}
	}
	if err := s.proofs.seen.Use(now, proof.IssuedAt().Add(proofMaxAge), proof.Thumbprint(), proof.ID()); err != nil {
		return nil, badProof(err)
	}
	return proof, nil
}

// urlsOf are the URLs by which clients know a path.
func (s *server) urlsOf(path string) []string {
	urls := []string{s.config.URL + path}
	if s.config.MTLSURL != "" {
		urls = append(urls, s.config.MTLSURL+path)
	}
	return urls
}

func badProof(cause error) *failure {
	return &failure{code: codeInvalidProof, description: "the DPoP proof is not valid for this request", cause: cause}
}

// proofChallenge is the WWW-Authenticate of a resource (RFC 9449 §7.1).
func proofChallenge(code string) string {
	names := make([]string, len(proofAlgorithms))
	for i, algorithm := range proofAlgorithms {
		names[i] = string(algorithm)
	}
	challenge := `DPoP realm="gatehouse", algs="` + strings.Join(names, " ") + `"`
	if code != "" {
		challenge += `, error="` + code + `"`
	}
	return challenge
}
