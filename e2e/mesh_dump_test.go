package e2e

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/e2e/harness"
	"gatehouse.dev/gatehouse/envoy"
)

// dumpsTellNoSecret finds in what each Envoy's administration tells of its
// configuration no private key of the system, and no service of another's; and a
// sidecar's administration is its user's alone.
func (m *mesh) dumpsTellNoSecret(t *testing.T) {
	t.Helper()
	keys := m.privateKeys(t)
	if len(keys) < 4 {
		t.Fatalf("only %d private keys were found: it proves little", len(keys))
	}
	at := map[string]string{envoy.EdgeGroup: m.Config().Text("envoy.admin")}
	for service, sidecar := range m.Sidecars {
		socket := filepath.Join(sidecar.State, "admin.sock")
		at[envoy.ServiceGroup(service)] = socket
		if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the administration of %s's sidecar: %v %v, not 0600", service, info, err)
		}
	}
	for group, address := range at {
		dump := configDump(t, address)
		if !strings.Contains(dump, "dynamic_active_secrets") {
			t.Errorf("the dump of %s has no secrets: it proves nothing", group)
		}
		if strings.Contains(dump, "PRIVATE KEY") {
			t.Errorf("the dump of %s has a private key", group)
		}
		for file, key := range keys {
			if strings.Contains(dump, base64.StdEncoding.EncodeToString(key)[:64]) || strings.Contains(dump, pemBase64(key)) {
				t.Errorf("the dump of %s has the key of %s", group, file)
			}
		}
		for service := range m.Sidecars {
			own := envoy.ServiceGroup(service)
			if has := strings.Contains(dump, `"`+own+`"`); has != (group == own) {
				t.Errorf("the dump of %s names the inside of %s: %v", group, service, has)
			}
		}
	}
}

// privateKeys are those in the system's files, in DER, by their paths.
func (m *mesh) privateKeys(t *testing.T) map[string][]byte {
	t.Helper()
	keys := map[string][]byte{}
	err := filepath.WalkDir(m.Dir, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // replaced meanwhile
		}
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
			if strings.HasSuffix(block.Type, "PRIVATE KEY") {
				keys[path] = block.Bytes
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// pemBase64 is a whole key as a PEM file in base64, which is how Envoy shows
// bytes; its middle, for the block's name may differ.
func pemBase64(der []byte) string {
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	return base64.StdEncoding.EncodeToString(text)[60:132]
}

// configDump is what an Envoy's administration, HOST:PORT or a socket's path,
// tells of all of its configuration.
func configDump(t *testing.T, address string) string {
	t.Helper()
	network := "unix"
	if !strings.HasPrefix(address, "/") {
		network = "tcp"
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}}}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://envoy/config_dump?include_eds", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := harness.Read(client, request)
	if err != nil || answer.Status != 200 {
		t.Fatalf("asking for the configuration at %s: %s %v", address, answer, err)
	}
	return answer.Body
}
