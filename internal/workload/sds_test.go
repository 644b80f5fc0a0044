package workload

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"gatehouse.dev/gatehouse/envoy"
)

const (
	profile = "spiffe://gatehouse.local/service/profile"
	edge    = "spiffe://gatehouse.local/gateway/edge"
)

// realEnvoy is the Envoy to test with: $ENVOY or the fetched one.
func realEnvoy(t *testing.T) string {
	t.Helper()
	path := os.Getenv("ENVOY")
	if path == "" {
		path = "../../.tools/envoy"
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("no Envoy to test with: run `make tools` or set $ENVOY: %v", err)
	}
	return path
}

// freeAddress is a loopback address that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// clientTLS is one end of mutual TLS with what live has at each handshake.
func clientTLS(live *Live) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, NextProtos: []string{"h2"},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return live.KeyPair() },
		VerifyConnection: func(state tls.ConnectionState) error {
			roots, err := live.Roots()
			if err != nil {
				return err
			}
			_, err = state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
			return err
		},
	}
}

// behind is a service that speaks mutual TLS with what live has.
func behind(t *testing.T, live *Live) string {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.TLS.PeerCertificates[0].URIs[0])
	}))
	server.EnableHTTP2 = true
	server.Config.ErrorLog = nil
	server.TLS = &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			pair, err := live.KeyPair()
			if err != nil {
				return nil, err
			}
			roots, err := live.Roots()
			return &tls.Config{
				MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"}, Certificates: []tls.Certificate{*pair},
				ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots, SessionTicketsDisabled: true,
			}, err
		},
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// startEnvoy runs an Envoy that takes mutual TLS at one address, from callers
// with exactly the edge's id, and speaks it to the service.
func startEnvoy(t *testing.T, dir, agent, listen, service string) {
	t.Helper()
	server, err := envoy.MutualTLSServer(edge)
	if err != nil {
		t.Fatal(err)
	}
	client, err := envoy.MutualTLS(profile)
	if err != nil {
		t.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(listen)
	serviceHost, servicePort, _ := net.SplitHostPort(service)
	h2 := `"typed_extension_protocol_options":{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions":{"@type":"type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions","common_http_protocol_options":{"max_requests_per_connection":1},"explicit_http_config":{"http2_protocol_options":{}}}}`
	text := fmt.Sprintf(`{"node":{"id":"orders-1","cluster":"service/orders"},
	"admin":{"address":{"pipe":{"path":%q,"mode":384}}},
	"static_resources":{
	 "listeners":[{"name":"in","address":{"socket_address":{"address":%q,"port_value":%s}},"filter_chains":[{"transport_socket":%s,"filters":[{"name":"hcm","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager","stat_prefix":"in","http_filters":[{"name":"envoy.filters.http.router","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],"route_config":{"virtual_hosts":[{"name":"all","domains":["*"],"routes":[{"match":{"prefix":"/"},"route":{"cluster":"service"}}]}]}}}]}]}],
	 "clusters":[
	  {"name":"agent","type":"STATIC",%s,"load_assignment":{"cluster_name":"agent","endpoints":[{"lb_endpoints":[{"endpoint":{"address":{"pipe":{"path":%q}}}}]}]}},
	  {"name":"service","type":"STATIC",%s,"transport_socket":%s,"load_assignment":{"cluster_name":"service","endpoints":[{"lb_endpoints":[{"endpoint":{"address":{"socket_address":{"address":%q,"port_value":%s}}}}]}]}}]}}`,
		filepath.Join(dir, "admin.sock"), host, port, protojson.Format(server),
		strings.Replace(h2, `"common_http_protocol_options":{"max_requests_per_connection":1},`, "", 1), agent,
		h2, protojson.Format(client), serviceHost, servicePort)
	file := filepath.Join(dir, "bootstrap.json")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(realEnvoy(t), "-c", file, "--disable-hot-restart", "--concurrency", "1", "--log-level", "error")
	command.Stdout, command.Stderr = t.Output(), t.Output()
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		command.Process.Kill()
		command.Wait()
	})
}

