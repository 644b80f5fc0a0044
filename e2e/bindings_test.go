package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/e2e/harness"
	"gatehouse.dev/gatehouse/token/tokentest"
)

const mtlsHost = "mtls.localhost"

// bindingSystem has a host for mutual TLS, and the issuer on its socket.
func bindingSystem(t *testing.T) *harness.System {
	t.Helper()
	return harness.Start(t, harness.Options{Configure: func(_ *harness.System, c harness.Config) {
		c.Set("issuer.listen", nil).Set("gateway.mtls_host", mtlsHost)
	}})
}

// selfSigned makes a certificate and its file.
func selfSigned(t *testing.T, dir, name string) (pair tls.Certificate, file string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(dir, name+".crt")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

// caller is an HTTP client that comes to the gate by a name of its choice, with
// a certificate or none.
func caller(t *testing.T, s *harness.System, host string, certificates ...tls.Certificate) func(method, path, body string, headers ...string) (int, http.Header, string) {
	t.Helper()
	config := s.TLS(t)
	config.ServerName, config.Certificates = host, certificates
	_, port, err := net.SplitHostPort(s.Gateway())
	if err != nil {
		t.Fatal(err)
	}
	dialer := &tls.Dialer{Config: config}
	transport := &http.Transport{DialTLSContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, s.Gateway())
	}}
	t.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport}
	return func(method, path, body string, headers ...string) (int, http.Header, string) {
		t.Helper()
		r, err := http.NewRequest(method, "https://"+net.JoinHostPort(host, port)+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if body != "" {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		answer, err := client.Do(r)
		if err != nil {
			return 0, nil, err.Error()
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, answer.Header, string(text)
	}
}

func accessToken(t *testing.T, status int, body string) string {
	t.Helper()
	var answer struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || status != 200 || answer.Token == "" {
		t.Fatalf("%d %s", status, body)
	}
	return answer.Token
}

// A client proves itself by its certificate, gets a token that is bound to it,
// and opens a route with the two together, by the one host alone.
func TestBoundToACertificate(t *testing.T) {
	s := bindingSystem(t)
	mine, file := selfSigned(t, s.Dir, "robot")
	others, _ := selfSigned(t, s.Dir, "other")
	s.CLI(t, "client", "add", "--id", "robot", "--scope", "read:orders", "--auth-method", "self_signed_tls_client_auth", "--tls-certificate", file, "--bind-to-certificate")
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {"robot"}, "scope": {"read:orders"}}.Encode()
	inside, plain, foreign := caller(t, s, mtlsHost, mine), caller(t, s, "localhost"), caller(t, s, mtlsHost, others)
	bare := caller(t, s, mtlsHost)
	forged := `Chain="` + url.PathEscape(string(readCertificate(t, file))) + `"`

	status, _, body := inside("POST", "/oauth/token", form)
	access := accessToken(t, status, body)
	for name, ask := range map[string]func() (int, http.Header, string){
		"another certificate": func() (int, http.Header, string) { return foreign("POST", "/oauth/token", form) },
		"no certificate":      func() (int, http.Header, string) { return plain("POST", "/oauth/token", form) },
		"a header in its place": func() (int, http.Header, string) {
			return plain("POST", "/oauth/token", form, "X-Forwarded-Client-Cert", forged)
		},
		"a header beside another": func() (int, http.Header, string) {
			return foreign("POST", "/oauth/token", form, "X-Forwarded-Client-Cert", forged)
		},
		"no certificate at the host": func() (int, http.Header, string) { return bare("POST", "/oauth/token", form) },
		"a header alone at the host": func() (int, http.Header, string) {
			return bare("POST", "/oauth/token", form, "X-Forwarded-Client-Cert", forged)
		},
		"the token alone at the host": func() (int, http.Header, string) {
			return bare("GET", "/orders", "", "Authorization", "Bearer "+access, "X-Forwarded-Client-Cert", forged)
		},
		"the token without certificate": func() (int, http.Header, string) {
			return plain("GET", "/orders", "", "Authorization", "Bearer "+access)
		},
		"the token with another": func() (int, http.Header, string) {
			return foreign("GET", "/orders", "", "Authorization", "Bearer "+access)
		},
		"the token with a header": func() (int, http.Header, string) {
			return plain("GET", "/orders", "", "Authorization", "Bearer "+access, "X-Forwarded-Client-Cert", forged)
		},
	} {
		if status, _, body := ask(); status != 401 {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	if status, _, body := inside("GET", "/orders", "", "Authorization", "Bearer "+access); status != 200 {
		t.Errorf("the token with its certificate: %d %s", status, body)
	}
	if header := s.Orders.Last().Header; len(header["x-forwarded-client-cert"]) > 0 {
		t.Error("the service was told the certificate")
	}
	var described struct {
		Aliases map[string]string `json:"mtls_endpoint_aliases"`
	}
	_, _, document := plain("GET", "/.well-known/openid-configuration", "")
	if err := json.Unmarshal([]byte(document), &described); err != nil || !strings.HasPrefix(described.Aliases["token_endpoint"], "https://"+mtlsHost+":") {
		t.Errorf("aliases %v, %v", described.Aliases, err)
	}
}

func readCertificate(t *testing.T, file string) []byte {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// A token that is bound to a key opens a route with a fresh proof by that key,
// each time, and never as a bearer token.
func TestBoundToAKey(t *testing.T) {
	s := bindingSystem(t)
	secret := s.AddClient(t, "robot", "read:orders")
	key := tokentest.NewKey("ES256")
	ask := caller(t, s, "localhost")
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {"robot"}, "client_secret": {secret}, "scope": {"read:orders"}}.Encode()
	proof := func(method, path, access, nonce string) string {
		claims := tokentest.ProofClaims(method, s.URL(path), access, time.Now())
		if nonce != "" {
			claims["nonce"] = nonce
		}
		return key.Sign(key.ProofHeader(), claims)
	}
	status, header, body := ask("POST", "/oauth/token", form, "DPoP", proof("POST", "/oauth/token", "", ""))
	nonce := header.Get("DPoP-Nonce")
	if status != 400 || nonce == "" || !strings.Contains(body, "use_dpop_nonce") {
		t.Fatalf("without a nonce: %d %s", status, body)
	}
	status, _, body = ask("POST", "/oauth/token", form, "DPoP", proof("POST", "/oauth/token", "", nonce))
	access := accessToken(t, status, body)
	used := proof("GET", "/orders", access, "")
	if status, _, body := ask("GET", "/orders", "", "Authorization", "DPoP "+access, "DPoP", used); status != 200 {
		t.Fatalf("with its proof: %d %s", status, body)
	}
	if h := s.Orders.Last().Header; len(h["dpop"])+len(h["authorization"]) > 0 {
		t.Error("the service got the proof or the token")
	}
	for name, headers := range map[string][]string{
		"the proof again":         {"Authorization", "DPoP " + access, "DPoP", used},
		"no proof":                {"Authorization", "DPoP " + access},
		"as a bearer token":       {"Authorization", "Bearer " + access},
		"as one, with its proof":  {"Authorization", "Bearer " + access, "DPoP", proof("GET", "/orders", access, "")},
		"the proof of a sibling":  {"Authorization", "DPoP " + access, "DPoP", proof("GET", "/profile", access, "")},
		"the proof of the method": {"Authorization", "DPoP " + access, "DPoP", proof("POST", "/orders", access, "")},
	} {
		if status, h, body := ask("GET", "/orders", "", headers...); status != 401 || h.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
}
