package harness

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gatehouse.dev/gatehouse/internal/serve"
	revocationv1 "gatehouse.dev/gatehouse/proto/gatehouse/revocation/v1"
	"gatehouse.dev/gatehouse/token/tokentest"
)

// ForeignURL is the identifier of the issuer that a test plays itself.
const ForeignURL = "https://foreign.example"

// Foreign is an issuer in the test process: it signs whatever a test wants to
// see refused, or accepted.
type Foreign struct {
	Key *tokentest.Key
	// JWKSURL and Feed are where authorizers find it.
	JWKSURL, Feed string

	mu   sync.Mutex
	mute bool
}

// NewForeign serves a key set and an empty revocation feed.
func (s *System) NewForeign(t testing.TB) *Foreign {
	t.Helper()
	f := &Foreign{Key: tokentest.NewKey("ES256"), Feed: "unix:" + filepath.Join(s.Dir, "foreign.sock")}
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/jwk-set+json")
		w.Write(tokentest.JWKS(f.Key))
	}))
	t.Cleanup(keys.Close)
	f.JWKSURL = keys.URL
	listener, err := serve.Listen(f.Feed)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	revocationv1.RegisterRevocationFeedServer(server, foreignFeed{foreign: f})
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	return f
}

// Trusted is how authz.issuers names it.
func (f *Foreign) Trusted() map[string]any {
	return map[string]any{"issuer": ForeignURL, "jwks_url": f.JWKSURL, "allow_internal": true, "feed": f.Feed}
}

// Silence stops, or starts again, the feed's heartbeats, with the stream open.
func (f *Foreign) Silence(mute bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mute = mute
}

func (f *Foreign) silent() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mute
}

// Header and Claims are those of a good token for the orders API; a test
// changes what it wants to see refused.
func (f *Foreign) Header() map[string]any {
	return map[string]any{"alg": "ES256", "typ": "at+jwt", "kid": f.Key.ID()}
}

// Claims: see Header.
func (f *Foreign) Claims() map[string]any {
	now := time.Now()
	return map[string]any{
		"iss": ForeignURL, "aud": OrdersAPI, "sub": "usr_eve", "client_id": "shop", "scope": "read:orders",
		"jti": now.Format(time.RFC3339Nano), "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(), "sid": "s1", "grant_id": "g1",
	}
}

// Sign is a token of this issuer.
func (f *Foreign) Sign(header, claims map[string]any) string { return f.Key.Sign(header, claims) }

type foreignFeed struct {
	revocationv1.UnimplementedRevocationFeedServer
	foreign *Foreign
}

func (f foreignFeed) Watch(_ *revocationv1.WatchRequest, stream grpc.ServerStreamingServer[revocationv1.WatchResponse]) error {
	const epoch = "foreign"
	err := stream.Send(&revocationv1.WatchResponse{Message: &revocationv1.WatchResponse_Snapshot{
		Snapshot: &revocationv1.Snapshot{Epoch: epoch, Complete: true},
	}})
	beat := time.NewTicker(250 * time.Millisecond)
	defer beat.Stop()
	for err == nil {
		if !f.foreign.silent() {
			err = stream.Send(&revocationv1.WatchResponse{Message: &revocationv1.WatchResponse_Heartbeat{
				Heartbeat: &revocationv1.Heartbeat{Epoch: epoch, Time: timestamppb.Now()},
			}})
		}
		select {
		case <-stream.Context().Done():
			return nil
		case <-beat.C:
		}
	}
	return err
}
