package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"

	"gatehouse.dev/gatehouse/envoy"
	rulev1 "gatehouse.dev/gatehouse/proto/gatehouse/rule/v1"
	"gatehouse.dev/gatehouse/token/tokentest"
)

const (
	issuerURL = "https://issuer.example"
	audience  = "https://orders.example"
	nodeID    = "spiffe://gatehouse.local/gateway/edge"
	serviceID = "spiffe://gatehouse.local/service/orders"
)

// contestant is a Check server that runs as a process of its own.
type contestant struct {
	name   string
	pid    int
	client authv3.AuthorizationClient
}

// site is everything a run needs: both contestants, and the issuer's keys and
// feed that the authorizer asks for, which the bench serves itself.
type site struct {
	dir          string
	signing      *tokentest.Key
	private      ed25519.PrivateKey // of rules
	authz, empty contestant
	closers      []func()
}

func (s *site) close() {
	for i := len(s.closers) - 1; i >= 0; i-- {
		s.closers[i]()
	}
}

func newSite(ctx context.Context, o options) (_ *site, err error) {
	s := &site{signing: tokentest.NewKey("ES256")}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.dir, err = os.MkdirTemp("", "bench"); err != nil {
		return nil, fmt.Errorf("making a folder: %w", err)
	}
	s.closers = append(s.closers, func() { os.RemoveAll(s.dir) })
	keys, err := s.serveKeys()
	if err != nil {
		return nil, err
	}
	if err := s.serveFeed(); err != nil {
		return nil, err
	}
	if err = s.makeRuleKey(); err != nil {
		return nil, err
	}
	config := filepath.Join(s.dir, "gatehouse.yaml")
	if err := os.WriteFile(config, []byte(s.config(keys)), 0o600); err != nil {
		return nil, fmt.Errorf("writing the configuration: %w", err)
	}
	if s.authz, err = s.start(ctx, "authz", exec.Command(o.gatehouse, "authz", "--config", config)); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding the bench's own binary: %w", err)
	}
	s.empty, err = s.start(ctx, "empty", exec.Command(self, "-serve-empty", s.socket("empty")))
	return s, err
}

func (s *site) socket(name string) string { return filepath.Join(s.dir, name+".sock") }

func (s *site) config(keys string) string {
	return fmt.Sprintf(`version: 1
gateway: {issuers: [%[1]s]}
authz:
  listen: unix:%[2]s
  telemetry: 127.0.0.1:0
  allowed_events: debug
  rule_keys: [%[3]s]
  issuers:
    - {issuer: %[1]s, jwks_url: "http://%[4]s/", allow_internal: true, feed: "unix:%[5]s"}
`, issuerURL, s.socket("authz"), filepath.Join(s.dir, "rule.pub"), keys, s.socket("feed"))
}

// serveKeys answers any request with the key set, and returns the address.
func (s *site) serveKeys() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("serving the keys: %w", err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write(tokentest.JWKS(s.signing))
	}), ReadHeaderTimeout: time.Second}
	go server.Serve(listener)
	s.closers = append(s.closers, func() { server.Close() })
	return listener.Addr().String(), nil
}

// makeRuleKey also writes rule.pub.
func (s *site) makeRuleKey() error {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("making the rule key: %w", err)
	}
	s.private = private
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return fmt.Errorf("encoding the rule key: %w", err)
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	if err := os.WriteFile(filepath.Join(s.dir, "rule.pub"), block, 0o600); err != nil {
		return fmt.Errorf("writing the rule key: %w", err)
	}
	return nil
}

// rule is the route's as Envoy would carry it, with an assertion for a service
// or for nobody.
func (s *site) rule(assertionFor string) (string, error) {
	rule, err := proto.Marshal(&rulev1.Rule{
		Route: "orders-list", Service: "orders", NodeIdentities: []string{nodeID},
		Issuers: []string{issuerURL}, Audience: audience, Scopes: []string{"read:orders"},
		TokenSources:       []rulev1.TokenSource{rulev1.TokenSource_TOKEN_SOURCE_AUTHORIZATION_BEARER},
		RevocationMaxAgeMs: 600_000, AssertionAudience: assertionFor,
	})
	if err != nil {
		return "", fmt.Errorf("encoding the rule: %w", err)
	}
	signed, err := proto.Marshal(&rulev1.SignedRule{
		Rule: rule, KeyId: envoy.RuleKeyID(s.private.Public().(ed25519.PublicKey)),
		Signature: ed25519.Sign(s.private, append([]byte(envoy.RuleContext), rule...)),
	})
	if err != nil {
		return "", fmt.Errorf("encoding the signed rule: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(signed), nil
}

// start runs a contestant and waits until it says that it serves.
func (s *site) start(ctx context.Context, name string, command *exec.Cmd) (contestant, error) {
	log, err := os.Create(filepath.Join(s.dir, name+".log"))
	if err != nil {
		return contestant{}, fmt.Errorf("making the log of %s: %w", name, err)
	}
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		return contestant{}, fmt.Errorf("starting %s: %w (run `make build` first?)", name, err)
	}
	s.closers = append(s.closers, func() {
		command.Process.Signal(syscall.SIGTERM)
		command.Wait()
		log.Close()
	})
	conn, err := grpc.NewClient("unix:"+s.socket(name), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return contestant{}, fmt.Errorf("dialling %s: %w", name, err)
	}
	s.closers = append(s.closers, func() { conn.Close() })
	if err := awaitServing(ctx, conn); err != nil {
		text, _ := os.ReadFile(log.Name())
		return contestant{}, fmt.Errorf("waiting for %s: %w\n%s", name, err, text)
	}
	return contestant{name: name, pid: command.Process.Pid, client: authv3.NewAuthorizationClient(conn)}, nil
}

func awaitServing(ctx context.Context, conn *grpc.ClientConn) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	health := grpc_health_v1.NewHealthClient(conn)
	for {
		answer, err := health.Check(ctx, &grpc_health_v1.HealthCheckRequest{})
		if err == nil && answer.GetStatus() == grpc_health_v1.HealthCheckResponse_SERVING {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
