package ca

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"gatehouse.dev/gatehouse/internal/workload"
	workloadv1 "gatehouse.dev/gatehouse/proto/gatehouse/workload/v1"
)

const (
	maxMessage = 64 << 10
	maxStreams = 16
	// maxSecret bounds what is hashed for a token; ours have 43 characters.
	maxSecret = 128
)

// alive lets whoever watches trust look now and then whether the connection
// still is: without it gRPC takes more than a look in five minutes for abuse.
var alive = grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true})

func (s *Server) enrolmentServer() *grpc.Server {
	server := grpc.NewServer(
		grpc.Creds(s.own.credentials()),
		grpc.ConnectionTimeout(connectWithin),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxHeaderListSize(16<<10),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: time.Minute, Time: 30 * time.Second, Timeout: 10 * time.Second}),
		alive,
	)
	workloadv1.RegisterEnrolmentServer(server, &enrolment{Server: s})
	s.RegisterTrust(server, "")
	return server
}

// enrolment is the gRPC service. Its callers have no identity yet, so they hear
// only whether they got something.
type enrolment struct {
	workloadv1.UnimplementedEnrolmentServer
	*Server
}

// Enrol implements workloadv1.EnrolmentServer.
func (e *enrolment) Enrol(ctx context.Context, r *workloadv1.EnrolRequest) (*workloadv1.EnrolResponse, error) {
	if !e.addresses.admit(ctx) {
		return nil, status.Error(codes.ResourceExhausted, "too many requests: try again later")
	}
	chain, err := e.enrol(ctx, r)
	if err != nil {
		return nil, e.refused(ctx, "enrolment", err)
	}
	return &workloadv1.EnrolResponse{Svid: e.svidOf(chain)}, nil
}

func (e *enrolment) enrol(ctx context.Context, r *workloadv1.EnrolRequest) ([]*x509.Certificate, error) {
	secret := r.GetJoinToken()
	if len(secret) > maxSecret {
		return nil, refuse("the join token is too long")
	}
	bound, err := e.store.token(secret)
	if err != nil {
		return nil, err
	}
	id, request, err := e.request(bound, r.GetCsr())
	if err != nil {
		return nil, err
	}
	return e.issue(ctx, id, request, func(row issuedRow) error { return e.store.enrol(secret, row) })
}

// Renew implements workloadv1.EnrolmentServer.
func (e *enrolment) Renew(ctx context.Context, r *workloadv1.RenewRequest) (*workloadv1.RenewResponse, error) {
	if !e.addresses.admit(ctx) {
		return nil, status.Error(codes.ResourceExhausted, "too many requests: try again later")
	}
	chain, err := e.renew(ctx, r)
	if err != nil {
		return nil, e.refused(ctx, "renewal", err)
	}
	return &workloadv1.RenewResponse{Svid: e.svidOf(chain)}, nil
}

// renew takes a certificate for ours where it was written down when it was
// issued: a chain alone would also let in what another signer made up.
func (e *enrolment) renew(ctx context.Context, r *workloadv1.RenewRequest) ([]*x509.Certificate, error) {
	if len(r.GetCertificate()) > maxRequest {
		return nil, refuse("the certificate has %d bytes", len(r.GetCertificate()))
	}
	old, err := x509.ParseCertificate(r.GetCertificate())
	if err != nil {
		return nil, refuse("the certificate cannot be read: %v", err)
	}
	bound, err := e.store.renewable(old)
	if err != nil {
		return nil, err
	}
	if err := workload.CheckProof(old.PublicKey, r.GetCertificate(), r.GetCsr(), r.GetProof()); err != nil {
		return nil, refuse("for %s: %v", bound, err)
	}
	// Behind the proof, so that strangers use up nobody's renewals.
	if !e.renewals.count(bound) {
		return nil, fmt.Errorf("%s renews too often: more than %d times in %v", bound, perWindow, window)
	}
	id, request, err := e.request(bound, r.GetCsr())
	if err != nil {
		return nil, err
	}
	return e.issue(ctx, id, request, e.store.record)
}

func (e *enrolment) request(bound string, csr []byte) (ID, *x509.CertificateRequest, error) {
	id, err := e.member(bound)
	if err != nil {
		return ID{}, nil, err // the trust domain was renamed
	}
	request, err := parseRequest(csr, id)
	if err != nil {
		return ID{}, nil, refuse("for %s: %v", id, err)
	}
	return id, request, nil
}

// refused logs why, and says nothing of it to the peer.
func (s *Server) refused(ctx context.Context, what string, err error) error {
	address := ""
	if p, ok := peer.FromContext(ctx); ok && p.Addr != nil {
		address = p.Addr.String()
	}
	if _, ours := errors.AsType[refusal](err); ours {
		s.metrics.refused.WithLabelValues(what).Inc()
		s.logger.Warn("refused a call", "call", what, "reason", err.Error(), "peer", address)
		return status.Error(codes.PermissionDenied, "refused")
	}
	s.logger.Error("a call came to nothing", "call", what, "error", err, "peer", address)
	return status.Error(codes.Unavailable, "try again later")
}

func (s *Server) svidOf(chain []*x509.Certificate) *workloadv1.Svid {
	svid := &workloadv1.Svid{}
	for _, c := range chain {
		svid.Chain = append(svid.Chain, c.Raw)
	}
	state, _ := s.trust.current()
	svid.Bundle = state.GetBundle()
	return svid
}
