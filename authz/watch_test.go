package authz

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"gatehouse.dev/gatehouse/envoy"
)

// watchedStream begins as Envoy does: with its peer, or whom it calls, or neither.
func (w *world) watchedStream(peer, target string) extprocv3.ExternalProcessor_ProcessClient {
	w.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	w.Cleanup(cancel)
	if target != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, envoy.TargetMetadata, target)
	}
	stream, err := extprocv3.NewExternalProcessorClient(w.conn).Process(ctx)
	if err != nil {
		w.Fatal(err)
	}
	first := &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestHeaders{RequestHeaders: &extprocv3.HttpHeaders{}}}
	if peer != "" {
		first.Attributes = map[string]*structpb.Struct{"envoy.filters.http.ext_proc": {Fields: map[string]*structpb.Value{
			envoy.PeerAttribute: structpb.NewStringValue(peer),
		}}}
	}
	if err := stream.Send(first); err != nil {
		w.Fatal(err)
	}
	return stream
}

// admitted is a stream that may begin.
func (w *world) admitted(peer, target string) extprocv3.ExternalProcessor_ProcessClient {
	w.Helper()
	stream := w.watchedStream(peer, target)
	answer, err := stream.Recv()
	if err != nil || answer.GetRequestHeaders() == nil {
		w.Fatalf("the stream of %q to %q may not begin: %v %v", peer, target, answer, err)
	}
	return stream
}

func TestStreamsOfTheRevokedEnd(t *testing.T) {
	w := newWorld(t)
	trust := newTestTrust()
	w.trust = trust
	w.start()
	w.waitReady()
	from, to := w.admitted(testOrders, ""), w.admitted("", testOrders)
	others := w.admitted(testProfile, "")
	trust.change(func() { trust.denied = []string{testOrders} })
	ended := func(name string, stream extprocv3.ExternalProcessor_ProcessClient) {
		t.Helper()
		if _, err := stream.Recv(); status.Code(err) != codes.PermissionDenied {
			t.Errorf("%s: %v", name, err)
		}
	}
	ended("from it", from)
	ended("to it", to)
	// New ones begin once those have shown that the authorizer knows.
	ended("a new one", w.watchedStream(testOrders, ""))
	ended("a new one of the edge", w.watchedStream(testNode, testOrders))
	trailers := &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseTrailers{ResponseTrailers: &extprocv3.HttpTrailers{}}}
	if err := others.Send(trailers); err != nil {
		t.Fatal(err)
	}
	if answer, err := others.Recv(); err != nil || answer.GetResponseTrailers() == nil {
		t.Errorf("another's trailers: %v %v", answer, err)
	}
	w.admitted(testProfile, "")
}

func TestStreamsThatNobodyCanWatchEnd(t *testing.T) {
	w := newWorld(t)
	trust := newTestTrust()
	trust.silent, w.trust = true, trust
	w.start()
	if _, err := w.watchedStream(testOrders, "").Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("before it is known who was revoked: %v", err)
	}
	trust.change(func() { trust.silent = false })
	w.waitReady()
	if _, err := w.watchedStream("", "").Recv(); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a stream of nobody: %v", err)
	}
	stream, err := extprocv3.NewExternalProcessorClient(w.conn).Process(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&extprocv3.ProcessingRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a stream that does not begin with headers: %v", err)
	}
	standing := w.admitted(testOrders, "")
	close(w.server.stopping)
	w.server.stopping = make(chan struct{}) // for the end of the test
	if _, err := standing.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("when the authorizer ends: %v", err)
	}
}

// What was heard of revoked workloads counts for trust_max_age, then nobody
// passes and nothing goes on, until it is heard again.
func TestOldNewsOfTheRevokedDenies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		trust := newTestTrust()
		s, stop := runSigning(t, trust)
		defer stop()
		if err := s.heard(); err != nil {
			t.Fatal(err)
		}
		trust.change(func() { trust.heard = time.Now() })
		pass(testSigning.TrustMaxAge)
		if err := s.heard(); err != nil {
			t.Errorf("within trust_max_age: %v", err)
		}
		state := s.denied.current.Load()
		pass(2 * lookAgain)
		if err := s.heard(); err == nil || denialOf(err).reason != ReasonTrustMissing {
			t.Errorf("after trust_max_age: %v", err)
		}
		select {
		case <-state.next:
		default:
			t.Error("those who watch streams do not hear of it")
		}
		trust.change(func() { trust.heard, trust.denied = time.Time{}, []string{testOrders} })
		synctest.Wait()
		if err := s.heard(); err != nil || !s.isDenied(testOrders) {
			t.Errorf("once it is heard again: %v", err)
		}
	})
}
