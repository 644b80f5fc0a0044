package app

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

func prepared(t *testing.T, text string) *Config {
	t.Helper()
	c := load(t, write(t, text))
	if err := c.Prepare(c.All(), time.Now); err != nil {
		t.Fatal(err)
	}
	return c
}

// contents are all files of a folder.
func contents(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			all[path], err = os.ReadFile(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A new key-encryption key opens nothing of a database that is there: made anew,
// it would only hide that the right one is missing.
func TestPrepareMakesNoKeyBesideADatabase(t *testing.T) {
	c := prepared(t, small)
	if err := errors.Join(os.WriteFile(string(c.Issuer.Database), nil, 0o600), os.Remove(string(c.Issuer.KeyEncryptionKey))); err != nil {
		t.Fatal(err)
	}
	if err := c.Prepare(c.All(), time.Now); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(string(c.Issuer.KeyEncryptionKey)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the key's file: %v", err)
	}
}

func TestPrepareMakesPrivateFilesOnce(t *testing.T) {
	c := prepared(t, small)
	for path, want := range map[string]os.FileMode{
		".": 0o700, "keys": 0o700, "keys/issuer.kek": 0o600, "keys/rule.key": 0o600, "keys/rule.pub": 0o644,
		"ca": 0o700, "ca/ca.key": 0o600, "tls/edge.key": 0o600,
	} {
		info, err := os.Stat(filepath.Join(string(c.DataDir), path))
		if err != nil {
			t.Error(err)
			continue
		}
		if mode := info.Mode().Perm(); mode != want {
			t.Errorf("%s has mode %o, want %o", path, mode, want)
		}
	}
	before := contents(t, string(c.DataDir))
	if err := c.Prepare(c.All(), time.Now); err != nil {
		t.Fatal(err)
	}
	for path, content := range contents(t, string(c.DataDir)) {
		if !bytes.Equal(content, before[path]) {
			t.Errorf("%s was made a second time", path)
		}
	}
}

func TestPrepareMakesOnlyWhatAPartNeeds(t *testing.T) {
	c := load(t, write(t, small))
	if err := c.Prepare([]Part{Authz}, time.Now); err != nil {
		t.Fatal(err)
	}
	if files := contents(t, string(c.DataDir)); len(files) != 1 { // the lock
		t.Errorf("an authorizer's machine got %d files", len(files))
	}
}

// Parts that start at once get one key, not each its own.
func TestPrepareFromSeveralProcesses(t *testing.T) {
	c := load(t, write(t, small))
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if err := c.Prepare(c.All(), time.Now); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	public, err := publicHalf(string(c.ControlPlane.RuleKey))
	if err != nil {
		t.Fatal(err)
	}
	if beside := readFile(string(c.Authz.RuleKeys[0])); !bytes.Equal(beside, public) {
		t.Error("rule.pub is not the public half of rule.key")
	}
}

func TestPrepareRenewsTheGatewaysCertificate(t *testing.T) {
	c := prepared(t, small)
	first := readFile(string(c.Gateway.TLS.Certificate))
	later := func() time.Time { return time.Now().Add(80 * 24 * time.Hour) }
	if err := c.Prepare(c.All(), later); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(first, readFile(string(c.Gateway.TLS.Certificate))) {
		t.Error("not renewed near its end")
	}
}

// Identities verified by the development CA are issued by it, with the SPIFFE
// ids that the other parts expect; others are left alone.
func TestPrepareIssuesIdentities(t *testing.T) {
	c := prepared(t, `
trust_domain: acme.example
authz: {identity: {certificate: data/id/authz.crt, key: data/id/authz.key, ca: data/ca/ca.crt}}
controlplane: {identity: {certificate: other/cp.crt, key: other/cp.key, ca: other/ca.crt}}
issuer: {identity: {certificate: data/id/issuer.crt, key: data/id/issuer.key, ca: data/ca/ca.crt}, apis: []}
`)
	for want, files := range map[string][2]string{
		"spiffe://acme.example/authz":  {string(c.Authz.Identity.Certificate), string(c.Authz.Identity.Key)},
		"spiffe://acme.example/issuer": {string(c.Issuer.Identity.Certificate), string(c.Issuer.Identity.Key)},
	} {
		pair, err := tls.LoadX509KeyPair(files[0], files[1])
		if err != nil {
			t.Error(err)
			continue
		}
		if len(pair.Leaf.URIs) != 1 || pair.Leaf.URIs[0].String() != want {
			t.Errorf("%s names %v, want %s", files[0], pair.Leaf.URIs, want)
		}
	}
	if _, err := os.Stat(string(c.ControlPlane.Identity.Certificate)); err == nil {
		t.Error("a certificate under somebody else's CA was made")
	}
}

func TestInitOverwritesNothing(t *testing.T) {
	dir := t.TempDir()
	writeText(t, filepath.Join(dir, "gatehouse.yaml"), "data_dir: elsewhere\n"+small)
	made, err := Init(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(readFile(filepath.Join(dir, "gatehouse.yaml"))); got != "data_dir: elsewhere\n"+small {
		t.Errorf("the configuration was replaced:\n%s", got)
	}
	if _, err := os.Stat(filepath.Join(dir, "elsewhere", "keys", "rule.key")); err != nil {
		t.Error(err)
	}
	again, err := Init(dir)
	if err != nil || len(made) == 0 || len(again) > 0 {
		t.Errorf("made %v, then %v: %v", made, again, err)
	}
}
