// Package ca is the workload CA: who a process is inside the gate.
//
// The data's way: a root, made once, whose key may be kept away → an
// intermediate that it signs, renewed at half life → X.509-SVIDs of an hour,
// which workloads get for a join token (Enrol) and keep for as long as they
// prove the last one's key (Renew). What all of them know of each other, the
// roots, who was revoked and the keys of assertions, they watch (Trust). The
// same authority keeps the certificates of files: the gateway's development
// certificate and the parts' identities.
//
// X509-SVID §2 to §4 govern the certificates (one URI SAN, no CA bit, digital
// signature only), SPIFFE-ID the names, SPIFFE Trust Domain and Bundle the
// published bundle. Nothing leaves before it was verified as those who meet it
// will.
package ca

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// organization marks what this authority made: only that is renewed.
	organization = "Gatehouse"
	// backdate keeps a new certificate valid on machines whose clocks are a
	// little behind.
	backdate = time.Minute
)

// Authority is the CA of one folder: ca.crt (the trust bundle), ca.key (the
// root's key, where it is not kept elsewhere) and intermediate.pem. Other
// processes may change the folder: Refresh reads it again.
type Authority struct {
	dir    string
	config Config
	now    func() time.Time
	logger *slog.Logger

	refreshing sync.Mutex
	current    atomic.Pointer[reading]
}

// reading is the folder at one time.
type reading struct {
	roots  []*x509.Certificate // the bundle
	issuer *x509.Certificate   // the root that new certificates lead to; nil: the signer's choice
	signer Signer
	// renewAt and ends are the intermediate's; zero: an external signer's.
	renewAt, ends time.Time
}

// Signer issues certificates: the intermediate in the folder, or somebody
// outside. What it returns is verified before it is used.
type Signer interface {
	// Sign issues what template says for the key of request, and returns the
	// chain, the leaf first, without the root.
	Sign(ctx context.Context, template *x509.Certificate, request *x509.CertificateRequest) ([]*x509.Certificate, error)
}

// Open loads the authority in dir with everything at its default, or makes one
// there where there is none. The folder is made 0700 and keys 0600.
func Open(dir string, now func() time.Time) (*Authority, error) {
	c := Config{Dir: dir}
	c.SetDefaults(filepath.Dir(dir))
	return OpenConfigured(c, now, slog.New(slog.DiscardHandler))
}

// OpenConfigured is Open with a configuration.
func OpenConfigured(c Config, now func() time.Time, logger *slog.Logger) (*Authority, error) {
	a := &Authority{dir: c.Dir, config: c, now: now, logger: logger}
	if err := a.Refresh(); err != nil {
		return nil, fmt.Errorf("opening the CA in %s: %w", c.Dir, err)
	}
	return a, nil
}

// Refresh reads the folder again, and renews the intermediate where it is time
// and the root's key is there. On an error what was read last stays.
func (a *Authority) Refresh() error {
	a.refreshing.Lock()
	defer a.refreshing.Unlock()
	unlock, err := lockFolder(a.dir)
	if err != nil {
		return err
	}
	defer unlock()
	r, err := a.read()
	if err != nil {
		return err
	}
	a.tell(a.current.Swap(r), r)
	return nil
}

// tell logs that others are trusted or issue from now on: who did that used a
// command, and the folder is all that a running CA sees of it.
func (a *Authority) tell(before, after *reading) {
	if before == nil || slices.Equal(before.names(), after.names()) {
		return
	}
	a.logger.Warn("the CA's roots changed", "before", before.names(), "now", after.names())
}

// names are the roots, each with its fingerprint, and whether it issues.
func (r *reading) names() (names []string) {
	for _, root := range r.roots {
		name := fmt.Sprintf("%s, SHA-256 %x", root.Subject.CommonName, sha256.Sum256(root.Raw))
		if root.Equal(r.issuer) {
			name += ", issues"
		}
		names = append(names, name)
	}
	return names
}

