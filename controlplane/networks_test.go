package controlplane

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/grpc/codes"
)

// from is a client with an address of its own.
func (r *rig) from(t *testing.T, address string) *http.Client {
	t.Helper()
	client := edgeClient(t, false)
	transport := client.Transport.(*http.Transport)
	transport.TLSClientConfig.ServerName = "127.0.0.1"
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	transport.DialContext = func(ctx context.Context, network, to string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, to)
	}
	t.Cleanup(transport.CloseIdleConnections)
	return client
}

const networksGateway = `
issuer: {url: %[1]s, restrict: [{path: /oauth/admin/**, networks: {allow: [office]}}]}
ip_lists:
  office: {cidrs: [127.0.0.2, 127.0.0.64/26]}
  guests: {cidrs: [127.0.0.5]}
  bad: {cidrs: [127.0.0.3, 127.1.0.0/16]}
  worse: {file: %[2]s}
networks: {deny: [bad, worse]}
services: {site: {url: %[1]s}}
routes:
  - {id: office, path: /office, service: site, public: true, networks: {allow: [office, guests]}}
  - {id: guests, path: /guests, service: site, public: true, networks: {deny: [guests]}}
  - {id: own, path: /own, service: site, audience: a, networks: {allow: [office]}}
  - {id: public, path: /public, service: site, public: true}
`

func TestNetworks(t *testing.T) {
	site := startService(t, "site")
	file := filepath.Join(t.TempDir(), "worse.txt")
	writeText(t, file, "# by name\n127.0.0.7 # one\n\n2001:db8::/32\n")
	r := newRig(t, fmt.Sprintf(networksGateway, site.URL, file))
	for _, row := range []struct {
		from string
		want map[string]int // by path
	}{
		{"127.0.0.1", map[string]int{"/public": 200, "/office": 403, "/guests": 200, "/own": 403, "/oauth/token": 200, "/oauth/admin/users": 403, "/unknown": 404}},
		{"127.0.0.2", map[string]int{"/public": 200, "/office": 200, "/guests": 200, "/own": 401, "/oauth/token": 200, "/oauth/admin/users": 200}},
		{"127.0.0.64", map[string]int{"/office": 200, "/own": 401}},
		{"127.0.0.128", map[string]int{"/office": 403, "/own": 403}},
		{"127.0.0.5", map[string]int{"/public": 200, "/office": 200, "/guests": 403, "/own": 403}},
		{"127.0.0.3", map[string]int{"/public": 403, "/office": 403, "/guests": 403, "/oauth/token": 403, "/oauth/admin/users": 403, "/unknown": 403, "/x;y": 403}},
		{"127.1.200.9", map[string]int{"/public": 403}},
		{"127.0.0.7", map[string]int{"/public": 403}},
	} {
		client := r.from(t, row.from)
		for path, want := range row.want {
			r.authz.last()
			response, body := r.ask(t, client, "GET", path)
			if response.StatusCode != want {
				t.Errorf("%s from %s: %d, want %d: %s", path, row.from, response.StatusCode, want, body)
			}
			if want == 403 && (response.Header.Get("Content-Type") != "application/problem+json" || !strings.Contains(body, `"detail":"This address is not permitted here."`)) {
				t.Errorf("%s from %s: %s %s", path, row.from, response.Header, body)
			}
			if want == 403 && r.authz.last() != nil {
				t.Errorf("%s from %s: the authorizer was asked", path, row.from)
			}
		}
	}
	response, _ := r.ask(t, r.from(t, "127.0.0.3"), "POST", "/public", "Content-Type", "application/grpc", "Te", "trailers")
	if h := response.Header; h.Get("Grpc-Status") != "7" || h.Get("Grpc-Message") != "This address is not permitted here." {
		t.Errorf("gRPC from a denied address: %d %v", response.StatusCode, h)
	}
	response, err := r.from(t, "127.0.0.3").Get("http://" + r.gateway.RedirectListen + "/")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusForbidden {
		t.Errorf("a denied address is redirected: %d", response.StatusCode)
	}
	t.Run("authorizer's 403 stays its own", func(t *testing.T) { testForeign403(t, r) })
	t.Run("forged", func(t *testing.T) { testForged(t, r) })
	t.Run("an edit", func(t *testing.T) { testListEdit(t, r, file) })
}

