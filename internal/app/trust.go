package app

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/types/known/timestamppb"

	"gatehouse.dev/gatehouse/authz"
	"gatehouse.dev/gatehouse/internal/serve"
	"gatehouse.dev/gatehouse/internal/workload"
	workloadv1 "gatehouse.dev/gatehouse/proto/gatehouse/workload/v1"
)

// authzTrust is where the authorizer shares its assertion keys, nil for one
// that shares them with nobody. A workload CA in this process is reached over
// its own socket, as from any other.
func (s *site) authzTrust(identity serve.Source) (authz.Trust, error) {
	server := workload.TrustServer{Address: s.config.Authz.Trust, ID: s.config.Authz.TrustIdentity}
	if server.Address == "" && s.has(ControlPlane) {
		server.Address = s.config.ControlPlane.CA.AdminSocket
	}
	if server.Address == "" {
		return nil, nil
	}
	if identity == nil {
		identity = s.config.Authz.Identity
	}
	trust, err := workload.NewTrust(server, identity, workload.Deps{Logger: s.log(Authz)})
	if err != nil {
		return nil, fmt.Errorf("authz.trust: %w", err)
	}
	s.behind = append(s.behind, process{"trust", trust.Run})
	return sharedTrust{trust}, nil
}

// sharedTrust speaks the authorizer's language.
type sharedTrust struct{ trust *workload.Trust }

// Current implements authz.Trust.
func (s sharedTrust) Current() (*workloadv1.TrustState, <-chan struct{}) {
	members, changed := s.trust.Current()
	if members == nil {
		return nil, changed
	}
	state := &workloadv1.TrustState{Version: members.Version, Denied: members.Denied}
	for _, k := range members.Keys {
		state.AssertionKeys = append(state.AssertionKeys, &workloadv1.AssertionKey{
			Id: k.ID, Jwk: k.JWK, ExpiresAt: timestamppb.New(k.ExpiresAt), Held: k.Held,
		})
	}
	return state, changed
}

// Publish implements authz.Trust.
func (s sharedTrust) Publish(ctx context.Context, r *workloadv1.PublishAssertionKeysRequest) error {
	var keys []workload.AssertionKey
	for _, k := range r.GetKeys() {
		keys = append(keys, workload.AssertionKey{ID: k.GetId(), JWK: k.GetJwk(), ExpiresAt: k.GetExpiresAt().AsTime()})
	}
	return s.trust.Publish(ctx, r.GetReplica(), keys)
}
