package issuer

import (
	"context"
	"errors"

	"gatehouse.dev/gatehouse/issuer/store"
)

// fetch answers a device that polls for its tokens (RFC 8628 §3.4). The store
// keeps the pace and hands the tokens out once.
func (s *server) fetch(ctx context.Context, client store.Client, f form) (*tokenResponse, error) {
	if !f.has("device_code") {
		return nil, fail(codeInvalidRequest, "device_code is missing")
	}
	resources, err := s.catalog.askedResources(f)
	if err != nil {
		return nil, err
	}
	refresh := store.NewToken(store.RefreshPrefix)
	issuance, err := s.store.PollDevice(ctx, store.Poll{
		Device: store.HashOf(f.get("device_code")), ClientID: client.ID, GrantID: store.NewID("gra_"),
		Step: pollStep, Longest: pollLongest,
		Decide: func(d store.Device) (store.Terms, error) {
			terms := s.terms(client, store.Code{Scopes: d.Granted}, refresh)
			terms.Holder = refreshHolder(ctx, client)
			return terms, s.catalog.checkResources(d.Granted, d.Audience, resources)
		},
	})
	if err != nil {
		return nil, s.unfetched(ctx, client, err)
	}
	if !s.catalog.refreshable(client, issuance.Grant.Scopes) {
		refresh = ""
	}
	return s.answer(ctx, client, issuance, resources, personTokens{refresh: refresh}, nil)
}

// unfetched is what a device learns that gets nothing (RFC 8628 §3.5).
func (s *server) unfetched(ctx context.Context, client store.Client, err error) error {
	switch {
	case errors.Is(err, store.ErrPending):
		return fail(codeAuthorizationPending, "the person has not decided yet")
	case errors.Is(err, store.ErrSlowDown):
		return fail(codeSlowDown, "wait 5 seconds longer between requests from now on")
	case errors.Is(err, store.ErrDenied):
		return fail(codeAccessDenied, "the person denied the request")
	case errors.Is(err, store.ErrExpired):
		return fail(codeExpiredToken, "the device code has expired")
	default:
		return s.spent(ctx, "device code", client, err)
	}
}
