package admin

import (
	"context"
	"encoding/hex"
	"reflect"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/issuer/store"
	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
)

// fixedClientFields are those that an update cannot change.
var fixedClientFields = map[string]bool{"id": true, "type": true, "created_at": true, "self_registered": true, "secret_hash": true}

// ClientFields are the names of the fields that UpdateClient can change.
func ClientFields() (names []string) {
	fields := (&adminv1.Client{}).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		if name := string(fields.Get(i).Name()); !fixedClientFields[name] {
			names = append(names, name)
		}
	}
	return names
}

// GetClient implements adminv1.AdminServer.
func (s *Service) GetClient(ctx context.Context, request *adminv1.GetClientRequest) (*adminv1.GetClientResponse, error) {
	c, err := s.deps.Store.Client(ctx, request.GetId())
	if err != nil {
		return nil, answer(err, "client", request.GetId())
	}
	return &adminv1.GetClientResponse{Client: clientMessage(c)}, nil
}

// UpdateClient implements adminv1.AdminServer.
func (s *Service) UpdateClient(ctx context.Context, request *adminv1.UpdateClientRequest) (*adminv1.UpdateClientResponse, error) {
	id := request.GetClient().GetId()
	edit := func(c *store.Client) error {
		message := clientMessage(*c)
		if len(request.GetUpdateMask().GetPaths()) > 0 || request.GetSecret() == "" {
			if err := overlayClient(message, request.GetClient(), request.GetUpdateMask()); err != nil {
				return err
			}
		}
		updated := fromMessage(message)
		updated.Secret, updated.Registration = c.Secret, heldTo(updated, *c)
		updated.CreatedAt, updated.NotBefore = c.CreatedAt, c.NotBefore
		vs := s.checkChange(updated, *c, request.GetUpdateMask().GetPaths())
		*c = updated
		checkSecret(&vs, updated, request.GetSecret())
		return invalid(vs)
	}
	if request.GetCheckOnly() {
		c, err := s.deps.Store.Client(ctx, id)
		if err == nil {
			err = edit(&c)
		}
		return &adminv1.UpdateClientResponse{Client: clientMessage(c)}, answer(err, "client", id)
	}
	c, err := s.deps.Store.UpdateClient(ctx, id, edit)
	if err == nil && request.GetSecret() != "" {
		err = s.deps.Store.SetClientSecret(ctx, id, store.HashOf(request.GetSecret()))
	}
	if err != nil {
		return nil, answer(err, "client", id)
	}
	s.deps.Logger.Info("changed a client", "client", id)
	return &adminv1.UpdateClientResponse{Client: clientMessage(c)}, nil
}

// checkChange reports what is wrong with the fields that a change names, and
// what it breaks beside. What was wrong before stays as it is: a client that is
// older than a rule can still be disabled.
func (s *Service) checkChange(updated, was store.Client, paths []string) (vs conf.Violations) {
	before := s.checkClient(was)
	for _, v := range s.checkClient(updated) {
		named := slices.ContainsFunc(paths, func(path string) bool { return fieldOf(path) == fieldOf(v.Key) })
		if named || !slices.Contains(before, v) {
			vs = append(vs, v)
		}
	}
	return vs
}

// fieldOf is the field of a client that a path or a violation's key lies in.
func fieldOf(path string) string {
	if at := strings.IndexAny(path, ".["); at >= 0 {
		return path[:at]
	}
	return path
}

// heldTo is a client's registration once an administrator changed the client:
// what they changed is theirs from then on, or the client would undo it by
// registering again (RFC 7592 §2.2).
func heldTo(updated, was store.Client) *store.Registration {
	if was.Registration == nil {
		return nil
	}
	held := *was.Registration
	if !slices.Equal(updated.Scopes, was.Scopes) {
		held.Policy.Scopes = updated.Scopes
	}
	if !slices.Equal(updated.GrantTypes, was.GrantTypes) {
		held.Policy.GrantTypes = updated.GrantTypes
	}
	held.Policy.Require = slices.DeleteFunc(slices.Clone(held.Policy.Require), func(what string) bool {
		return what == store.RequirePushed && was.RequirePushed && !updated.RequirePushed ||
			what == store.RequireKeyBound && was.BindToKey && !updated.BindToKey ||
			what == store.RequireCertificateBound && was.BindToCertificate && !updated.BindToCertificate
	})
	held.Held = slices.Clone(held.Held)
	for field, changed := range map[string]bool{
		store.HeldName:              updated.Name != was.Name,
		store.HeldProof:             !reflect.DeepEqual(updated.Proof, was.Proof),
		store.HeldRedirects:         !slices.Equal(updated.RedirectURIs, was.RedirectURIs) || !slices.Equal(updated.PostLogoutRedirectURIs, was.PostLogoutRedirectURIs),
		store.HeldBackchannelLogout: updated.BackchannelLogoutURI != was.BackchannelLogoutURI,
		store.HeldIDTokenAlgorithm:  updated.IDTokenAlgorithm != was.IDTokenAlgorithm,
		store.HeldIntrospection:     updated.IntrospectionAlgorithm != was.IntrospectionAlgorithm,
	} {
		if changed && !slices.Contains(held.Held, field) {
			held.Held = append(held.Held, field)
		}
	}
	slices.Sort(held.Held)
	return &held
}

// minSecret is the least length of a secret that was made elsewhere: it is kept
// as a plain hash, so it must not be one that can be guessed.
const minSecret = 32

func checkSecret(vs *conf.Violations, c store.Client, secret string) {
	switch {
	case secret == "":
	case c.Type != store.Confidential:
		vs.Add("secret", nil, "is of no use: only confidential clients have one", "leave it out")
	case len(secret) < minSecret || len(secret) > 256:
		vs.Add("secret", nil, "has not 32 to 256 characters", "draw it at random: openssl rand -base64 32")
	}
}

// secretHash is a client's hash as it is exported and imported.
func secretHash(c store.Client) string {
	if c.Secret.IsZero() {
		return ""
	}
	return hex.EncodeToString(c.Secret[:])
}

// newSecret decides on the secret of a new client: its hash, and the secret
// itself where one was made.
func newSecret(vs *conf.Violations, c store.Client, request *adminv1.CreateClientRequest) (hash store.Hash, made string) {
	checkSecret(vs, c, request.GetSecret())
	given := request.GetClient().GetSecretHash()
	switch {
	case given != "":
		if err := hash.UnmarshalText([]byte(given)); err != nil {
			vs.Add("secret_hash", nil, "is no SHA-256 in hex", "copy it from an export, or use a secret file")
		}
	case request.GetSecret() != "":
		hash = store.HashOf(request.GetSecret())
	case c.Type == store.Confidential && c.Proof.Method == "" && !request.GetNoSecret():
		made = store.NewToken(secretPrefix)
		hash = store.HashOf(made)
	}
	return hash, made
}

// listedClient is a client of a list.
func listedClient(c store.Client, withHashes bool) *adminv1.Client {
	m := clientMessage(c)
	if withHashes {
		m.SecretHash = secretHash(c)
	}
	return proto.CloneOf(m)
}
