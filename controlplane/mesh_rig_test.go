package controlplane

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/internal/conf"
	rulev1 "gatehouse.dev/gatehouse/proto/gatehouse/rule/v1"
)

const trustDomain = "gatehouse.local"

// meshRig is an edge and sidecars, all over mutual TLS.
type meshRig struct {
	*rig
	ids  *identities
	deny *denyList
	logs map[string]*logBook // of sidecars, by service
}

// newMeshRig starts the control plane and the edge; the text may use the
// addresses that free gave out.
func newMeshRig(t *testing.T, gateway string) *meshRig {
	t.Helper()
	m := &meshRig{ids: newIdentities(t), deny: &denyList{changed: make(chan struct{})}, logs: map[string]*logBook{}}
	m.rig = newRig(t, gateway, func(r *rig, e *envoyConfig) {
		r.authz.stop()
		r.authz = startStubAuthzTLS(t, freeAddress(t), m.ids.of(t, "authz", envoy.AuthzIdentity(trustDomain)))
		r.config.Listen, r.config.Authz = freeAddress(t), []string{r.authz.address}
		r.config.Identity = m.ids.of(t, "controlplane", envoy.ControlPlaneIdentity(trustDomain))
		r.denyList = m.deny
		e.XDS, e.Identity = r.config.Listen, m.ids.of(t, "edge", envoy.EdgeIdentity(trustDomain))
	})
	return m
}

// sidecar starts the Envoy of a service.
func (m *meshRig) sidecar(t *testing.T, service string) {
	t.Helper()
	config := envoy.Config{
		Path: conf.Path(realEnvoy(t)), Node: service + "-1", Group: envoy.ServiceGroup(service), Admin: freeAddress(t), XDS: m.config.Listen, Concurrency: 1,
		Identity: m.ids.of(t, service, envoy.ServiceIdentity(trustDomain, service)), Agent: "unix:" + filepath.Join(m.dir, service+".sock"),
	}
	config.SetDefaults(m.dir)
	m.logs[service] = &logBook{}
	process, err := envoy.New(config, slog.New(m.logs[service]))
	if err != nil {
		t.Fatal(err)
	}
	process.AccessLog = &logBook{}
	startAgent(t, config)
	inBackground(t, process.Run)
}

// settled tells whether the edge and every sidecar that was started have what
// they shall have.
func (m *meshRig) settled() error {
	if err := m.taken(); err != nil {
		return err
	}
	groups := m.server.Status().Groups
	for service, log := range m.logs {
		g := groups[envoy.ServiceGroup(service)]
		if !g.Taken || len(g.Nodes) == 0 {
			return fmt.Errorf("%s: %+v; its Envoy says %s", service, g, log.last())
		}
	}
	return nil
}

// clientAs has a workload's certificate; an empty id: none.
func clientAs(t *testing.T, ids *identities, id string) *http.Client {
	t.Helper()
	config := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13} // a SPIFFE certificate names no host
	if id != "" {
		files := ids.of(t, strings.NewReplacer(":", "-", "/", "-").Replace(id), id)
		pair, err := tls.LoadX509KeyPair(string(files.Certificate), string(files.Key))
		if err != nil {
			t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

// signed is a client whose certificate has any names, under the right root.
func (i *identities) signed(t *testing.T, uris, names []string) *http.Client {
	t.Helper()
	issuers, err := filepath.Glob(filepath.Join(i.dir, "ca", "intermediate*"))
	if err != nil || len(issuers) != 1 {
		t.Fatal(issuers, err)
	}
	issuer, err := tls.LoadX509KeyPair(issuers[0], issuers[0])
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	template.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: alternatives(t, uris, names)}}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.Leaf, key.Public(), issuer.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{
		{Certificate: append([][]byte{der}, issuer.Certificate...), PrivateKey: key},
	}}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

