package main

import (
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gatehouse.dev/gatehouse/internal/serve"
	revocationv1 "gatehouse.dev/gatehouse/proto/gatehouse/revocation/v1"
)

// feed is a revocation feed with nothing in it.
type feed struct {
	revocationv1.UnimplementedRevocationFeedServer
}

func (feed) Watch(_ *revocationv1.WatchRequest, stream grpc.ServerStreamingServer[revocationv1.WatchResponse]) error {
	const epoch = "bench"
	err := stream.Send(&revocationv1.WatchResponse{Message: &revocationv1.WatchResponse_Snapshot{
		Snapshot: &revocationv1.Snapshot{Epoch: epoch, Complete: true},
	}})
	beat := time.NewTicker(250 * time.Millisecond)
	defer beat.Stop()
	for err == nil {
		err = stream.Send(&revocationv1.WatchResponse{Message: &revocationv1.WatchResponse_Heartbeat{
			Heartbeat: &revocationv1.Heartbeat{Epoch: epoch, Time: timestamppb.Now()},
		}})
		select {
		case <-stream.Context().Done():
			return nil
		case <-beat.C:
		}
	}
	return err
}

func (s *site) serveFeed() error {
	listener, err := serve.Listen("unix:" + s.socket("feed"))
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	revocationv1.RegisterRevocationFeedServer(server, feed{})
	go server.Serve(listener)
	s.closers = append(s.closers, server.Stop)
	return nil
}

// workloads are what is measured, with the goals of the design.
func (s *site) workloads() []workload {
	one := s.mint("seen")
	return []workload{
		{name: "check_seen", what: "Check, token seen before", goal: 1.25, tokens: func(checks int) ([]string, error) {
			tokens := make([]string, checks)
			for i := range tokens {
				tokens[i] = one
			}
			return tokens, nil
		}},
		{name: "check_new_es256", what: "Check, new ES256 token", goal: 2.6, tokens: func(checks int) ([]string, error) {
			tokens := make([]string, checks)
			for i := range tokens {
				tokens[i] = s.mint(fmt.Sprintf("%d-%d", time.Now().UnixNano(), i))
			}
			return tokens, nil
		}},
	}
}

// mint signs an access token as the issuer would.
func (s *site) mint(id string) string {
	now := time.Now()
	return s.signing.Sign(map[string]any{"alg": "ES256", "typ": "at+jwt", "kid": s.signing.ID()}, map[string]any{
		"iss": issuerURL, "aud": audience, "sub": "usr_ada", "client_id": "shop", "scope": "read:orders write:orders",
		"roles": []string{"customer"}, "jti": id, "iat": now.Unix(), "exp": now.Add(10 * time.Minute).Unix(),
		"sid": "s-1", "grant_id": "g-1",
	})
}
