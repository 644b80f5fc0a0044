package authz

import (
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	revocationv1 "gatehouse.dev/gatehouse/proto/gatehouse/revocation/v1"

	"gatehouse.dev/gatehouse/internal/serve"
)

// feedServer is an issuer's revocation feed that can be broken at will.
type feedServer struct {
	revocationv1.UnimplementedRevocationFeedServer
	address string

	mu      sync.Mutex
	changed chan struct{} // closed and replaced on each change
	epoch   string
	log     []*revocationv1.Revocation
	offset  time.Duration // of its clock
	skip    int           // revocations to leave out of changes: a gap
	mute    bool          // no heartbeats
	partial bool          // never complete a snapshot
	watches []*revocationv1.WatchRequest
	server  *grpc.Server
}

func startFeed(t testing.TB, address string) *feedServer {
	t.Helper()
	f := &feedServer{address: address, epoch: "epoch-1", changed: make(chan struct{})}
	f.start(t)
	t.Cleanup(f.stop)
	return f
}

// start listens; after a stop, on the same address again.
func (f *feedServer) start(t testing.TB) {
	t.Helper()
	listener, err := serve.Listen(f.address)
	if err != nil {
		t.Fatal(err)
	}
	f.serveOn(listener)
}

func (f *feedServer) serveOn(listener net.Listener, options ...grpc.ServerOption) {
	server := grpc.NewServer(options...)
	revocationv1.RegisterRevocationFeedServer(server, f)
	f.mu.Lock()
	f.server = server
	f.mu.Unlock()
	go server.Serve(listener)
}

func (f *feedServer) stop() {
	f.mu.Lock()
	server := f.server
	f.mu.Unlock()
	server.Stop()
}

// change edits the server's state and wakes its streams.
func (f *feedServer) change(edit func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	edit()
	close(f.changed)
	f.changed = make(chan struct{})
}

// revoke appends to the log.
func (f *feedServer) revoke(kind revocationv1.Kind, id string, notBefore int64) {
	f.change(func() {
		f.log = append(f.log, &revocationv1.Revocation{
			Sequence: uint64(len(f.log) + 1), Kind: kind, Id: id, NotBefore: notBefore,
			ExpiresAt: time.Now().Add(time.Hour).Unix(),
		})
	})
}

func (f *feedServer) requests() []*revocationv1.WatchRequest {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.watches)
}

// Watch implements revocationv1.RevocationFeedServer.
func (f *feedServer) Watch(request *revocationv1.WatchRequest, stream grpc.ServerStreamingServer[revocationv1.WatchResponse]) error {
	f.mu.Lock()
	f.watches = append(f.watches, request)
	f.mu.Unlock()
	if request.GetIssuer() != testIssuer {
		return fmt.Errorf("unknown issuer %q", request.GetIssuer())
	}
	sent := request.GetAfterSequence()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for epoch := request.GetEpoch(); ; {
		messages, changed := f.next(&epoch, &sent)
		for _, message := range messages {
			if err := stream.Send(message); err != nil {
				return err
			}
		}
		select {
		case <-stream.Context().Done():
			return nil
		case <-changed:
		case <-tick.C:
		}
	}
}

// next is what a stream that stands at epoch and sent is to be told.
func (f *feedServer) next(epoch *string, sent *uint64) (messages []*revocationv1.WatchResponse, changed chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	sequence := uint64(len(f.log))
	switch {
	case *epoch == "":
		messages = f.snapshot()
	case *sent < sequence:
		messages = append(messages, changesMessage(f.epoch, f.log[min(int(*sent)+f.skip, len(f.log)):]...))
	}
	*epoch, *sent = f.epoch, sequence
	if !f.mute {
		messages = append(messages, heartbeatMessage(f.epoch, sequence, time.Now().Add(f.offset)))
	}
	return messages, f.changed
}

// snapshot comes in two parts.
func (f *feedServer) snapshot() []*revocationv1.WatchResponse {
	half, sequence := len(f.log)/2, uint64(len(f.log))
	return []*revocationv1.WatchResponse{
		snapshotMessage(f.epoch, sequence, false, f.log[:half]...),
		snapshotMessage(f.epoch, sequence, !f.partial, f.log[half:]...),
	}
}

func snapshotMessage(epoch string, sequence uint64, complete bool, revocations ...*revocationv1.Revocation) *revocationv1.WatchResponse {
	return &revocationv1.WatchResponse{Message: &revocationv1.WatchResponse_Snapshot{
		Snapshot: &revocationv1.Snapshot{Epoch: epoch, Sequence: sequence, Complete: complete, Revocations: revocations},
	}}
}

func changesMessage(epoch string, revocations ...*revocationv1.Revocation) *revocationv1.WatchResponse {
	return &revocationv1.WatchResponse{Message: &revocationv1.WatchResponse_Changes{
		Changes: &revocationv1.Changes{Epoch: epoch, Revocations: revocations},
	}}
}

func heartbeatMessage(epoch string, sequence uint64, at time.Time) *revocationv1.WatchResponse {
	return &revocationv1.WatchResponse{Message: &revocationv1.WatchResponse_Heartbeat{
		Heartbeat: &revocationv1.Heartbeat{Epoch: epoch, Sequence: sequence, Time: timestamppb.New(at)},
	}}
}
