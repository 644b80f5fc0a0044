package issuer

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"gatehouse.dev/gatehouse/issuer/login"
	"gatehouse.dev/gatehouse/issuer/store"
)

// Grantable implements login.Authority: the scopes that the flow asks for and
// the person's roles cover; none where these open nothing.
func (s *server) Grantable(f *login.Flow, roles []string) []string {
	scopes := s.catalog.ofPerson(f.Scopes, roles)
	if len(s.catalog.audiences(scopes)) == 0 {
		return nil
	}
	return scopes
}

// Conclude implements login.Authority: it issues the code, or tells the client
// why there is none.
func (s *server) Conclude(ctx context.Context, o login.Outcome) (login.Return, error) {
	f := o.Flow
	if f.Device {
		return s.concludeDevice(ctx, o)
	}
	to := returnOfFlow(f)
	if o.Error != "" {
		s.audit.denied(ctx, f.ClientID, fail(o.Error, outcomes[o.Error]))
		return s.errorReturn(to, o.Error, outcomes[o.Error]), nil
	}
	code := store.NewToken("ghc_")
	_, err := s.store.CreateCode(ctx, store.Code{
		Hash: store.HashOf(code), ClientID: f.ClientID, UserID: o.Session.UserID, SessionID: o.Session.ID,
		RedirectURI: f.RedirectURI, Scopes: o.Scopes, Audience: f.Resources, Nonce: f.Nonce, Challenge: f.Challenge, KeyThumbprint: f.KeyThumbprint,
		AuthTime: o.Session.AuthTime, ExpiresAt: s.now().Add(s.config.CodeLifetime),
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		// Client, user or session ended while the person looked at the page.
		return s.errorReturn(to, codeAccessDenied, outcomes[codeAccessDenied]), nil
	case err != nil:
		return login.Return{}, fmt.Errorf("storing an authorization code: %w", err)
	}
	s.audit.granted(ctx, o.Session.UserID, f.ClientID, o.Session.ID, o.Scopes)
	return s.returnWith(to, url.Values{"code": {code}}), nil
}

// outcomes describe the errors that a flow ends with.
var outcomes = map[string]string{
	codeAccessDenied:    "the person or the issuer denied the request",
	codeLoginRequired:   "the person has to log in",
	codeConsentRequired: "the person has to consent",
	codeInvalidRequest:  "the request is too large",
}