func writeText(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// What another part refuses is told in its words.
func testForeign403(t *testing.T, r *rig) {
	r.authz.answers(func(response *authv3.CheckResponse) {
		response.Status.Code = int32(codes.PermissionDenied)
		response.HttpResponse = &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{
			Status:  &typev3.HttpStatus{Code: typev3.StatusCode_Forbidden},
			Headers: []*corev3.HeaderValueOption{overwrite("content-type", "application/problem+json")},
			Body:    `{"detail":"a scope"}`,
		}}
	})
	defer r.authz.answers(nil)
	response, body := r.ask(t, r.from(t, "127.0.0.2"), "GET", "/own", "Authorization", bearer)
	if response.StatusCode != http.StatusForbidden || body != `{"detail":"a scope"}` || response.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%d %s %q", response.StatusCode, response.Header, body)
	}
}

// Without trusted proxies nothing that a client says changes where it is.
func testForged(t *testing.T, r *rig) {
	for _, header := range [][]string{
		{"X-Forwarded-For", "127.0.0.2"}, {"X-Forwarded-For", "127.0.0.2, 127.0.0.2"}, {"Forwarded", "for=127.0.0.2"},
		{"X-Real-Ip", "127.0.0.2"}, {"True-Client-Ip", "127.0.0.2"}, {"X-Envoy-External-Address", "127.0.0.2"}, {"X-Client-Ip", "127.0.0.2"},
		{"X-Forwarded-For", "127.0.0.2", "X-Forwarded-For", "127.0.0.2"},
	} {
		for from, path := range map[string]string{"127.0.0.1": "/office", "127.0.0.3": "/public"} {
			if response, _ := r.ask(t, r.from(t, from), "GET", path, header...); response.StatusCode != http.StatusForbidden {
				t.Errorf("%s from %s with %s: %d", path, from, header, response.StatusCode)
			}
		}
	}
	if r.proxied(t, "127.0.0.1", "PROXY TCP4 127.0.0.2 127.0.0.1 5000 8443\r\n", "") == http.StatusOK {
		t.Error("a PROXY header is taken where none is configured")
	}
}

// A list's edit counts for new requests on connections that stay open.
func testListEdit(t *testing.T, r *rig, file string) {
	client := r.from(t, "127.0.0.8")
	if response, _ := r.ask(t, client, "GET", "/public"); response.StatusCode != 200 {
		t.Fatalf("before: %d", response.StatusCode)
	}
	before := r.server.goals()["edge"].types[listenerType]["edge"].GetVersion()
	writeText(t, file, "127.0.0.8\n")
	r.apply(t, r.gateway)
	if response, _ := r.ask(t, client, "GET", "/public"); response.StatusCode != 403 {
		t.Errorf("after: %d", response.StatusCode)
	}
	if response, _ := r.ask(t, r.from(t, "127.0.0.7"), "GET", "/public"); response.StatusCode != 200 {
		t.Errorf("what is no longer listed: %d", response.StatusCode)
	}
	if r.server.goals()["edge"].types[listenerType]["edge"].GetVersion() != before {
		t.Error("the listener changed, which drains connections")
	}
}

// proxied sends a preamble in front of the TLS handshake, and is the status of
// the answer; 0: the connection was closed.
func (r *rig) proxied(t *testing.T, from, preamble, forwarded string) int {
	t.Helper()
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 5 * time.Second}
	conn, err := dialer.Dial("tcp", r.gateway.Listen)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, preamble); err != nil {
		return 0
	}
	config := edgeClient(t, false).Transport.(*http.Transport).TLSClientConfig
	config.ServerName = "127.0.0.1"
	secure := tls.Client(conn, config)
	request := "GET /office HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
	if forwarded != "" {
		request += "X-Forwarded-For: " + forwarded + "\r\n"
	}
	if _, err := io.WriteString(secure, request+"\r\n"); err != nil {
		return 0
	}
	response, err := http.ReadResponse(bufio.NewReader(secure), nil)
	if err != nil {
		return 0
	}
	response.Body.Close()
	return response.StatusCode
}

