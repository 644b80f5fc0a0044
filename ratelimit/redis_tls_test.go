package ratelimit

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/internal/conf"
)

// authority writes the certificate of a CA, and one of its for a host with its
// key, into files.
func authority(t *testing.T, host string) (ca, crt, key string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		file := filepath.Join(dir, name)
		writeText(t, file, string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
		return file
	}
	sign := func(template, parent *x509.Certificate, of, by *ecdsa.PrivateKey) []byte {
		template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, of.Public(), by)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	root, leaf := newECDSA(t), newECDSA(t)
	issuer := &x509.Certificate{Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	template := &x509.Certificate{IPAddresses: []net.IP{net.ParseIP(host)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.MarshalPKCS8PrivateKey(leaf)
	if err != nil {
		t.Fatal(err)
	}
	ca = write("ca.pem", "CERTIFICATE", sign(issuer, issuer, root, root))
	return ca, write("redis.crt", "CERTIFICATE", sign(template, issuer, leaf, root)), write("redis.key", "PRIVATE KEY", der)
}

func newECDSA(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// startTLSRedis is Debian's Redis with TLS and a password, on a TCP port alone.
func startTLSRedis(t *testing.T, crt, key, password string) string {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	_, port, _ := net.SplitHostPort(address)
	startRedis(t, "--tls-port", port, "--bind", "127.0.0.1", "--tls-cert-file", crt, "--tls-key-file", key, "--tls-auth-clients", "no", "--requirepass", password)
	return address
}

// Over TLS the service counts in whom its CA vouches for by that name, with the
// password, and in nobody else: then it counts its part and says why.
func TestRedisOverTLS(t *testing.T) {
	ca, crt, key := authority(t, "127.0.0.1")
	otherCA, otherCrt, otherKey := authority(t, "127.0.0.2")
	secret := filepath.Join(t.TempDir(), "password")
	writeText(t, secret, "correct-horse\n")
	redis, misnamed := startTLSRedis(t, crt, key, "correct-horse"), startTLSRedis(t, otherCrt, otherKey, "correct-horse")
	ours, err := NewShared(Redis{Address: redis, TLS: true, CA: conf.Path(ca), PasswordFile: conf.Path(secret), Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer ours.close()
	await(t, func() error { return ours.ping(t.Context()) })
	for name, row := range map[string]struct {
		config string
		why    string // empty: it counts there
	}{
		"its CA":          {fmt.Sprintf("address: '%s', tls: true, ca: '%s', password_file: '%s'", redis, ca, secret), ""},
		"another CA":      {fmt.Sprintf("address: '%s', tls: true, ca: '%s', password_file: '%s'", redis, otherCA, secret), "certificate"},
		"the system's":    {fmt.Sprintf("address: '%s', tls: true, password_file: '%s'", redis, secret), "certificate"},
		"another name":    {fmt.Sprintf("address: '%s', tls: true, ca: '%s', password_file: '%s'", misnamed, otherCA, secret), "127.0.0.1"},
		"no password":     {fmt.Sprintf("address: '%s', tls: true, ca: '%s'", redis, ca), "NOAUTH"},
		"without any TLS": {fmt.Sprintf("address: '%s', password_file: '%s'", redis, secret), "out of reach"},
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, "redis: {"+row.config+"}\nreplicas: 4")
			want, clients := map[bool]int{true: 8, false: 2}[row.why == ""], 0
			await(t, func() error { // where the machine is busy, Redis is late at first
				clients++
				limit := limited(envoy.Limit{By: envoy.ByClient, Scope: name, Requests: 8, Burst: 8, Per: time.Hour}, strconv.Itoa(clients))
				if got := w.fit(limit); got != want {
					return fmt.Errorf("%d fit, want %d:\n%s", got, want, w.log)
				}
				return nil
			})
			if text := w.log.String(); !strings.Contains(text, row.why) || strings.Contains(text, "horse") {
				t.Errorf("the log does not say %q, or says a secret:\n%s", row.why, text)
			}
		})
	}
}
