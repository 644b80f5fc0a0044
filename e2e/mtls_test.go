package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"gatehouse.dev/gatehouse/controlplane/ca"
	"gatehouse.dev/gatehouse/e2e/harness"
	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/internal/serve"
	revocationv1 "gatehouse.dev/gatehouse/proto/gatehouse/revocation/v1"
)

const trustDomain = "gatehouse.local"

// overTLS lets the parts speak over TCP with mutual TLS, under certificates of
// the development CA, instead of over Unix sockets.
func overTLS(t *testing.T) func(*harness.System, harness.Config) {
	return func(_ *harness.System, c harness.Config) {
		for _, part := range []string{harness.Issuer, harness.Authz, harness.ControlPlane, harness.Envoy} {
			c.Set(part+".identity", map[string]any{
				"certificate": "data/identity/" + part + ".crt", "key": "data/identity/" + part + ".key", "ca": "data/ca/ca.crt",
			})
		}
		c.Set("authz.listen", harness.FreeAddress(t))
		c.Set("controlplane.listen", harness.FreeAddress(t))
		c.Set("controlplane.authz", []string{c.Text("authz.listen")})
		c.Set("issuer.feed_listen", harness.FreeAddress(t))
	}
}

// identity issues a certificate of a CA's for a SPIFFE id.
func identity(t *testing.T, caDir, name, spiffe string) serve.Identity {
	t.Helper()
	authority, err := ca.Open(caDir, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	crt, key := filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	if _, err := authority.Keep(crt, key, ca.Subject{SPIFFE: spiffe}); err != nil {
		t.Fatal(err)
	}
	return serve.Identity{Certificate: conf.Path(crt), Key: conf.Path(key), CA: conf.Path(filepath.Join(caDir, "ca.crt"))}
}

// The whole system over mutual TLS.
func TestHTTPSMutualTLS(t *testing.T) {
	s := harness.Start(t, harness.Options{Configure: overTLS(t)})
	robot, access := s.Robot(t, "robot", "read:orders")
	s.Expect(t, 200, "GET", "/orders", access)
	s.Expect(t, 401, "GET", "/orders", "")
	s.Expect(t, 403, "POST", "/orders", access)
	s.Edit(t, func(c harness.Config) {
		c.AddRoute(harness.Route{"id": "new", "path": "/new", "service": "orders", "public": true})
	})
	harness.Eventually(t, 10*time.Second, s.Says(200, "GET", "/new", ""))
	s.Revoke(t, robot, access)
	harness.Eventually(t, time.Second, s.Says(401, "GET", "/orders", access))
	for _, socket := range []string{"xds", "authz", "feed"} {
		if harness.Exists(s.Socket(socket)) {
			t.Errorf("the Unix socket %s is there as well", socket)
		}
	}
}

// Who is who: each server takes exactly the callers that it must, by SPIFFE id
// under the site's CA, and nobody else.
func TestHTTPSMutualTLSIdentities(t *testing.T) {
	s := harness.Start(t, harness.Options{Configure: overTLS(t)})
	_, access := s.Robot(t, "robot", "read:orders")
	caDir := filepath.Join(s.Dir, "data", "ca")
	edge := identity(t, caDir, "edge", envoy.EdgeIdentity(trustDomain))
	rule := harness.SignRule(t, s.Rule(s.URL("")), s.RuleKey(t))

	check := func(id serve.Identity) string {
		credentials, err := serve.DialCredentials(s.Config().Text("authz.listen"), id, envoy.AuthzIdentity(trustDomain))
		if err != nil {
			t.Fatal(err)
		}
		response, err := harness.DialChecker(t, s.Config().Text("authz.listen"), credentials).Check(t, access, rule)
		if err == nil && harness.Verdict(response) == 200 {
			return "allowed"
		}
		return "refused"
	}
	xds := func(id serve.Identity) string {
		conn := dial(t, s.Config().Text("controlplane.listen"), id, envoy.ControlPlaneIdentity(trustDomain))
		return streamed(t, func(ctx context.Context) error {
			stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
			if err != nil {
				return err
			}
			if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{
				Node: &corev3.Node{Id: "edge-9", Cluster: envoy.EdgeGroup}, TypeUrl: "type.googleapis.com/envoy.config.cluster.v3.Cluster",
			}); err != nil {
				return err
			}
			_, err = stream.Recv()
			return err
		})
	}
	feed := func(id serve.Identity) string {
		conn := dial(t, s.Config().Text("issuer.feed_listen"), id, envoy.IssuerIdentity(trustDomain))
		return streamed(t, func(ctx context.Context) error {
			stream, err := revocationv1.NewRevocationFeedClient(conn).Watch(ctx, &revocationv1.WatchRequest{Issuer: s.URL("")})
			if err != nil {
				return err
			}
			_, err = stream.Recv()
			return err
		})
	}
	authorizer := identity(t, caDir, "authz", envoy.AuthzIdentity(trustDomain))
	for _, row := range []struct {
		name             string
		id               serve.Identity
		check, xds, feed string
	}{
		{"the edge", edge, "allowed", "allowed", "refused"},
		{"an authorizer", authorizer, "refused", "refused", "allowed"},
		{"a service", identity(t, caDir, "service", envoy.ServiceIdentity(trustDomain, "orders")), "refused", "refused", "refused"},
		{"another edge", identity(t, caDir, "inner", "spiffe://gatehouse.local/gateway/inner"), "refused", "refused", "refused"},
		{"an edge of another trust domain", identity(t, caDir, "other", envoy.EdgeIdentity("other.local")), "refused", "refused", "refused"},
		{"an edge by another CA", foreignCA(t, edge, envoy.EdgeIdentity(trustDomain)), "refused", "refused", "refused"},
		{"an authorizer by another CA", foreignCA(t, edge, envoy.AuthzIdentity(trustDomain)), "refused", "refused", "refused"},
	} {
		if got := check(row.id); got != row.check {
			t.Errorf("Check by %s is %s", row.name, got)
		}
		if got := xds(row.id); got != row.xds {
			t.Errorf("xDS by %s is %s", row.name, got)
		}
		if got := feed(row.id); got != row.feed {
			t.Errorf("the feed by %s is %s", row.name, got)
		}
	}
	plain := harness.DialChecker(t, s.Config().Text("authz.listen"), insecure.NewCredentials())
	if _, err := plain.Check(t, access, rule); err == nil {
		t.Error("Check is answered without TLS")
	}
}

