package admin

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"gatehouse.dev/gatehouse/issuer/store"
	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
)

var keyStates = map[store.KeyState]adminv1.KeyState{
	store.KeyNext:    adminv1.KeyState_KEY_STATE_NEXT,
	store.KeyActive:  adminv1.KeyState_KEY_STATE_ACTIVE,
	store.KeyRetired: adminv1.KeyState_KEY_STATE_RETIRED,
	store.KeyPurged:  adminv1.KeyState_KEY_STATE_PURGED,
}

func (s *Service) keyMessage(k store.Key, all []store.Key) *adminv1.Key {
	m := &adminv1.Key{
		Id: k.ID, Algorithm: k.Algorithm, State: keyStates[k.State],
		CreatedAt: stamp(k.CreatedAt), RetiredAt: stamp(k.RetiredAt),
		RetiresAt: stamp(s.deps.Keys.RetiresAt(k, all)), VerifiesUntil: stamp(s.deps.Keys.VerifiesUntil(k)),
	}
	if k.State != store.KeyPurged {
		m.ActiveAt = stamp(k.ActiveAt)
	}
	return m
}

// stamp leaves a time out that never came.
func stamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// ListKeys implements adminv1.AdminServer.
func (s *Service) ListKeys(ctx context.Context, _ *adminv1.ListKeysRequest) (*adminv1.ListKeysResponse, error) {
	all, err := s.deps.Keys.List(ctx)
	if err != nil {
		return nil, answer(err, "key", "")
	}
	response := &adminv1.ListKeysResponse{}
	for _, k := range all {
		response.Keys = append(response.Keys, s.keyMessage(k, all))
	}
	return response, nil
}

// RotateKeys implements adminv1.AdminServer.
func (s *Service) RotateKeys(ctx context.Context, request *adminv1.RotateKeysRequest) (*adminv1.RotateKeysResponse, error) {
	next, err := s.deps.Keys.Rotate(ctx, request.GetAlgorithm())
	if err != nil {
		return nil, answer(err, "key", request.GetAlgorithm())
	}
	response := &adminv1.RotateKeysResponse{}
	for _, k := range next {
		response.Next = append(response.Next, s.keyMessage(k, next))
	}
	return response, nil
}

// PurgeKey implements adminv1.AdminServer.
func (s *Service) PurgeKey(ctx context.Context, request *adminv1.PurgeKeyRequest) (*adminv1.PurgeKeyResponse, error) {
	if err := s.deps.Keys.Purge(ctx, request.GetId()); err != nil {
		return nil, answer(err, "key", request.GetId())
	}
	return &adminv1.PurgeKeyResponse{}, nil
}