func (a *Authority) read() (*reading, error) {
	f := folder(a.dir)
	if !f.has(bundleFile) {
		if err := f.makeRoot(a.now()); err != nil {
			return nil, err
		}
	}
	roots, err := f.roots()
	if err != nil {
		return nil, err
	}
	if len(a.config.SignerCommand) > 0 {
		return &reading{roots: roots, signer: &commandSigner{command: a.config.SignerCommand}}, nil
	}
	i, err := a.intermediate(f, roots)
	if err != nil {
		return nil, err
	}
	return &reading{roots: roots, issuer: i.root, signer: i, renewAt: i.halfLife(), ends: i.certificate.NotAfter}, nil
}

// intermediate is the one in the folder, or a new one where it is time and the
// root's key is there.
func (a *Authority) intermediate(f folder, roots []*x509.Certificate) (*intermediate, error) {
	present, err := f.intermediate(roots)
	if err != nil {
		return nil, err
	}
	root, err := f.root(roots)
	if err != nil {
		return nil, err
	}
	now := a.now()
	good := present != nil && now.Before(present.halfLife()) && (root == nil || root.certificate.Equal(present.root))
	switch {
	case good:
		return present, nil
	case root != nil:
		if now.After(root.certificate.NotAfter) {
			return nil, fmt.Errorf("the root ended on %s: replace it with `gatehouse ca rotate-root`, or move the folder away, and a new one is made", root.certificate.NotAfter.Format(time.DateOnly))
		}
		return f.makeIntermediate(root, now, a.config.IntermediateLife)
	case present == nil:
		return nil, errors.New("the root's key is not here, and no intermediate: make a request with `gatehouse ca intermediate request`, sign it where the root is with `gatehouse ca sign`, and install the answer with `gatehouse ca intermediate install`")
	case now.After(present.certificate.NotAfter):
		return nil, fmt.Errorf("the intermediate ended on %s and the root's key is not here: get a new one with `gatehouse ca intermediate request`", present.certificate.NotAfter.Format(time.DateTime))
	default:
		a.logger.Warn("the intermediate is past half its life and the root's key is not here: get a new one with `gatehouse ca intermediate request`", "ends", present.certificate.NotAfter)
		return present, nil
	}
}

// Roots are the trust bundle: one root, or two while one replaces the other.
func (a *Authority) Roots() []*x509.Certificate { return slices.Clone(a.current.Load().roots) }

// Certificate is the root that new certificates lead to, for trust stores.
func (a *Authority) Certificate() *x509.Certificate {
	r := a.current.Load()
	if r.issuer != nil {
		return r.issuer
	}
	return r.roots[0]
}

// Issue issues an X.509-SVID for a SPIFFE id, to the key of a request that was
// checked. It returns the chain, the leaf first, without the root.
func (a *Authority) Issue(ctx context.Context, id ID, request *x509.CertificateRequest) ([]*x509.Certificate, error) {
	return a.sign(ctx, a.svid(id, a.config.Life), request)
}

// sign signs and verifies: nothing leaves that those who meet it would not
// take, or that says more than it should.
func (a *Authority) sign(ctx context.Context, template *x509.Certificate, request *x509.CertificateRequest) ([]*x509.Certificate, error) {
	r := a.current.Load()
	chain, err := r.signer.Sign(ctx, template, request)
	if err != nil {
		return nil, err
	}
	if err := verifyIssued(chain, template, request.PublicKey, r.roots, a.now()); err != nil {
		return nil, fmt.Errorf("refusing what the CA signed: %w", err)
	}
	return chain, nil
}

// issueTo is sign for a key of this process.
func (a *Authority) issueTo(ctx context.Context, template *x509.Certificate, key crypto.Signer) ([]*x509.Certificate, error) {
	request, err := requestFor(template, key)
	if err != nil {
		return nil, err
	}
	return a.sign(ctx, template, request)
}