// The issuer, which counts attempts to log in by the last address of
// X-Forwarded-For, is told the client's, not the trusted proxy's.
func TestIssuerIsToldTheClientsAddress(t *testing.T) {
	site := startService(t, "site")
	file := filepath.Join(t.TempDir(), "none.txt")
	writeText(t, file, "")
	r := newRig(t, "trusted_proxies: [127.0.0.10, 127.0.0.11]"+fmt.Sprintf(networksGateway, site.URL, file))
	for _, row := range []struct{ name, from, forwarded, want string }{
		{"by a proxy", "127.0.0.10", "127.0.0.9", "127.0.0.9"},
		{"by two, with one forged in front", "127.0.0.10", "127.0.0.2, 127.0.0.9, 127.0.0.11", "127.0.0.9"},
		{"by none, with one forged", "127.0.0.9", "127.0.0.2", "127.0.0.9"},
	} {
		site.last()
		if response, body := r.ask(t, r.from(t, row.from), "POST", "/oauth/token", "X-Forwarded-For", row.forwarded); response.StatusCode != 200 {
			t.Fatalf("%s: %d %s", row.name, response.StatusCode, body)
		}
		if seen := site.last(); seen == nil || !slices.Equal(seen.Header["X-Forwarded-For"], []string{row.want}) {
			t.Errorf("%s: the issuer is told of %q", row.name, seen.Header["X-Forwarded-For"])
		}
	}
}

// Behind trusted proxies, the client is the last address that is none of them.
func TestNetworksTrustedProxies(t *testing.T) {
	site := startService(t, "site")
	file := filepath.Join(t.TempDir(), "none.txt")
	writeText(t, file, "")
	r := newRig(t, "trusted_proxies: [127.0.0.10, 127.0.0.11]"+fmt.Sprintf(networksGateway, site.URL, file))
	for _, row := range []struct {
		name, from, forwarded string
		want                  int
		client                string // as the service is told
	}{
		{"an office client", "127.0.0.10", "127.0.0.2", 200, "127.0.0.2"},
		{"through two proxies", "127.0.0.10", "127.0.0.2, 127.0.0.11", 200, "127.0.0.2"},
		{"one that forges", "127.0.0.10", "127.0.0.9, 127.0.0.2", 200, "127.0.0.2"},
		{"IPv4 in IPv6 spelling", "127.0.0.10", "::ffff:127.0.0.2", 200, "::ffff:127.0.0.2"},
		{"another client", "127.0.0.10", "127.0.0.9", 403, ""},
		{"a denied client", "127.0.0.10", "127.0.0.3", 403, ""},
		{"a denied client in IPv6 spelling", "127.0.0.10", "::ffff:127.0.0.3", 403, ""},
		{"a denied client that forges one hop", "127.0.0.10", "127.0.0.2, 127.0.0.3", 403, ""},
		{"another client that forges one hop", "127.0.0.10", "127.0.0.2, 127.0.0.9", 403, ""},
		{"one that forges a trusted hop", "127.0.0.10", "127.0.0.2, 127.0.0.11, 127.0.0.9", 403, ""},
		{"the same through two proxies", "127.0.0.10", "127.0.0.2, 127.0.0.10, 127.0.0.9, 127.0.0.11", 403, ""},
		{"nonsense", "127.0.0.10", "127.0.0.2, nonsense", 403, ""},
		{"no trusted proxy", "127.0.0.9", "127.0.0.2", 403, ""},
		{"no trusted proxy, with one forged", "127.0.0.9", "127.0.0.2, 127.0.0.10", 403, ""},
		{"an office client that forges", "127.0.0.2", "127.0.0.3", 200, "127.0.0.2"},
		{"the proxy itself", "127.0.0.10", "", 403, ""},
	} {
		headers := []string{"X-Forwarded-Proto", "http", "X-Request-Id", "forged"}
		if row.forwarded != "" {
			headers = append(headers, "X-Forwarded-For", row.forwarded)
		}
		site.last()
		response, body := r.ask(t, r.from(t, row.from), "GET", "/office", headers...)
		if response.StatusCode != row.want {
			t.Errorf("%s: %d, want %d: %s", row.name, response.StatusCode, row.want, body)
		}
		seen := site.last()
		if seen != nil && !slices.Equal(seen.Header["X-Forwarded-For"], []string{row.client}) {
			t.Errorf("%s: the service is told of the client %q, want %q", row.name, seen.Header["X-Forwarded-For"], row.client)
		}
		if seen != nil && seen.Header.Get("X-Forwarded-Proto") != "https" {
			t.Errorf("%s: the service is told of %q", row.name, seen.Header["X-Forwarded-Proto"])
		} else if seen != nil && seen.Header.Get("X-Request-Id") == "forged" {
			t.Errorf("%s: the client chose the request's id", row.name)
		}
	}
	if r.proxied(t, "127.0.0.10", "PROXY TCP4 127.0.0.2 127.0.0.1 5000 8443\r\n", "") != 0 {
		t.Error("a PROXY header is taken where none is configured")
	}
}

