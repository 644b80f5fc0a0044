package clients

import (
	"context"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/e2e/harness"
	"gatehouse.dev/gatehouse/sample"
	"gatehouse.dev/gatehouse/token"
)

// The Postman collection that ships runs against a gate with the sample's
// profile service behind it: a client registers itself, gets a token, asks for
// its name, unregisters, and is refused. newman verifies the gate's certificate
// against the site's CA.
func TestPostmanCollection(t *testing.T) {
	s := harness.Start(t, harness.Options{Configure: func(_ *harness.System, c harness.Config) {
		verifier, err := token.NewServiceVerifier(token.ServiceConfig{
			Service: "spiffe://gatehouse.local/service/names", KeysURL: "http://" + c.Text("authz.telemetry") + "/assertion-keys",
		})
		if err != nil {
			t.Fatal(err)
		}
		profile := httptest.NewServer(sample.Profile(verifier))
		t.Cleanup(profile.Close)
		c.Set("issuer.registration.access", "token")
		c.Set("gateway.services.names", map[string]any{"url": profile.URL})
		c.AddRoute(harness.Route{
			"id": "my-name", "path": "/my-name", "methods": []string{"GET"}, "service": "names",
			"audience": harness.ProfileAPI, "scopes": []string{"read:profile"},
		})
	}})
	file := filepath.Join(s.Dir, "data", "initial.secret")
	s.CLI(t, "client", "registration-token", "add", "--grant", "client_credentials", "--scope", "read:profile", "--secret-file", file)
	initial, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	postman := filepath.Join(harness.Root(), "docs", "postman")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	newman := exec.CommandContext(ctx, filepath.Join(harness.Root(), "e2e", "clients", "newman", "node_modules", ".bin", "newman"),
		"run", filepath.Join(postman, "gatehouse.postman_collection.json"),
		"--environment", filepath.Join(postman, "gatehouse.postman_environment.json"),
		"--env-var", "issuer="+s.URL(""), "--env-var", "gateway="+s.URL(""),
		"--env-var", "initial_access_token="+strings.TrimSpace(string(initial)),
		"--ssl-extra-ca-certs", s.CAPath(), "--color", "off", "--reporter-cli-no-banner")
	out, err := newman.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, told := range []string{"the service knows who asks", "the gate refuses it", "as an unknown client"} {
		if !strings.Contains(string(out), told) {
			t.Errorf("newman never came to %q:\n%s", told, out)
		}
	}
}
