package ca

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/internal/whole"
)

// bench is an authority in a folder, with a clock to turn.
type bench struct {
	*Authority
	dir      string
	clock    time.Time
	crt, key string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{dir: filepath.Join(t.TempDir(), "ca"), clock: time.Now()}
	b.crt, b.key = filepath.Join(b.dir, "leaf", "l.crt"), filepath.Join(b.dir, "leaf", "l.key")
	b.reopen(t)
	return b
}

func (b *bench) reopen(t *testing.T) {
	t.Helper()
	a, err := Open(b.dir, func() time.Time { return b.clock })
	if err != nil {
		t.Fatal(err)
	}
	b.Authority = a
}

func (b *bench) keep(t *testing.T, s Subject) (leaf *x509.Certificate, renewed bool) {
	t.Helper()
	renewed, err := b.Keep(b.crt, b.key, s)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(b.crt, b.key)
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf, renewed
}

func (b *bench) verify(leaf *x509.Certificate, host string, usage x509.ExtKeyUsage) error {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(b.Certificate())
	chain, err := readCertificates(b.crt)
	if err != nil {
		return err
	}
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err = leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: host, KeyUsages: []x509.ExtKeyUsage{usage}, CurrentTime: b.clock})
	return err
}

func TestServerCertificate(t *testing.T) {
	b := newBench(t)
	leaf, _ := b.keep(t, Subject{Hosts: []string{"localhost", "127.0.0.1", "::1"}})
	for _, host := range []string{"localhost", "127.0.0.1", "::1"} {
		if err := b.verify(leaf, host, x509.ExtKeyUsageServerAuth); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	if err := b.verify(leaf, "example.com", x509.ExtKeyUsageServerAuth); err == nil {
		t.Error("the certificate names a host that was not asked for")
	}
	if err := b.verify(leaf, "", x509.ExtKeyUsageClientAuth); err == nil {
		t.Error("a server's certificate serves as a client's")
	}
}

func TestWorkloadCertificate(t *testing.T) {
	b := newBench(t)
	leaf, _ := b.keep(t, Subject{SPIFFE: "spiffe://gatehouse.local/authz"})
	if len(leaf.URIs) != 1 || leaf.URIs[0].String() != "spiffe://gatehouse.local/authz" {
		t.Errorf("URI SANs %v, want the one SPIFFE id", leaf.URIs)
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if err := b.verify(leaf, "", usage); err != nil {
			t.Errorf("usage %v: %v", usage, err)
		}
	}
	// X509-SVID §4: a leaf signs no certificates.
	if leaf.IsCA || leaf.KeyUsage != x509.KeyUsageDigitalSignature {
		t.Errorf("CA %v, key usage %v", leaf.IsCA, leaf.KeyUsage)
	}
	for _, wrong := range []Subject{{SPIFFE: "https://a/b"}, {SPIFFE: "spiffe:///x"}, {SPIFFE: "spiffe://a/b", Hosts: []string{"c"}}} {
		if _, err := b.Keep(b.crt, b.key, wrong); err == nil {
			t.Errorf("%v was issued", wrong)
		}
	}
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestKeepRenewsOnlyWhatNeedsIt(t *testing.T) {
	b := newBench(t)
	subject := Subject{Hosts: []string{"localhost"}}
	renewals := func(s Subject) bool {
		_, renewed := b.keep(t, s)
		return renewed
	}
	if !renewals(subject) || renewals(subject) {
		t.Fatal("not made once and then kept")
	}
	b.reopen(t)
	if renewals(subject) {
		t.Error("renewed by a restart alone")
	}
	b.clock = b.clock.Add(defaultIntermediateLife/3*2 + time.Hour)
	b.reopen(t)
	if !renewals(subject) {
		t.Error("in its last third, not renewed")
	}
	if !renewals(Subject{Hosts: []string{"localhost", "gate.example"}}) {
		t.Error("a new name, not renewed")
	}
	if err := os.WriteFile(b.key, readFile(t, filepath.Join(b.dir, "ca.key")), 0o600); err != nil {
		t.Fatal(err)
	}
	if !renewals(Subject{Hosts: []string{"localhost", "gate.example"}}) {
		t.Error("the key is another's, not renewed")
	}
	if err := os.Remove(filepath.Join(b.dir, "ca.crt")); err != nil {
		t.Fatal(err)
	}
	b.reopen(t)
	if !renewals(Subject{Hosts: []string{"localhost", "gate.example"}}) {
		t.Error("under another root, not renewed")
	}
}

func TestKeepLeavesForeignCertificatesAlone(t *testing.T) {
	b := newBench(t)
	root, err := newRoot(b.clock)
	if err != nil {
		t.Fatal(err)
	}
	foreign := *root.certificate
	foreign.Subject.Organization, foreign.RawSubject = []string{"Others"}, nil
	signed, err := create(&foreign, &foreign, root.key.Public(), root.key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(b.crt), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(writeKey(b.key, root.key), whole.WriteFile(b.crt, encodeCertificates([]*x509.Certificate{signed}), 0o644)); err != nil {
		t.Fatal(err)
	}
	if leaf, renewed := b.keep(t, Subject{Hosts: []string{"localhost"}}); renewed || !slices.Equal(leaf.Raw, signed.Raw) {
		t.Error("somebody else's certificate was replaced")
	}
}

func TestKeysArePrivate(t *testing.T) {
	b := newBench(t)
	b.keep(t, Subject{Hosts: []string{"localhost"}})
	for path, want := range map[string]os.FileMode{b.dir: 0o700, filepath.Join(b.dir, "ca.key"): 0o600, filepath.Join(b.dir, "intermediate.pem"): 0o600, b.key: 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode != want {
			t.Errorf("%s has mode %o, want %o", path, mode, want)
		}
	}
}

func TestOpenRefusesAnEndedRoot(t *testing.T) {
	b := newBench(t)
	b.clock = b.clock.Add(rootLife + time.Hour)
	if _, err := Open(b.dir, func() time.Time { return b.clock }); err == nil {
		t.Error("an ended root was opened")
	}
}
