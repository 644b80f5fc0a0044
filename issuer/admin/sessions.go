package admin

import (
	"context"
	"errors"
	"slices"

	"google.golang.org/protobuf/types/known/timestamppb"

	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/issuer/store"
	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
)

// ListSessions implements adminv1.AdminServer.
func (s *Service) ListSessions(ctx context.Context, request *adminv1.ListSessionsRequest) (*adminv1.ListSessionsResponse, error) {
	u, err := s.user(ctx, request.GetLogin())
	if err != nil {
		return nil, err
	}
	sessions, err := s.deps.Store.ListSessions(ctx, u.ID, request.GetAfter(), maxPage)
	if err != nil {
		return nil, answer(err, "session", "")
	}
	response := &adminv1.ListSessionsResponse{Next: next(sessions, maxPage, func(s store.Session) string { return s.ID })}
	for _, session := range sessions {
		response.Sessions = append(response.Sessions, &adminv1.Session{
			Id: session.ID, AuthTime: timestamppb.New(session.AuthTime), ExpiresAt: timestamppb.New(session.ExpiresAt),
		})
	}
	return response, nil
}

// RevokeSession implements adminv1.AdminServer. A session that is gone already
// is revoked all the same, for its tokens may outlive it.
func (s *Service) RevokeSession(ctx context.Context, request *adminv1.RevokeSessionRequest) (*adminv1.RevokeSessionResponse, error) {
	if err := s.deps.Store.RevokeSession(ctx, request.GetId()); err != nil {
		return nil, answer(err, "session", request.GetId())
	}
	s.deps.Logger.Info("revoked a session", "session", request.GetId())
	return &adminv1.RevokeSessionResponse{}, nil
}

// ListConsents implements adminv1.AdminServer.
func (s *Service) ListConsents(ctx context.Context, request *adminv1.ListConsentsRequest) (*adminv1.ListConsentsResponse, error) {
	u, err := s.user(ctx, request.GetLogin())
	if err != nil {
		return nil, err
	}
	consents, err := s.deps.Store.ListConsents(ctx, u.ID, request.GetAfter(), maxPage)
	if err != nil {
		return nil, answer(err, "consent", "")
	}
	response := &adminv1.ListConsentsResponse{Next: next(consents, maxPage, func(c store.Consent) string { return c.ClientID })}
	for _, c := range consents {
		response.Consents = append(response.Consents, consentMessage(c))
	}
	return response, nil
}

func consentMessage(c store.Consent) *adminv1.Consent {
	return &adminv1.Consent{ClientId: c.ClientID, Scopes: c.Scopes, GivenAt: timestamppb.New(c.GivenAt)}
}

// SetConsent implements adminv1.AdminServer. Where scopes are taken away, the
// consent is revoked first: between the two the user would be asked.
func (s *Service) SetConsent(ctx context.Context, request *adminv1.SetConsentRequest) (*adminv1.SetConsentResponse, error) {
	id, scopes := request.GetClientId(), request.GetScopes()
	var vs conf.Violations
	if len(scopes) == 0 {
		vs.Add("scopes", nil, "are missing", "say what is allowed, or leave the consent out")
	}
	unknown(&vs, "scopes", scopes, s.scopes, "is no scope of any API", "declare it under issuer.apis")
	if err := invalid(vs); err != nil || request.GetCheckOnly() {
		return &adminv1.SetConsentResponse{}, err
	}
	u, err := s.user(ctx, request.GetLogin())
	if err != nil {
		return nil, err
	}
	given, err := s.deps.Store.Consent(ctx, u.ID, id)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, answer(err, "consent", id)
	}
	if slices.ContainsFunc(given.Scopes, func(scope string) bool { return !slices.Contains(scopes, scope) }) {
		if err := s.deps.Store.RevokeConsent(ctx, u.ID, id); err != nil {
			return nil, answer(err, "consent", id)
		}
	}
	if err := s.deps.Store.SaveConsent(ctx, u.ID, id, scopes); err != nil {
		return nil, answer(err, "client", id)
	}
	s.deps.Logger.Info("set a consent", "user", u.ID, "client", id)
	return &adminv1.SetConsentResponse{}, nil
}

// RevokeConsent implements adminv1.AdminServer.
func (s *Service) RevokeConsent(ctx context.Context, request *adminv1.RevokeConsentRequest) (*adminv1.RevokeConsentResponse, error) {
	u, err := s.user(ctx, request.GetLogin())
	if err != nil {
		return nil, err
	}
	if _, err := s.deps.Store.Consent(ctx, u.ID, request.GetClientId()); err != nil {
		return nil, answer(err, "consent", request.GetClientId())
	}
	if err := s.deps.Store.RevokeConsent(ctx, u.ID, request.GetClientId()); err != nil {
		return nil, answer(err, "consent", request.GetClientId())
	}
	s.deps.Logger.Info("revoked a consent", "user", u.ID, "client", request.GetClientId())
	return &adminv1.RevokeConsentResponse{}, nil
}