// PROXY headers count from configured networks alone, and they must send one.
func TestNetworksProxyProtocol(t *testing.T) {
	site := startService(t, "site")
	file := filepath.Join(t.TempDir(), "none.txt")
	writeText(t, file, "")
	r := newRig(t, "proxy_protocol: [127.0.0.20]"+fmt.Sprintf(networksGateway, site.URL, file))
	header := func(client string) string { return "PROXY TCP4 " + client + " 127.0.0.1 5000 8443\r\n" }
	mapped := func(client string) string { return "PROXY TCP6 ::ffff:" + client + " ::1 5000 8443\r\n" }
	v2 := "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x7f\x00\x00\x02\x7f\x00\x00\x01\x13\x88\x20\xfb"
	for _, row := range []struct {
		name, from, preamble, forwarded string
		want                            int
	}{
		{"an office client", "127.0.0.20", header("127.0.0.2"), "", 200},
		{"version 2", "127.0.0.20", v2, "", 200},
		{"a denied client", "127.0.0.20", header("127.0.0.3"), "", 403},
		{"an office client in IPv6 spelling", "127.0.0.20", mapped("127.0.0.2"), "", 200},
		{"a denied client in IPv6 spelling", "127.0.0.20", mapped("127.0.0.3"), "", 403},
		{"another client that forges X-Forwarded-For", "127.0.0.20", header("127.0.0.9"), "127.0.0.2", 403},
		{"a second PROXY header", "127.0.0.20", header("127.0.0.9") + header("127.0.0.2"), "", 0},
		{"no PROXY header", "127.0.0.20", "", "", 0},
		{"forged by a stranger", "127.0.0.9", header("127.0.0.2"), "", 0},
		{"forged as the balancer by a stranger", "127.0.0.9", header("127.0.0.20"), "", 0},
		{"an office client without a balancer", "127.0.0.2", "", "", 0},
	} {
		if got := r.proxied(t, row.from, row.preamble, row.forwarded); got != row.want {
			t.Errorf("%s: %d, want %d", row.name, got, row.want)
		}
	}
}

// A balancer that listens on both kinds spells IPv4 clients as IPv6: they are
// denied all the same, where nothing else refuses them.
func TestNetworksProxyProtocolMapped(t *testing.T) {
	site := startService(t, "site")
	r := newRig(t, "proxy_protocol: [127.0.0.20]\nip_lists: {bad: {cidrs: [127.0.0.3]}}\nnetworks: {deny: [bad]}\nservices: {site: {url: "+site.URL+"}}\nroutes:\n"+
		"  - {id: office, path: /office, service: site, public: true}\n")
	for client, want := range map[string]int{"127.0.0.3": 403, "127.0.0.2": 200} {
		for _, header := range []string{"PROXY TCP4 " + client + " 127.0.0.1", "PROXY TCP6 ::ffff:" + client + " ::1"} {
			if got := r.proxied(t, "127.0.0.20", header+" 5000 8443\r\n", ""); got != want {
				t.Errorf("%s: %d, want %d", header, got, want)
			}
		}
	}
}

// IPv6 clients are judged as IPv4 ones are.
func TestNetworksIPv6(t *testing.T) {
	site := startService(t, "site")
	r := newRig(t, "ip_lists: {six: {cidrs: ['::1']}, other: {cidrs: ['2001:db8::/32']}}\nservices: {site: {url: "+site.URL+"}}\nroutes:\n"+
		"  - {id: allowed, path: /allowed, service: site, public: true, networks: {allow: [six]}}\n"+
		"  - {id: denied, path: /denied, service: site, public: true, networks: {deny: [six]}}\n"+
		"  - {id: other, path: /other, service: site, public: true, networks: {allow: [other]}}\n", func(r *rig, _ *envoyConfig) {
		_, port, _ := net.SplitHostPort(r.gateway.Listen)
		r.gateway.Listen = "[::1]:" + port
	})
	for path, want := range map[string]int{"/allowed": 200, "/denied": 403, "/other": 403} {
		if response, body := r.ask(t, r.from(t, "::1"), "GET", path); response.StatusCode != want {
			t.Errorf("%s: %d, want %d: %s", path, response.StatusCode, want, body)
		}
	}
}