// dump is what Envoy's administration shows of its configuration.
func dump(t *testing.T, dir string) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(dir, "admin.sock"))
	}}}
	response, err := client.Get("http://envoy/config_dump")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// load sends requests, each over connections of its own.
type load struct {
	t            *testing.T
	done, failed atomic.Int64
	cancel       context.CancelFunc
	workers      sync.WaitGroup
}

const workers = 4

func startLoad(t *testing.T, address string, live *Live) *load {
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{t: t, cancel: cancel}
	for range workers {
		l.workers.Go(func() {
			for ctx.Err() == nil {
				if body, err := get(live, address); err != nil || body != orders {
					l.failed.Add(1)
					t.Logf("a request failed: %q %v", body, err)
				}
				l.done.Add(1)
			}
		})
	}
	return l
}

// pass waits until every request that was under way has ended: the time that
// lies between the steps of a rotation, in little.
func (l *load) pass() {
	l.t.Helper()
	until := l.done.Load() + 3*workers
	await(l.t, "requests to pass", func() error {
		if l.done.Load() < until {
			return errors.New("not enough yet")
		}
		return nil
	})
}

func (l *load) stop() (sent, failed int64) {
	l.cancel()
	l.workers.Wait()
	return l.done.Load(), l.failed.Load()
}

func get(live *Live, address string) (string, error) {
	transport := &http.Transport{TLSClientConfig: clientTLS(live), ForceAttemptHTTP2: true, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	response, err := client.Get("https://" + address + "/")
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != 200 {
		err = errors.New(response.Status)
	}
	return string(body), err
}

// Envoy takes each new certificate and each new root over SDS while requests
// pass, and loses none of them; its key is in no file and no dump.
func TestEnvoyRotatesUnderLoad(t *testing.T) {
	dir := shortDir(t)
	root := newAuthority(t)
	var own, caller, service Live
	all := []*Live{&own, &caller, &service}
	ids := []string{orders, edge, profile}
	for i, l := range all {
		l.Set(root.state(ids[i]))
	}
	sds := NewSDS(&own, logger(t))
	socket := filepath.Join(dir, "agent.sock")
	inBackground(t, func(ctx context.Context) error { return sds.Serve(ctx, "unix:"+socket) })
	listen := freeAddress(t)
	startEnvoy(t, dir, socket, listen, behind(t, &service))
	await(t, "Envoy", func() error { _, err := get(&caller, listen); return err })

	load := startLoad(t, listen, &caller)
	defer load.stop()
	delivered := func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := sds.Delivered(ctx); err != nil {
			t.Fatal(err)
		}
		load.pass()
	}
	for range 10 { // leaves
		own.Set(root.state(orders))
		delivered()
		service.Set(root.state(profile))
		caller.Set(root.state(edge))
	}
	for range 5 { // roots: trust the next, then use it, then forget the old
		next := newAuthority(t)
		for _, l := range all {
			l.SetRoots([]*x509.Certificate{root.cert, next.cert})
		}
		delivered()
		for i, l := range all {
			l.Set(next.state(ids[i], root.cert))
		}
		delivered()
		for _, l := range all {
			l.SetRoots(next.Roots())
		}
		delivered()
		root = next
	}
	sent, failed := load.stop()
	t.Logf("%d requests", sent)
	if failed > 0 || sent < 20 {
		t.Errorf("%d of %d requests failed", failed, sent)
	}
	// Whom the bundle no longer covers, and whom the listener does not name, are
	// refused.
	for name, state := range map[string]*State{"another root": newAuthority(t).state(edge, root.cert), "another id": root.state(profile)} {
		var stranger Live
		stranger.Set(state)
		if body, err := get(&stranger, listen); err == nil {
			t.Errorf("%s got %q", name, body)
		}
	}
	if text := dump(t, dir); strings.Contains(text, "PRIVATE KEY") || strings.Contains(text, "LS0tLS1CRUdJTiBQUklWQVRF") {
		t.Error("the key is in Envoy's dump")
	}
}
