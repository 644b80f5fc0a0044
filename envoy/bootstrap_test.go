package envoy

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/internal/serve"
)

var update = flag.Bool("update", false, "write the golden files anew")

// realEnvoy is the Envoy to validate against: $ENVOY or the fetched one.
func realEnvoy(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("ENVOY"); path != "" {
		return path
	}
	path, err := filepath.Abs("../.tools/envoy")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("no Envoy to validate with: run `make tools` or set $ENVOY: %v", err)
	}
	return path
}

func TestRender(t *testing.T) {
	for name, config := range map[string]Config{
		"unix":   {},
		"mutual": {XDS: "controlplane.example:18000", Node: "edge-7", Identity: serve.Identity{Certificate: "edge.crt", Key: "edge.key", CA: "ca.crt"}},
	} {
		t.Run(name, func(t *testing.T) {
			config.SetDefaults("/data")
			got, err := Render(config)
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", "bootstrap-"+name+".json")
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Error(diff)
			}
			for range 20 {
				if again, err := Render(config); err != nil || !bytes.Equal(again, got) {
					t.Fatalf("rendered again it differs: %v", err)
				}
			}
		})
	}
}

// The real Envoy takes what is rendered, both ways of reaching the others.
func TestEnvoyAcceptsTheBootstrap(t *testing.T) {
	dir := t.TempDir()
	key, certificate := writeCertificate(t, dir)
	id := serve.Identity{Certificate: conf.Path(certificate), Key: conf.Path(key), CA: conf.Path(certificate)}
	for name, config := range map[string]Config{
		"unix":   {XDS: "unix:" + filepath.Join(dir, "xds.sock")},
		"mutual": {XDS: "127.0.0.1:1", Identity: id},
	} {
		config.SetDefaults(dir)
		bootstrap, err := Render(config)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, name+".json")
		if err := os.WriteFile(file, bootstrap, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(realEnvoy(t), "--mode", "validate", "-c", file).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// writeCertificate writes a self-signed certificate and its key.
func writeCertificate(t *testing.T, dir string) (keyFile, certificateFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	keyFile, certificateFile = filepath.Join(dir, "k.pem"), filepath.Join(dir, "c.pem")
	for file, block := range map[string]*pem.Block{
		keyFile: {Type: "PRIVATE KEY", Bytes: private}, certificateFile: {Type: "CERTIFICATE", Bytes: certificate},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return keyFile, certificateFile
}

func TestValidateNamesEachFault(t *testing.T) {
	config := Config{Admin: "0.0.0.0:1", XDS: "10.0.0.1:1", Concurrency: 1000, Node: "n", Identity: serve.Identity{Key: "k"}}
	var keys []string
	for _, v := range config.Validate() {
		keys = append(keys, v.Key)
	}
	for _, key := range []string{"admin", "concurrency", "identity.certificate", "identity.ca"} {
		if !strings.Contains(strings.Join(keys, " "), key) {
			t.Errorf("%s is not reported: %v", key, keys)
		}
	}
	plain := Config{Admin: "127.0.0.1:1", XDS: "10.0.0.1:1"}
	if vs := plain.Validate(); len(vs) != 1 || vs[0].Key != "xds" {
		t.Errorf("a control plane without mutual TLS: %v", vs)
	}
}

func TestNoneActive(t *testing.T) {
	for stats, want := range map[string]bool{
		"": true,
		"http.admin.downstream_cx_active: 1\nhttp.edge.downstream_cx_active: 0\n": true,
		"http.edge.downstream_cx_active: 2\n":                                     false,
	} {
		if got := noneActive(stats); got != want {
			t.Errorf("noneActive(%q) = %v", stats, got)
		}
	}
}
