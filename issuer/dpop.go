package issuer

import (
	"crypto/rand"
	"errors"
	"net/http"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/issuer/budget"
	"gatehouse.dev/gatehouse/token"
)

const (
	// proofMaxAge is how old a DPoP proof may be. Its nonce says more exactly
	// when it was made; iat is left room for clocks that are off.
	proofMaxAge = 2 * time.Minute
	// nonceSpan is how long a nonce is given out; it is good for twice as long.
	nonceSpan = time.Minute
	// maxProofs bounds the proofs that are remembered, of either kind: 4 MiB or
	// so.
	maxProofs = 1 << 16
	// proofsOfAddress and proofEvery bound those of clients that anybody can be.
	proofsOfAddress = 300
	proofEvery      = 200 * time.Millisecond
)

// proofAlgorithms are what DPoP proofs may be signed with. RSA keys are left
// out: with a key of the attacker's choice they cost us most.
var proofAlgorithms = []token.Algorithm{token.ES256, token.ES384, token.EdDSA}

// proofs checks DPoP proofs (RFC 9449). Nonces are of this process alone: with
// a restart all are void, and with them every proof whose jti it had seen.
type proofs struct {
	nonces *token.Nonces
	// seen are proofs of who proved more than a key, strangers the others: a key
	// is made in no time, and one who makes many must not have requests refused
	// for want of room.
	seen, strangers *token.Replays
	addresses       *budget.Buckets
}

func newProofs() *proofs {
	key := make([]byte, 32)
	rand.Read(key) // never fails (crypto/rand)
	return &proofs{
		nonces: token.NewNonces(key, nonceSpan), seen: token.NewReplays(maxProofs), strangers: token.NewReplays(maxProofs),
		addresses: budget.New(proofsOfAddress, proofEvery),
	}
}

// proofOf is the DPoP proof of a request, for an access token where it comes
// with one; nil: the request has no proof (RFC 9449 §4.3, §8). Once it is known
// who sent it, spend makes it count once.
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
	return proof, nil
}

// spend remembers a proof, so that it counts once (RFC 9449 §11.1); nil is none.
// known: its sender proved more than the key of it.
func (s *server) spend(r *http.Request, proof *token.Proof, known bool) error {
	if proof == nil {
		return nil
	}
	now, memory := s.now(), s.proofs.seen
	if !known {
		if wait := s.proofs.addresses.Take(budget.KeyOf(callerOf(r.Context()).address), now); wait > 0 {
			return &failure{code: codeTemporarilyUnavailable, description: "too many DPoP proofs are being sent", status: http.StatusTooManyRequests, retryAfter: wait}
		}
		memory = s.proofs.strangers
	}
	switch err := memory.Use(now, proof.IssuedAt().Add(proofMaxAge), proof.Thumbprint(), proof.ID()); {
	case errors.Is(err, token.ErrReplaysFull):
		return (&failure{code: codeTemporarilyUnavailable, description: "there were too many DPoP proofs of late", status: http.StatusServiceUnavailable, retryAfter: proofMaxAge}).because(err)
	case err != nil:
		return badProof(err)
	}
	return nil
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
