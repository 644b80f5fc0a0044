package ca

import (
	"context"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gatehouse.dev/gatehouse/envoy"
	workloadv1 "gatehouse.dev/gatehouse/proto/gatehouse/workload/v1"
	"gatehouse.dev/gatehouse/token"
)

const (
	// maxKeys is what one replica may have. All of them may have as many as
	// whoever verifies keeps, less those that an authorizer adds of its own before
	// it has published them: none is ever left out in silence.
	maxKeys    = 10
	maxAllKeys = token.MaxKeys - maxKeys
	maxJWK     = 2048
	maxPlace   = 512
	maxKeyLife = 7 * 24 * time.Hour
)

// keysRow are the assertion keys of one replica.
type keysRow struct {
	Keys  []keyRow `json:"keys"`
	Place string   `json:"place,omitempty"` // where it runs
}

type keyRow struct {
	ID        string    `json:"id"`
	JWK       []byte    `json:"jwk"`
	Expires   time.Time `json:"expires"`
	Published time.Time `json:"published"` // first
	Held      bool      `json:"held"`
}

// PublishAssertionKeys implements workloadv1.TrustServer.
func (s *trustService) PublishAssertionKeys(ctx context.Context, r *workloadv1.PublishAssertionKeysRequest) (*workloadv1.PublishAssertionKeysResponse, error) {
	id, err := s.caller(ctx)
	if err != nil {
		return nil, err
	}
	if id != envoy.AuthzIdentity(s.config.TrustDomain) {
		return nil, s.refused(ctx, "publication of assertion keys", refuse("%s is no authorizer", id))
	}
	if err := s.publish(r); err != nil {
		if r, ours := err.(refusal); ours {
			// The caller is known, and one of ours: it may hear why.
			s.logger.Warn("refused assertion keys", "reason", string(r))
			return nil, status.Error(codes.InvalidArgument, string(r))
		}
		return nil, s.refused(ctx, "publication of assertion keys", err)
	}
	return &workloadv1.PublishAssertionKeysResponse{}, nil
}

func (s *Server) publish(r *workloadv1.PublishAssertionKeysRequest) error {
	if r.GetReplica() == "" || len(r.GetReplica()) > 128 || len(r.GetKeys()) > maxKeys {
		return refuse("a publication needs a replica's name of 1 to 128 bytes and at most %d keys", maxKeys)
	}
	if len(r.GetPlace()) > maxPlace {
		return refuse("a replica's place has %d bytes, more than %d", len(r.GetPlace()), maxPlace)
	}
	var rows []keyRow
	now := s.now()
	for _, k := range r.GetKeys() {
		expires := k.GetExpiresAt().AsTime()
		if err := checkAssertionKey(k); err != nil {
			return err
		}
		if !expires.After(now) || expires.After(now.Add(maxKeyLife)) {
			return refuse("the assertion key %s expires at %s: not in the next %s", k.GetId(), expires.Format(time.RFC3339), maxKeyLife)
		}
		rows = append(rows, keyRow{ID: k.GetId(), JWK: k.GetJwk(), Expires: expires, Published: now})
	}
	if err := s.store.publish(r, rows); err != nil {
		return err
	}
	return s.trust.rebuild()
}

// checkAssertionKey lets public keys pass alone, under their own thumbprints:
// nobody can publish a key under the id of another's.
func checkAssertionKey(k *workloadv1.AssertionKey) error {
	if len(k.GetJwk()) > maxJWK {
		return refuse("an assertion key has %d bytes", len(k.GetJwk()))
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(k.GetJwk(), &members); err != nil {
		return refuse("an assertion key is no JSON object")
	}
	if _, private := members["d"]; private {
		return refuse("an assertion key was published with its private half: it must never sign")
	}
	key, err := jwk.ParseKey(k.GetJwk())
	if err != nil {
		return refuse("an assertion key is no JWK")
	}
	if t := key.KeyType(); t != jwa.EC && t != jwa.OKP {
		return refuse("an assertion key is of type %s, not EC or OKP", t)
	}
	thumbprint, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		return fmt.Errorf("taking a key's thumbprint: %w", err)
	}
	if k.GetId() != base64.RawURLEncoding.EncodeToString(thumbprint) {
		return refuse("an assertion key's id is not its RFC 7638 thumbprint")
	}
	return nil
}
