package main

import (
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