// Envoy does not believe an authorizer, nor an authorizer a feed, that is
// somebody else under the same CA.
func TestHTTPSMutualTLSServers(t *testing.T) {
	configure := overTLS(t)
	orders := envoy.ServiceIdentity(trustDomain, "orders")
	s := harness.Start(t, harness.Options{Configure: func(s *harness.System, c harness.Config) {
		configure(s, c)
		// The impostor may follow the feed, so that it becomes ready.
		c.Set("issuer.feed_clients", []string{envoy.AuthzIdentity(trustDomain), orders})
	}})
	_, access := s.Robot(t, "robot", "read:orders")
	s.Expect(t, 200, "GET", "/orders", access)
	impostor := identity(t, filepath.Join(s.Dir, "data", "ca"), "impostor", orders)
	// Under another name of the CA's file, the part's certificate is its own
	// affair and is not renewed by the development CA.
	trust := filepath.Join(s.Dir, "data", "trust.crt")
	copyFile(t, s.CAPath(), trust)
	wrong := map[string]any{"certificate": string(impostor.Certificate), "key": string(impostor.Key), "ca": trust}
	right := s.Config().Get("authz.identity")

	s.Process(harness.Authz).Stop(t)
	s.Edit(t, func(c harness.Config) { c.Set("authz.identity", wrong) })
	s.StartPart(t, harness.Authz)
	harness.During(t, 1500*time.Millisecond, s.Says(503, "GET", "/orders", access))

	s.Process(harness.Authz).Stop(t)
	s.Edit(t, func(c harness.Config) { c.Set("authz.identity", right) })
	s.StartPart(t, harness.Authz)
	harness.Eventually(t, time.Second, s.Says(200, "GET", "/orders", access))

	s.Process(harness.Authz).Stop(t)
	s.Process(harness.Issuer).Stop(t)
	s.Edit(t, func(c harness.Config) { c.Set("issuer.identity", wrong) })
	s.StartPart(t, harness.Issuer)
	s.LaunchPart(t, harness.Authz)
	harness.Eventually(t, 10*time.Second, func() error {
		_, _, err := s.TryTelemetry(t, harness.Authz, "/livez")
		return err
	})
	harness.During(t, 2*time.Second, func() error {
		status, body, err := s.TryTelemetry(t, harness.Authz, "/readyz")
		if err == nil && status == 200 {
			err = fmt.Errorf("an authorizer believes another's feed: %s", body)
		}
		return err
	})
}

func dial(t *testing.T, address string, id serve.Identity, peer string) *grpc.ClientConn {
	t.Helper()
	credentials, err := serve.DialCredentials(address, id, peer)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// streamed is "allowed" where the stream gave a first message.
func streamed(t *testing.T, open func(context.Context) error) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	err := open(ctx)
	if status.Code(err) == codes.DeadlineExceeded {
		t.Error("the stream was neither refused nor served")
	}
	if err == nil {
		return "allowed"
	}
	return "refused"
}

// foreignCA is an identity by a CA of its own, which trusts the site's servers.
func foreignCA(t *testing.T, site serve.Identity, spiffe string) serve.Identity {
	t.Helper()
	id := identity(t, t.TempDir(), "foreign", spiffe)
	id.CA = site.CA
	return id
}