// alternatives are names as they are, for Go would write no such URI (RFC 5280
// §4.2.1.6).
func alternatives(t *testing.T, uris, names []string) []byte {
	t.Helper()
	var all []asn1.RawValue
	for _, uri := range uris {
		all = append(all, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(uri)})
	}
	for _, name := range names {
		all = append(all, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 2, Bytes: []byte(name)})
	}
	der, err := asn1.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// asEdge is a connection with the edge's identity.
func (m *mesh) asEdge(t *testing.T, address, protocol string) *tls.Conn {
	t.Helper()
	files := m.ids.of(t, "raw", envoy.EdgeIdentity(trustDomain))
	pair, err := tls.LoadX509KeyPair(string(files.Certificate), string(files.Key))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}, NextProtos: []string{protocol}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn
}

// frames sends one HTTP/2 request with these fields, and tells the status of the
// answer; 0: the stream was reset, or the connection ended.
func (m *mesh) frames(t *testing.T, conn *tls.Conn, fields []string) int {
	t.Helper()
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for i := 0; i < len(fields); i += 2 {
		encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}) // to memory
	}
	framer := h2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_, err := io.WriteString(conn, h2.ClientPreface)
	err = errors.Join(err, framer.WriteSettings(), framer.WriteHeaders(h2.HeadersFrameParam{
		StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true,
	}))
	if err != nil {
		t.Error(err)
	}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return 0
		}
		switch frame := frame.(type) {
		case *h2.MetaHeadersFrame:
			status, err := strconv.Atoi(frame.PseudoValue("status"))
			if err != nil {
				t.Error(err)
			}
			return status
		case *h2.RSTStreamFrame, *h2.GoAwayFrame:
			return 0
		}
	}
}

// raw sends text as the edge, and tells the status of the first answer; 0: there
// was none.
func (m *mesh) raw(t *testing.T, address, text string) int {
	t.Helper()
	conn := m.asEdge(t, address, "http/1.1")
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	return response.StatusCode
}

// fetch asks for a URL; a name is sent as the host.
func fetch(t *testing.T, client *http.Client, method, url string, headers ...string) (status int, body string, err error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			request.Host = headers[i+1]
		}
		request.Header.Add(headers[i], headers[i+1])
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, string(text), err
}

// assertionFor is what the stub authorizer mints and takes for a service.
func assertionFor(service string) string {
	return "for " + envoy.ServiceIdentity(trustDomain, service)
}

// admits is the stub's decision: a good token, or where the rule demands it the
// assertion for its audience, once, from one of its peers.
func admits(check *authv3.AttributeContext, rule *rulev1.Rule) bool {
	name, value := "authorization", bearer
	if slices.Contains(rule.GetTokenSources(), rulev1.TokenSource_TOKEN_SOURCE_ASSERTION) {
		name, value = envoy.AssertionHeader, "for "+rule.GetAudience()
	}
	if peers := rule.GetPeers(); len(peers) > 0 && !slices.Contains(peers, check.GetSource().GetPrincipal()) {
		return false
	}
	good := false
	for _, h := range check.GetRequest().GetHttp().GetHeaderMap().GetHeaders() {
		good = good || h.GetKey() == name && string(h.GetRawValue()) == value
	}
	return good
}

// denyList is one that a test changes.
type denyList struct {
	mu      sync.Mutex
	ids     []string
	changed chan struct{}
}

func (d *denyList) Denied() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ids
}

func (d *denyList) Changed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.changed
}

func (d *denyList) set(ids ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ids = ids
	close(d.changed)
	d.changed = make(chan struct{})
}

// startGRPC is a back end that speaks HTTP/2 without TLS, as gRPC servers do.
func startGRPC(t *testing.T, handler http.Handler) (url string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	protocols.SetHTTP1(true)
	server := &http.Server{Handler: handler, Protocols: protocols, ReadHeaderTimeout: time.Second}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	return "h2c://" + listener.Addr().String()
}
