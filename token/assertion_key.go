package token

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// AssertionKey is an authorizer's key pair for assertions, Ed25519: the
// cheapest to sign and to verify with. It is immutable.
type AssertionKey struct {
	private ed25519.PrivateKey
	id      string
	header  string // encoded
	jwk     []byte
}

// NewAssertionKey makes a key pair.
func NewAssertionKey() (*AssertionKey, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making an assertion key: %w", err)
	}
	x := base64.RawURLEncoding.EncodeToString(public)
	id := (&jwk{kty: ktyOKP, crv: crvEd25519, x: x}).thumbprint()
	return &AssertionKey{
		private: private, id: id,
		header: base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"EdDSA","kid":"` + id + `","typ":"` + TypeAssertion + `"}`)),
		jwk:    []byte(`{"alg":"EdDSA","crv":"Ed25519","kid":"` + id + `","kty":"OKP","use":"sig","x":"` + x + `"}`),
	}, nil
}

// ID is the key's kid, its RFC 7638 thumbprint.
func (k *AssertionKey) ID() string { return k.id }

// JWK is the public key, as JSON (RFC 8037).
func (k *AssertionKey) JWK() []byte { return k.jwk }

// AssertionContent is what an assertion is to say beside the claims of the
// token that it is made from.
type AssertionContent struct {
	// Issuer and Audience are the SPIFFE ids of the authorizers and of the one
	// service.
	Issuer, Audience string
	// Transaction is txn.
	Transaction string
	// Requester is req_wl.
	Requester string
	// Actors is act, the nearest first.
	Actors []string
	// Scopes replace the token's, of which they must be a part.
	Scopes []string
	// IssuedAt is iat.
	IssuedAt time.Time
}

// assertionBody is an assertion as it travels.
type assertionBody struct {
	Issuer      string     `json:"iss"`
	Audience    string     `json:"aud"`
	IssuedAt    int64      `json:"iat"`
	ExpiresAt   int64      `json:"exp"`
	Transaction string     `json:"txn"`
	Subject     string     `json:"sub"`
	ClientID    string     `json:"client_id"`
	Scope       string     `json:"scope,omitempty"`
	Roles       []string   `json:"roles,omitempty"`
	Requester   string     `json:"req_wl"`
	Actor       *actorBody `json:"act,omitempty"`
	Origin      originBody `json:"tctx"`
}

type actorBody struct {
	Subject string     `json:"sub"`
	Actor   *actorBody `json:"act,omitempty"`
}

type originBody struct {
	SubjectType string `json:"subject_type"`
	Issuer      string `json:"iss"`
	ID          string `json:"jti"`
	SessionID   string `json:"sid,omitempty"`
	GrantID     string `json:"grant_id,omitempty"`
	KeyID       string `json:"kid"`
	IssuedAt    int64  `json:"iat"`
	ExpiresAt   int64  `json:"exp"`

	Ancestors []Ancestor `json:"derived_from,omitempty"`
}

// The reasons for which Sign makes no assertion.
var (
	// ErrTooLong: the assertion would be longer than MaxSize.
	ErrTooLong = errors.New("the assertion would be too long")
	// ErrNoLife: the token has no whole second left.
	ErrNoLife = errors.New("the token has no life left for an assertion")
)

// Sign makes an assertion of verified claims, and returns when it ends: after
// MaxAssertionLife, or with the token if that is sooner.
func (k *AssertionKey) Sign(origin *Claims, content AssertionContent) (assertion string, ends time.Time, err error) {
	issued := content.IssuedAt.Unix()
	expires := min(issued+int64(MaxAssertionLife/time.Second), origin.ExpiresAt().Unix())
	if expires <= issued {
		return "", time.Time{}, ErrNoLife
	}
	body, err := json.Marshal(assertionBody{
		Issuer: content.Issuer, Audience: content.Audience, IssuedAt: issued, ExpiresAt: expires,
		Transaction: content.Transaction, Subject: origin.Subject(), ClientID: origin.ClientID(),
		Scope: strings.Join(content.Scopes, " "), Roles: origin.Roles(), Requester: content.Requester,
		Actor: chain(content.Actors),
		Origin: originBody{
			SubjectType: origin.SubjectType(), Issuer: origin.Issuer(), ID: origin.ID(), SessionID: origin.SessionID(),
			GrantID: origin.GrantID(), KeyID: origin.KeyID(), IssuedAt: origin.IssuedAt().Unix(), ExpiresAt: origin.ExpiresAt().Unix(),
			Ancestors: origin.Ancestors(),
		},
	})
	if err != nil {
		return "", time.Time{}, fmt.Errorf("writing an assertion: %w", err)
	}
	input := k.header + "." + base64.RawURLEncoding.EncodeToString(body)
	assertion = input + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(k.private, []byte(input)))
	if len(assertion) > MaxSize {
		return "", time.Time{}, ErrTooLong
	}
	return assertion, time.Unix(expires, 0), nil
}

func chain(actors []string) *actorBody {
	if len(actors) == 0 {
		return nil
	}
	return &actorBody{Subject: actors[0], Actor: chain(actors[1:])}
}

// ParseAssertionKeys makes a set of authorizers' public keys, each a JWK. A key
// that cannot be used, or whose kid is not its thumbprint, is left out with a
// note, so that no authorizer can put its key in another's place.
func ParseAssertionKeys(jwks [][]byte) *KeySet {
	set := &KeySet{byID: map[string]*Key{}}
	for i, text := range jwks {
		var k jwk
		err := scanObject(string(text), k.member)
		var key *Key
		if err == nil {
			key, err = k.key([]Algorithm{EdDSA})
		}
		switch {
		case err != nil:
		case key.id != key.thumbprint:
			err = errors.New("its kid is not its thumbprint")
		case set.byID[key.id] != nil:
			continue
		case len(set.byID) >= MaxKeys:
			err = fmt.Errorf("there are more than %d", MaxKeys)
		default:
			set.byID[key.id], set.texts = key, append(set.texts, text)
			continue
		}
		set.notes = append(set.notes, fmt.Sprintf("assertion key %d (kid %s) is left out: %v", i, quoted(k.kid), err))
	}
	return set
}

// JWKs are the keys of a set that ParseAssertionKeys made, as it took them.
func (ks *KeySet) JWKs() [][]byte { return ks.texts }