func TestNetworkViolations(t *testing.T) {
	for _, row := range []struct{ line, keys string }{
		{"ip_lists: {a: {cidrs: [10.0.0.0/8]}}\nnetworks: {allow: [a]}", ""},
		{"ip_lists: {A: {cidrs: [10.0.0.0/8]}}", "ip_lists.A"},
		{"ip_lists: {a: {}}", "ip_lists.a"},
		{"networks: {allow: [a]}", "networks.allow[0]"},
		{"ip_lists: {a: {cidrs: [10.0.0.0/8]}}\nnetworks: {allow: [], deny: [a, a]}", "networks.allow networks.deny[1]"},
		{"trusted_proxies: [0.0.0.0/0]", "trusted_proxies[0]"},
		{"trusted_proxies: ['::/0']", "trusted_proxies[0]"},
		{"proxy_protocol: [proxy]", "proxy_protocol[0]"},
		{"trusted_proxies: [10.0.0.0/8, 10.1.0.0/16]", "trusted_proxies[1]"},
		{"issuer: {url: http://127.0.0.1:9400, restrict: [{path: /admin}]}", "issuer.restrict[0].path issuer.restrict[0].networks"},
		{"issuer: {restrict: [{path: /oauth/admin/**, networks: {deny: [a]}}]}\nip_lists: {a: {cidrs: [10.0.0.0/8]}}", "issuer.restrict[0]"},
		{"issuer: {url: http://127.0.0.1:9400, restrict: [{path: /oauth/**, networks: {deny: [a]}}, {path: /oauth/admin/**, networks: {deny: [a]}}]}\nip_lists: {a: {cidrs: [10.0.0.0/8]}}", "issuer.restrict[1].path"},
	} {
		g := gatewayWith(t, row.line)
		if got := keysOf(g.Validate()); got != row.keys {
			t.Errorf("%s: violations of %q, want of %q", row.line, got, row.keys)
		}
	}
}

func TestReadLists(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		writeText(t, filepath.Join(dir, name), text)
		return filepath.Join(dir, name)
	}
	for _, row := range []struct{ lists, says string }{
		{"a: {cidrs: [10.0.0.0/8, 192.0.2.1]}", ""},
		{"a: {cidrs: [10.0.0.1/8]}", "ip_lists.a.cidrs[0]: \"10.0.0.1/8\" has bits set beyond its length; 10.0.0.0/8 is meant"},
		{"a: {cidrs: ['::ffff:10.0.0.1']}", "is an IPv4 network in IPv6 spelling"},
		{"a: {cidrs: [office]}", "is no network"},
		{"a: {cidrs: [10.1.0.0/16, 10.0.0.0/8]}", "ip_lists.a.cidrs[0]: \"10.1.0.0/16\" is within cidrs[1] (10.0.0.0/8)"},
		{"a: {cidrs: [10.0.0.0/8, 10.0.0.0/8]}", "ip_lists.a.cidrs[0]: \"10.0.0.0/8\" is within cidrs[1]"},
		{"a: {file: " + file("good", "10.0.0.0/8\n10.1.0.0/16\n") + "}", ""},
		{"a: {file: " + file("bad", "10.0.0.0/8\nx\n") + "}", "bad:2: x\" is no network"},
		{"a: {file: " + dir + "/missing}", "cannot be read"},
		{"a: {cidrs: [10.0.0.0/8]}, b: {cidrs: [10.1.0.0/16]}", ""},
		{"in: {cidrs: [10.1.0.0/16]}, b: {cidrs: [10.0.0.0/8]}", "networks.allow[0]: \"in\" allows 10.1.0.0/16 in vain: 10.0.0.0/8 is denied, and deny wins"},
	} {
		demands := "\n"
		if strings.HasPrefix(row.lists, "in:") {
			demands = "\nnetworks: {allow: [in], deny: [b]}\n"
		}
		g := readGateway(t, "ip_lists: {"+row.lists+"}"+demands)
		if _, vs := g.ReadLists(); !strings.Contains(vs.Error(), row.says) || (row.says == "") != (len(vs) == 0) {
			t.Errorf("%s: %v, want %q", row.lists, vs, row.says)
		}
	}
}
