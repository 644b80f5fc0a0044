package admin

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gatehouse.dev/gatehouse/issuer/store"
	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
)

// verifyStep is how many seals one request checks.
const verifyStep = 10_000

// ListEvents implements adminv1.AdminServer.
func (s *Service) ListEvents(ctx context.Context, request *adminv1.ListEventsRequest) (*adminv1.ListEventsResponse, error) {
	events, after, more, err := s.deps.Store.Events(ctx, store.EventQuery{
		After: request.GetAfter(), Limit: pageSize(request.GetLimit()),
		Since: timeOf(request.GetSince()), Until: timeOf(request.GetUntil()),
		Subject: request.GetSubject(), Client: request.GetClient(), Name: request.GetEvent(), Result: request.GetResult(),
	})
	if err != nil {
		return nil, answer(err, "event", "")
	}
	response := &adminv1.ListEventsResponse{Next: after, More: more}
	for _, e := range events {
		response.Events = append(response.Events, &adminv1.Event{
			Sequence: e.Sequence, Time: timestamppb.New(e.At), Event: e.Name, Result: e.Result, Reason: e.Reason,
			Actor: e.Actor, Address: e.Address, Subject: e.Subject, Client: e.Client, Session: e.Session,
			Grant: e.Grant, Detail: e.Detail,
		})
	}
	return response, nil
}

func timeOf(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

// VerifyEvents implements adminv1.AdminServer.
func (s *Service) VerifyEvents(ctx context.Context, request *adminv1.VerifyEventsRequest) (*adminv1.VerifyEventsResponse, error) {
	after := store.EventHead{Sequence: request.GetSequence()}
	copy(after.Seal[:], request.GetSeal())
	head, more, err := s.deps.Store.VerifyEvents(ctx, after, verifyStep)
	if errors.Is(err, store.ErrTampered) {
		return nil, status.Error(codes.DataLoss, err.Error())
	}
	if err != nil {
		return nil, answer(err, "event", "")
	}
	return &adminv1.VerifyEventsResponse{Sequence: head.Sequence, Seal: head.Seal[:], More: more}, nil
}
