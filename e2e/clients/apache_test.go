package clients

import (
	"crypto/rand"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"text/template"
	"time"

	"gatehouse.dev/gatehouse/e2e/harness"
)

// apacheConfig guards everything below /private with mod_auth_openidc, and
// shows who is there.
var apacheConfig = template.Must(template.New("apache").Parse(`
ServerRoot {{.Dir}}
ServerName localhost
PidFile {{.Dir}}/apache.pid
Mutex file:{{.Dir}}
ErrorLog /dev/stderr
LogLevel warn
Listen {{.Address}}
LoadModule mpm_event_module {{.Modules}}/mod_mpm_event.so
LoadModule authn_core_module {{.Modules}}/mod_authn_core.so
LoadModule authz_core_module {{.Modules}}/mod_authz_core.so
LoadModule authz_user_module {{.Modules}}/mod_authz_user.so
LoadModule headers_module {{.Modules}}/mod_headers.so
LoadModule auth_openidc_module {{.Modules}}/mod_auth_openidc.so
DocumentRoot {{.Dir}}/www
OIDCProviderMetadataURL {{.Issuer}}/.well-known/openid-configuration
OIDCCABundlePath {{.CA}}
OIDCClientID {{.Client.ID}}
OIDCClientSecret {{.Client.Secret}}
OIDCRedirectURI {{.Redirect}}
OIDCCryptoPassphrase {{.Passphrase}}
OIDCScope "openid profile email read:orders"
OIDCPKCEMethod S256
OIDCRemoteUserClaim preferred_username
OIDCPassClaimsAs headers
<Location /private>
  AuthType openid-connect
  Require valid-user
  Header set x-remote-user expr=%{REMOTE_USER}
</Location>
`))

const apacheModules = "/usr/lib/apache2/modules"

// Debian's mod_auth_openidc: what people put in front of what knows nothing of
// tokens.
func TestApache(t *testing.T) {
	s := harness.Start(t, harness.Options{Configure: func(_ *harness.System, c harness.Config) {
		c.Set("issuer.backchannel_logout.allow_internal", true)
	}})
	p := s.AddUser(t, "alice", "customer")
	address := harness.FreeAddress(t)
	redirect := "http://" + address + "/private/callback"
	c := s.AddLogin(t, "apache", redirect, []string{"openid", "profile", "email", "read:orders"}, "--backchannel-logout-uri", redirect+"?logout=backchannel")
	startApache(t, s, address, redirect, c)

	b := s.NewBrowser(t)
	b.Open("http://" + address + "/private/hello.txt")
	if b.Location() == nil {
		t.Fatalf("Apache answers %d:\n%s", b.Status, b.Page)
	}
	back := b.LogIn(b.Location().String(), p.Login, p.Password)
	b.Open(back.String())
	if to := b.Location(); to == nil || to.Path != "/private/hello.txt" {
		t.Fatalf("Apache answers %d, to %v:\n%s", b.Status, to, b.Page)
	}
	b.Open(b.Location().String())
	if b.Status != 200 || !strings.Contains(b.Page, "hello") || b.Header.Get("X-Remote-User") != "alice" {
		t.Errorf("Apache answers %d to %q:\n%s", b.Status, b.Header.Get("X-Remote-User"), b.Page)
	}

	// Logging out at the issuer ends Apache's own session, too.
	b.Open(s.URL("/oauth/end-session"))
	b.Submit()
	harness.Eventually(t, 10*time.Second, func() error {
		if b.Open("http://" + address + "/private/hello.txt"); b.Status == 200 {
			return errors.New("Apache still shows the page")
		}
		return nil
	})
}

func startApache(t *testing.T, s *harness.System, address, redirect string, c harness.Client) {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "www", "private"), 0o755); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := apacheConfig.Execute(&text, map[string]any{
		"Dir": dir, "Address": address, "Modules": apacheModules, "Issuer": s.URL(""), "CA": s.CAPath(),
		"Client": c, "Redirect": redirect, "Passphrase": rand.Text(),
	}); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"apache.conf": text.String(), "www/private/hello.txt": "hello\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.Launch(t, "apache", exec.Command("/usr/sbin/apache2", "-X", "-f", filepath.Join(dir, "apache.conf")))
	harness.Eventually(t, 10*time.Second, func() error {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err
	})
}
