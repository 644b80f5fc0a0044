package ca

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gatehouse.dev/gatehouse/internal/workload"
	workloadv1 "gatehouse.dev/gatehouse/proto/gatehouse/workload/v1"
)

// administration is the gRPC service behind the admin socket. Its callers own
// the site, so they hear every reason.
type administration struct {
	workloadv1.UnimplementedWorkloadsServer
	*Server
}

// Administration is the service without a socket, for a process that opened
// the CA for itself.
func (s *Server) Administration() workloadv1.WorkloadsServer { return administration{Server: s} }

func answer(err error) error {
	if err == nil {
		return nil
	}
	if _, ours := errors.AsType[refusal](err); ours {
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	return status.Error(codes.Internal, err.Error())
}

func (a administration) id(text string) (ID, error) {
	id, err := a.member(text)
	if err != nil {
		return ID{}, status.Error(codes.InvalidArgument, err.Error())
	}
	return id, nil
}

// CreateToken implements workloadv1.WorkloadsServer.
func (a administration) CreateToken(_ context.Context, r *workloadv1.CreateTokenRequest) (*workloadv1.CreateTokenResponse, error) {
	id, err := a.id(r.GetSpiffeId())
	if err != nil {
		return nil, err
	}
	life := time.Duration(r.GetSeconds()) * time.Second
	if life == 0 {
		life = maxTokenLife
	}
	if life > maxTokenLife {
		return nil, status.Errorf(codes.InvalidArgument, "a join token lives at most %s: make it when it is needed", maxTokenLife)
	}
	secret, expires, err := a.store.newToken(id, life)
	if err != nil {
		return nil, answer(err)
	}
	token := workload.JoinToken{ID: id.String(), Secret: secret, ExpiresAt: expires}
	for _, root := range a.Roots() {
		token.Roots = append(token.Roots, workload.FingerprintOf(root))
	}
	a.logger.Info("made a join token", "spiffe_id", token.ID, "expires", expires)
	return &workloadv1.CreateTokenResponse{Token: token.Encode(), ExpiresAt: timestamppb.New(expires)}, nil
}

// Revoke implements workloadv1.WorkloadsServer.
func (a administration) Revoke(_ context.Context, r *workloadv1.RevokeRequest) (*workloadv1.RevokeResponse, error) {
	id, err := a.id(r.GetSpiffeId())
	if err != nil {
		return nil, err
	}
	if err := errors.Join(a.store.revoke(id), a.trust.rebuild()); err != nil {
		return nil, answer(err)
	}
	a.logger.Info("revoked a workload", "spiffe_id", id.String())
	return &workloadv1.RevokeResponse{}, nil
}

// Allow implements workloadv1.WorkloadsServer.
func (a administration) Allow(_ context.Context, r *workloadv1.AllowRequest) (*workloadv1.AllowResponse, error) {
	id, err := a.id(r.GetSpiffeId())
	if err != nil {
		return nil, err
	}
	if err := a.store.allow(id); err != nil {
		return nil, answer(err)
	}
	a.logger.Info("allowed a workload again", "spiffe_id", id.String())
	return &workloadv1.AllowResponse{}, answer(a.trust.rebuild())
}

// List implements workloadv1.WorkloadsServer.
func (a administration) List(context.Context, *workloadv1.ListRequest) (*workloadv1.ListResponse, error) {
	list := &workloadv1.ListResponse{}
	err := a.store.workloads(func(id string, row workloadRow) {
		list.Workloads = append(list.Workloads, &workloadv1.Workload{
			SpiffeId: id, Serial: row.Serial,
			IssuedAt: timestamp(row.Issued), NotAfter: timestamp(row.NotAfter), RevokedAt: timestamp(row.Revoked),
		})
	})
	return list, answer(err)
}

func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// Reload implements workloadv1.WorkloadsServer.
func (a administration) Reload(ctx context.Context, _ *workloadv1.ReloadRequest) (*workloadv1.ReloadResponse, error) {
	if err := a.Refresh(); err != nil {
		return nil, answer(err)
	}
	if err := a.own.refresh(ctx); err != nil {
		return nil, answer(err)
	}
	uses, err := a.store.rootsInUse()
	if err != nil {
		return nil, answer(err)
	}
	state, _ := a.trust.current()
	r := &workloadv1.ReloadResponse{Behind: a.trust.behind(), Bundle: state.GetBundle()}
	for root, until := range uses {
		r.Roots = append(r.Roots, &workloadv1.RootUse{Fingerprint: []byte(root), Until: timestamppb.New(until)})
	}
	return r, nil
}
