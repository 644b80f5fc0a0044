package admin

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

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
		response.Consents = append(response.Consents, &adminv1.Consent{
			ClientId: c.ClientID, Scopes: c.Scopes, GivenAt: timestamppb.New(c.GivenAt),
		})
	}
	return response, nil
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
