package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"gatehouse.dev/gatehouse/internal/whole"
)

// The files of a folder.
const (
	bundleFile       = "ca.crt"           // the roots
	rootKeyFile      = "ca.key"           // the key of the root that issues
	nextKeyFile      = "next.key"         // the key of the root that will
	intermediateFile = "intermediate.pem" // key and certificate in one, so that it changes in one step
	pendingFile      = "pending.key"      // the key of an intermediate that is asked for
	lockFile         = ".lock"
)

// folder is where an authority lives. Its methods want it locked.
type folder string

func (f folder) path(name string) string { return filepath.Join(string(f), name) }

func (f folder) has(name string) bool {
	_, err := os.Stat(f.path(name))
	return err == nil
}

// lockFolder keeps two processes from changing the folder at once; it makes the
// folder.
func lockFolder(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		file.Close()
		return nil, fmt.Errorf("locking %s: %w", dir, err)
	}
	return func() { file.Close() }, nil
}

// makeRoot writes the key first: a certificate is there only when its key is.
func (f folder) makeRoot(now time.Time) error {
	root, err := newRoot(now)
	if err != nil {
		return err
	}
	return errors.Join(
		writeKey(f.path(rootKeyFile), root.key),
		f.saveRoots([]*x509.Certificate{root.certificate}),
	)
}

func (f folder) roots() ([]*x509.Certificate, error) {
	roots, err := readCertificates(f.path(bundleFile))
	if err != nil {
		return nil, err
	}
	for _, c := range roots {
		if err := checkRoot(c, f.path(bundleFile)); err != nil {
			return nil, err
		}
	}
	return roots, nil
}

func (f folder) saveRoots(roots []*x509.Certificate) error {
	return whole.WriteFile(f.path(bundleFile), encodeCertificates(roots), 0o644)
}

// root is the root whose key is here; nil: it is kept elsewhere.
func (f folder) root(roots []*x509.Certificate) (*Root, error) {
	return f.rootOf(rootKeyFile, roots)
}

func (f folder) rootOf(keyFile string, roots []*x509.Certificate) (*Root, error) {
	if !f.has(keyFile) {
		return nil, nil
	}
	key, err := readKey(f.path(keyFile))
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(roots, func(c *x509.Certificate) bool { return samePublic(c.PublicKey, key.Public()) })
	if at < 0 {
		return nil, fmt.Errorf("%s is the key of no root in %s: put the two together that belong together", f.path(keyFile), f.path(bundleFile))
	}
	return &Root{certificate: roots[at], key: key}, nil
}

// intermediate is the one in the folder, verified; nil: there is none, or its
// root is no longer trusted.
func (f folder) intermediate(roots []*x509.Certificate) (*intermediate, error) {
	path := f.path(intermediateFile)
	pair, err := tls.LoadX509KeyPair(path, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok || !pair.Leaf.IsCA {
		return nil, fmt.Errorf("reading %s: it is no intermediate", path)
	}
	at := slices.IndexFunc(roots, func(c *x509.Certificate) bool { return pair.Leaf.CheckSignatureFrom(c) == nil })
	if at < 0 {
		return nil, nil
	}
	return &intermediate{certificate: pair.Leaf, key: key, root: roots[at]}, nil
}

func (f folder) saveIntermediate(i *intermediate) error {
	key, err := encodeKey(i.key)
	if err != nil {
		return err
	}
	return whole.WriteFile(f.path(intermediateFile), append(encodeCertificates([]*x509.Certificate{i.certificate}), key...), 0o600)
}

func samePublic(x, y crypto.PublicKey) bool {
	comparable, ok := x.(interface{ Equal(crypto.PublicKey) bool })
	return ok && comparable.Equal(y)
}

func readCertificates(path string) (certificates []*x509.Certificate, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	certificates, err = parseCertificates(data)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w: move it away, and one is made", path, err)
	}
	return certificates, nil
}

// parseCertificates reads PEM that holds one certificate or more, and nothing
// else.
func parseCertificates(data []byte) (certificates []*x509.Certificate, err error) {
	for {
		var block *pem.Block
		block, data = pem.Decode(data)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("it holds a PEM block %q beside certificates", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		certificates = append(certificates, c)
	}
	if len(certificates) == 0 {
		return nil, errors.New("it holds no PEM certificate")
	}
	return certificates, nil
}

func encodeCertificates(certificates []*x509.Certificate) (text []byte) {
	for _, c := range certificates {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return text
}

func encodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func writeKey(path string, key crypto.Signer) error {
	text, err := encodeKey(key)
	if err != nil {
		return err
	}
	return whole.WriteFile(path, text, 0o600)
}

func readKey(path string) (crypto.Signer, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("reading %s: it holds no PEM key", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	signer, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("reading %s: it is no ECDSA key", path)
	}
	return signer, nil
}
