package token

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"
)

// proofType is the typ of a DPoP proof (RFC 9449 §4.2).
const proofType = "dpop+jwt"

// ProofRules are what DPoP proofs are held against, whatever the request.
type ProofRules struct {
	// Algorithms are those that proofs may be signed with.
	Algorithms []Algorithm
	// MaxAge is how old a proof may be, by its iat.
	MaxAge time.Duration
	// Skew is how far a proof's iat may be in the future.
	Skew time.Duration
}

// ProofRequest is the request that a DPoP proof came with.
type ProofRequest struct {
	// Method is the HTTP method, exactly.
	Method string
	// URLs are the request's own, one for each name by which clients know the
	// server; the query does not count.
	URLs []string
	// AccessToken is the token that came with the proof; empty: none did.
	AccessToken string
}

// Proof is a DPoP proof that verified for its request (RFC 9449 §4.3). What
// needs a memory is the caller's: that ID was not used before (Replays), that
// Nonce is one of ours where we want one, and that Thumbprint is the one that
// the access token is bound to.
type Proof struct {
	key  *Key
	body proofBody
}

// Thumbprint is that of the key that signed the proof (RFC 7638), as jkt has
// it.
func (p *Proof) Thumbprint() string { return p.key.thumbprint }

// ID is jti.
func (p *Proof) ID() string { return p.body.id }

// Nonce is nonce; empty: it has none.
func (p *Proof) Nonce() string { return p.body.nonce }

// IssuedAt is iat, in UTC.
func (p *Proof) IssuedAt() time.Time { return p.body.issued.time() }

// VerifyProof checks the value of a request's one DPoP header by RFC 9449 §4.3,
// all that can be checked without a memory. The error is an *Error.
func VerifyProof(text string, request ProofRequest, rules ProofRules, now time.Time) (*Proof, error) {
	parts, err := split(text)
	if err != nil {
		return nil, malformed(err)
	}
	head, err := parseProofHeader(parts.header)
	if err != nil {
		return nil, malformed(err)
	}
	body, err := parseProofBody(parts.payload)
	if err != nil {
		return nil, malformed(err)
	}
	key, err := head.proofKey(rules.Algorithms)
	if err != nil {
		return nil, err
	}
	if err := key.verify(parts.signed, parts.signature); err != nil {
		return nil, refuse(ReasonSignature, "verifying the proof with its own key: %w", err)
	}
	if err := body.check(request, rules, now); err != nil {
		return nil, err
	}
	return &Proof{key: key, body: body}, nil
}

// proofHeader is what we read of a proof's JOSE header.
type proofHeader struct {
	alg    Algorithm
	typ    string
	key    jwk
	hasKey bool
}

// parseProofHeader is parseHeader for the one kind of JWS that carries its key:
// whoever signed it is not the question, but that the signer has the key.
func parseProofHeader(text string) (h proofHeader, err error) {
	err = scanObject(text, func(s *scanner, name string) (err error) {
		switch name {
		case "alg":
			h.alg, err = algorithm(s)
		case "typ":
			h.typ, err = label(s, name, maxType)
		case "jwk":
			h.hasKey = true
			err = s.object(h.key.member)
		default:
			if reason := forbidden(name); reason != "" {
				return fmt.Errorf("the header has %q: %s", name, reason)
			}
			err = s.skip()
		}
		return err
	})
	switch {
	case err != nil:
		return h, err
	case h.typ != proofType: // RFC 9449 §4.3 check 4
		return h, refuse(ReasonType, "typ is %s, not %q", quoted(h.typ), proofType)
	case h.alg == "" || !h.hasKey: // check 3
		return h, errors.New("the header lacks alg or jwk")
	}
	return h, nil
}

// proofKey is the public key in the header, for the header's algorithm alone.
// A private member spoils it (RFC 9449 §4.3 check 7).
func (h *proofHeader) proofKey(allowed []Algorithm) (*Key, error) {
	if !slices.Contains(allowed, h.alg) {
		return nil, refuse(ReasonAlgorithm, "alg %s is none of %v", h.alg, allowed)
	}
	if h.key.kid == "" && h.key.fault == "" {
		h.key.kid = "jwk" // no set to choose from
	}
	key, err := h.key.key([]Algorithm{h.alg})
	if err != nil {
		return nil, malformed(fmt.Errorf("using the jwk of the header: %w", err))
	}
	return key, nil
}

// proofBody is a proof's claims (RFC 9449 §4.2).
type proofBody struct {
	id, method, url, hash, nonce string
	issued                       date
}

func parseProofBody(text string) (b proofBody, err error) {
	err = scanObject(text, func(s *scanner, name string) (err error) {
		switch name {
		case "jti":
			b.id, err = claimLabel(s, maxName)
		case "htm":
			b.method, err = claimLabel(s, maxType)
		case "htu":
			b.url, err = claimLabel(s, maxURL)
		case "ath":
			b.hash, err = thumbprint(s)
		case "nonce":
			b.nonce, err = claimLabel(s, maxName)
		case "iat":
			b.issued, err = claimDate(s)
		default:
			err = s.skip()
		}
		if err != nil {
			return fmt.Errorf("reading the claim %s: %w", quoted(name), err)
		}
		return nil
	})
	if err == nil && (b.id == "" || b.method == "" || b.url == "" || !b.issued.given) { // RFC 9449 §4.3 check 3
		err = errors.New("one of jti, htm, htu and iat is missing")
	}
	return b, err
}

// check holds the claims against the request: checks 8, 9, 11 and the first
// half of 12.
func (b *proofBody) check(request ProofRequest, rules ProofRules, now time.Time) error {
	at := now.UnixMicro()
	switch {
	case b.method != request.Method:
		return refuse(ReasonClaim, "htm is %s, not %q", quoted(b.method), request.Method)
	case !slices.ContainsFunc(request.URLs, func(url string) bool { return sameURL(b.url, url) }):
		return refuse(ReasonClaim, "htu is %s, not %q", quoted(b.url), request.URLs)
	case b.issued.micros+rules.MaxAge.Microseconds() < at:
		return refuse(ReasonExpired, "the proof was made at %s", b.issued.time().Format(time.RFC3339))
	case b.issued.micros > at+rules.Skew.Microseconds():
		return refuse(ReasonNotYetValid, "the proof was made at %s, in the future", b.issued.time().Format(time.RFC3339))
	case request.AccessToken == "":
		return nil
	}
	sum := sha256.Sum256([]byte(request.AccessToken))
	if subtle.ConstantTimeCompare([]byte(b.hash), []byte(base64.RawURLEncoding.EncodeToString(sum[:]))) != 1 {
		return refuse(ReasonClaim, "ath is not the hash of the access token")
	}
	return nil
}

// Proves tells whether the proof is by the key that a token is bound to (RFC
// 9449 §4.3, second half of check 12). A token that is bound to none is not
// proven by any.
func (p *Proof) Proves(c Confirmation) bool { return sameThumbprint(c.KeyThumbprint, p.key.thumbprint) }
