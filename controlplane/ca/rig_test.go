package ca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/internal/workload"
	workloadv1 "gatehouse.dev/gatehouse/proto/gatehouse/workload/v1"
)

const (
	domain = "gatehouse.local"
	orders = "spiffe://gatehouse.local/service/orders"
	other  = "spiffe://gatehouse.local/service/profile"
)

// rig is a CA that runs, with a clock to turn and a log to read.
type rig struct {
	*Server
	t        *testing.T
	config   Config
	log      *journal
	registry *prometheus.Registry
	stop     func()

	mu    sync.Mutex
	clock time.Time
}

// journal collects the log.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

func newRig(t *testing.T) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "ca") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &rig{t: t, log: &journal{}, clock: time.Now()}
	r.config = Config{TrustDomain: domain, Enrolment: freeAddress(t), Dir: filepath.Join(dir, "ca")}
	r.config.SetDefaults(dir)
	r.start()
	return r
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (r *rig) now() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.clock
}

func (r *rig) advance(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clock = r.clock.Add(d)
}

// start runs the server until stop, which waits for its end.
func (r *rig) start() {
	r.t.Helper()
	s, err := New(r.config, Deps{Logger: slog.New(slog.NewTextHandler(r.log, nil)), Now: r.now, Registerer: r.metrics()})
	if err != nil {
		r.t.Fatal(err)
	}
	r.Server = s
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Error(err)
		}
	})
	r.t.Cleanup(r.stop)
	for _, door := range [][2]string{{"tcp", r.config.Enrolment}, {"unix", strings.TrimPrefix(r.config.AdminSocket, "unix:")}} {
		for {
			conn, err := net.Dial(door[0], door[1])
			if err == nil {
				conn.Close()
				break
			}
			runtime.Gosched()
		}
	}
}

// metrics are a new registry for a new server.
func (r *rig) metrics() *prometheus.Registry {
	r.registry = prometheus.NewRegistry()
	return r.registry
}

func (r *rig) restart() {
	r.stop()
	r.start()
}

// admin is a client through the socket.
func (r *rig) admin() workloadv1.WorkloadsClient {
	return workloadv1.NewWorkloadsClient(r.dial(r.config.AdminSocket, insecure.NewCredentials()))
}

func (r *rig) dial(address string, c credentials.TransportCredentials) *grpc.ClientConn {
	r.t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(c), grpc.WithNoProxy(), grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	return conn
}

func (r *rig) token(id string) workload.JoinToken {
	r.t.Helper()
	made, err := r.admin().CreateToken(r.t.Context(), &workloadv1.CreateTokenRequest{SpiffeId: id})
	if err != nil {
		r.t.Fatal(err)
	}
	token, err := workload.ParseJoinToken(made.GetToken())
	if err != nil {
		r.t.Fatal(err)
	}
	return token
}

func (r *rig) enrolment(token workload.JoinToken) workloadv1.EnrolmentClient {
	config := token.TLS(envoy.ControlPlaneIdentity(domain), r.now)
	return workloadv1.NewEnrolmentClient(r.dial(r.config.Enrolment, credentials.NewTLS(config)))
}

// holder is a workload with its certificate.
type holder struct {
	id    string
	key   crypto.Signer
	chain []*x509.Certificate
}

func (r *rig) enrol(id string) *holder {
	r.t.Helper()
	token := r.token(id)
	h := &holder{id: id, key: newKey(r.t)}
	answer, err := r.enrolment(token).Enrol(r.t.Context(), &workloadv1.EnrolRequest{JoinToken: token.Secret, Csr: csr(r.t, h.key, id)})
	if err != nil {
		r.t.Fatal(err)
	}
	h.take(r.t, answer.GetSvid())
	return h
}

func (h *holder) take(t *testing.T, svid *workloadv1.Svid) {
	t.Helper()
	h.chain = nil
	for _, der := range svid.GetChain() {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		h.chain = append(h.chain, c)
	}
}

// renewal is an honest request with a new key.
func (h *holder) renewal(t *testing.T) (*workloadv1.RenewRequest, crypto.Signer) {
	t.Helper()
	next := newKey(t)
	request := csr(t, next, h.id)
	return &workloadv1.RenewRequest{
		Certificate: h.chain[0].Raw, Csr: request, Proof: prove(t, h.key, h.chain[0].Raw, request),
	}, next
}

func prove(t *testing.T, key crypto.Signer, certificate, csr []byte) []byte {
	t.Helper()
	proof, err := workload.Prove(key, certificate, csr)
	if err != nil {
		t.Fatal(err)
	}
	return proof
}

// trust is a client of Trust as this workload.
func (r *rig) trustAs(h *holder) workloadv1.TrustClient {
	pair := tls.Certificate{PrivateKey: h.key}
	for _, c := range h.chain {
		pair.Certificate = append(pair.Certificate, c.Raw)
	}
	config := r.token("spiffe://gatehouse.local/any").TLS(envoy.ControlPlaneIdentity(domain), r.now)
	// Whether the server would have it or not.
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	return workloadv1.NewTrustClient(r.dial(r.config.Enrolment, credentials.NewTLS(config)))
}

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func csr(t *testing.T, key crypto.Signer, id string) []byte {
	t.Helper()
	der, err := workload.NewRequest(key, id)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// refusedFor tells whether the log gives this reason.
func (r *rig) refusedFor(reason string) error {
	if text := r.log.String(); !strings.Contains(text, reason) {
		return errors.New("the log does not say " + reason + ":\n" + text)
	}
	return nil
}

func (j *journal) reset() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.text.Reset()
}
