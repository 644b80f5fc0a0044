package issuer

import (
	"errors"
	"fmt"
	"net/http"
	"slices"

	"gatehouse.dev/gatehouse/issuer/store"
)

// reregister replaces a client's metadata as a whole (RFC 7592 §2.2) and its
// registration access token with it. All is decided in the transaction that
// writes, so that what an administrator does meanwhile counts.
func (s *server) reregister(w http.ResponseWriter, r *http.Request, was store.Client, token store.Hash) error {
	if wait := s.registration.update(was.ID, s.now()); wait > 0 {
		return &failure{code: codeTemporarilyUnavailable, description: "the registration changes too often; try again later", status: http.StatusTooManyRequests, retryAfter: wait}
	}
	m, err := readMetadata(r)
	if err != nil {
		return err
	}
	management := store.NewToken(managementPrefix)
	if _, err := s.store.UpdateRegistration(r.Context(), was.ID, token, func(c *store.Client) error {
		next, err := s.reregistered(*c, m)
		if err != nil {
			return err
		}
		next.Registration.Token = store.HashOf(management)
		*c = next
		return nil
	}); err != nil {
		return orBadBearer(err)
	}
	return s.describeRegistered(r.Context(), w, http.StatusOK, was.ID, "", management)
}

// reregistered is a client as it comes out of new metadata.
func (s *server) reregistered(was store.Client, m *clientMetadata) (next store.Client, err error) {
	next = m.client(was.Registration.Policy)
	switch {
	case m.ClientID != was.ID:
		return next, fail(codeInvalidMetadata, "client_id is not the client's")
	case m.ClientSecret != "" && !was.Secret.Matches(m.ClientSecret):
		return next, fail(codeInvalidMetadata, "client_secret is not the client's")
	case next.Type != was.Type || next.Proof.Method != was.Proof.Method:
		return next, fail(codeInvalidMetadata, "the way to authenticate cannot change: register anew")
	}
	registration := *was.Registration
	next.ID, next.Registration = was.ID, &registration
	if next.Name == "" {
		next.Name = was.ID
	}
	if err := keepDemands(&next, was); err != nil {
		return next, err
	}
	return next, s.checkRegistered(next, was, m, was.Registration.Policy)
}

// keepDemands leaves to a client's update what is not the client's to change.
// What makes it safer stays, whoever asked for it: a management token that was
// stolen must not take it off (RFC 7592 §2.2 lets a server ignore that a member
// is left out). What an administrator has set since is the administrator's:
// a single value stays, and of a list the client may drop members.
func keepDemands(next *store.Client, was store.Client) error {
	next.RequirePushed = next.RequirePushed || was.RequirePushed
	next.BindToKey = next.BindToKey || was.BindToKey
	next.BindToCertificate = next.BindToCertificate || was.BindToCertificate
	next.AccessTokenLifetime, next.Attributes = was.AccessTokenLifetime, was.Attributes // no metadata at all
	for _, field := range was.Registration.Held {
		switch field {
		case store.HeldName:
			next.Name = was.Name
		case store.HeldProof:
			next.Proof = was.Proof
		case store.HeldIDTokenAlgorithm:
			next.IDTokenAlgorithm = was.IDTokenAlgorithm
		case store.HeldIntrospection:
			next.IntrospectionAlgorithm = was.IntrospectionAlgorithm
		case store.HeldBackchannelLogout:
			next.BackchannelLogoutURI = was.BackchannelLogoutURI
		case store.HeldRedirects:
			if adds(next.RedirectURIs, was.RedirectURIs) || adds(next.PostLogoutRedirectURIs, was.PostLogoutRedirectURIs) {
				return fail(codeInvalidRedirectURI, "an administrator has set the redirect URIs: none can be added")
			}
		default:
			return fmt.Errorf("the registration of client %q holds the unknown field %q", was.ID, field)
		}
	}
	return nil
}

// adds tells whether a list has a member that another has not.
func adds(list, to []string) bool {
	return slices.ContainsFunc(list, func(member string) bool { return !slices.Contains(to, member) })
}

// orBadBearer: of two requests with one token only the first passes.
func orBadBearer(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return badBearer(err)
	}
	return fmt.Errorf("changing a registration: %w", err)
}
