package workload

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gatehouse.dev/gatehouse/internal/serve"
	workloadv1 "gatehouse.dev/gatehouse/proto/gatehouse/workload/v1"
)

// teller is a control plane that tells one state, once it may.
type teller struct {
	workloadv1.UnimplementedTrustServer
	state *workloadv1.TrustState
	heard chan struct{} // closed once somebody watches
	hear  func()        // closes it
	may   chan struct{}
}

// Watch implements workloadv1.TrustServer.
func (s *teller) Watch(stream workloadv1.Trust_WatchServer) error {
	s.hear()
	select {
	case <-s.may:
	case <-stream.Context().Done():
		return nil
	}
	if err := stream.Send(s.state); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

// agentSharing runs an agent whose keys are at a socket; its control plane tells
// of one key.
func agentSharing(t *testing.T, a *authority, keys, kid string) (control *teller, stop func()) {
	t.Helper()
	dir := shortDir(t)
	heard := make(chan struct{})
	control = &teller{heard: heard, hear: sync.OnceFunc(func() { close(heard) }), may: make(chan struct{}), state: &workloadv1.TrustState{
		Version: kid, Bundle: &workloadv1.Bundle{Roots: [][]byte{a.cert.Raw}},
		AssertionKeys: []*workloadv1.AssertionKey{
			{Id: kid, Jwk: fmt.Appendf(nil, `{"kty":"EC","kid":%q}`, kid), ExpiresAt: timestamppb.New(time.Now().Add(time.Hour))},
		},
	}}
	server := grpc.NewServer()
	workloadv1.RegisterTrustServer(server, control)
	trust := "unix:" + filepath.Join(dir, "trust")
	listener, err := serve.Listen(trust)
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	source := NewLocal(&rotating{issuer: a, roots: a.Roots(), changed: make(chan struct{})}, orders, Deps{Logger: logger(t)})
	agent, err := NewAgent(AgentConfig{
		Socket: "unix:" + filepath.Join(dir, "sds"), Keys: "unix:" + keys, Trust: TrustServer{Address: trust},
	}, source, Deps{Logger: logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	return control, inBackground(t, agent.Run)
}

// keysAt is what a service is told at its socket.
func keysAt(socket string) (string, error) {
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
	answer, err := client.Get("http://localhost/assertion-keys")
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return fmt.Sprint(answer.StatusCode, " ", string(text)), err
}

// A service's second agent takes over its socket once it knows of keys, and not
// before; nothing but keys is there.
func TestAgentsShareTheSocketOfKeys(t *testing.T) {
	a, socket := newAuthority(t), filepath.Join(shortDir(t), "run", "keys")
	answers := func(kid string) func() error {
		return func() error {
			if got, err := keysAt(socket); err != nil || got != `200 {"keys":[{"kty":"EC","kid":"`+kid+`"}]}` {
				return fmt.Errorf("the answer is %q: %v", got, err)
			}
			return nil
		}
	}
	one, stop := agentSharing(t, a, socket, "one")
	<-one.heard
	if _, err := keysAt(socket); err == nil {
		t.Error("a socket is there before there are keys")
	}
	close(one.may)
	await(t, "the first agent's keys", answers("one"))

	two, _ := agentSharing(t, a, socket, "two")
	<-two.heard
	if err := answers("one")(); err != nil {
		t.Errorf("while the second agent knows of no keys: %v", err)
	}
	close(two.may)
	await(t, "the second agent's keys", answers("two"))
	stop()
	if err := answers("two")(); err != nil {
		t.Errorf("after the first agent's end: %v", err)
	}
}

// An agent that nobody tells of keys has none to share.
func TestAgentWithoutTrustSharesNoKeys(t *testing.T) {
	source := NewLocal(&rotating{changed: make(chan struct{})}, orders, Deps{Logger: logger(t)})
	if _, err := NewAgent(AgentConfig{Socket: "unix:/s", Keys: "unix:/k"}, source, Deps{Logger: logger(t)}); err == nil {
		t.Error("it shares keys")
	}
}
