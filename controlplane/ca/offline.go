package ca

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"time"
)

// NewRoot makes a root in a folder of its own, which can be taken offline: ca.crt
// and ca.key (0600). One that is there already stays, and is an error.
func NewRoot(dir string, now time.Time) (*Root, error) {
	unlock, err := lockFolder(dir)
	if err != nil {
		return nil, fmt.Errorf("making a root in %s: %w", dir, err)
	}
	defer unlock()
	f := folder(dir)
	if f.has(bundleFile) || f.has(rootKeyFile) {
		return nil, fmt.Errorf("there is a root in %s: name another folder", dir)
	}
	if err := f.makeRoot(now); err != nil {
		return nil, fmt.Errorf("making a root in %s: %w", dir, err)
	}
	return OpenRoot(dir)
}

// OpenRoot is the root in a folder, with its key.
func OpenRoot(dir string) (*Root, error) {
	f := folder(dir)
	roots, err := f.roots()
	if err != nil {
		return nil, fmt.Errorf("opening the root in %s: %w", dir, err)
	}
	root, err := f.root(roots)
	if err == nil && root == nil {
		err = errors.New("its key, ca.key, is not there")
	}
	if err != nil {
		return nil, fmt.Errorf("opening the root in %s: %w", dir, err)
	}
	return root, nil
}

// Init makes these roots the ones that the CA of a new folder is trusted by.
func Init(dir string, roots []*x509.Certificate) error {
	return inFolder(dir, func(f folder) error {
		if f.has(bundleFile) {
			return fmt.Errorf("%s has its roots already: `gatehouse ca rotate-root` replaces them", dir)
		}
		for _, c := range roots {
			if err := checkRoot(c, "the file"); err != nil {
				return err
			}
		}
		return f.saveRoots(roots)
	})
}

// SignIntermediate gives a folder a new intermediate under a root that its
// bundle has.
func SignIntermediate(dir string, root *Root, now time.Time, life time.Duration) error {
	return inFolder(dir, func(f folder) error {
		if err := f.trusts(root.certificate); err != nil {
			return err
		}
		_, err := f.makeIntermediate(root, now, life)
		return err
	})
}

func (f folder) trusts(root *x509.Certificate) error {
	roots, err := f.roots()
	if err != nil {
		return err
	}
	for _, c := range roots {
		if c.Equal(root) {
			return nil
		}
	}
	return fmt.Errorf("the root %q is not in %s: add it with `gatehouse ca rotate-root add`", root.Subject.CommonName, f.path(bundleFile))
}

// RequestIntermediate makes a key in a folder and returns the PEM request that
// the root shall sign.
func RequestIntermediate(dir string) (request []byte, err error) {
	err = inFolder(dir, func(f folder) error {
		key, made, err := newRequest()
		if err != nil {
			return err
		}
		request = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: made.Raw})
		return writeKey(f.path(pendingFile), key)
	})
	return request, err
}

// SignRequest signs what RequestIntermediate made; the answer is PEM.
func (r *Root) SignRequest(request []byte, now time.Time, life time.Duration) ([]byte, error) {
	block, _ := pem.Decode(request)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("the request is no PEM certificate request: `gatehouse ca intermediate request` makes one")
	}
	parsed, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("reading the request: %w", err)
	}
	certificate, err := r.Sign(parsed, now, life)
	if err != nil {
		return nil, err
	}
	return encodeCertificates([]*x509.Certificate{certificate}), nil
}

// InstallIntermediate puts the answer to the last request into use.
func InstallIntermediate(dir string, answer []byte, now time.Time) error {
	return inFolder(dir, func(f folder) error {
		key, err := readKey(f.path(pendingFile))
		if errors.Is(err, os.ErrNotExist) {
			return errors.New("nothing was asked for here: begin with `gatehouse ca intermediate request`")
		}
		if err != nil {
			return err
		}
		text, err := encodeKey(key)
		if err != nil {
			return err
		}
		if _, err := tls.X509KeyPair(answer, text); err != nil {
			return fmt.Errorf("this is no answer to the last request: %w", err)
		}
		chain, err := parseCertificates(answer)
		if err != nil {
			return err
		}
		roots, err := f.roots()
		if err != nil {
			return err
		}
		if err := f.checkIntermediate(chain[0], roots, now); err != nil {
			return err
		}
		if err := f.saveIntermediate(&intermediate{certificate: chain[0], key: key}); err != nil {
			return err
		}
		return os.Remove(f.path(pendingFile))
	})
}

// checkIntermediate refuses what the folder would not go on with.
func (f folder) checkIntermediate(c *x509.Certificate, roots []*x509.Certificate, now time.Time) error {
	if !c.IsCA {
		return errors.New("the answer is no CA certificate")
	}
	if err := verifyChain([]*x509.Certificate{c}, roots, now); err != nil {
		return fmt.Errorf("the answer is under no root in %s: %w", f.path(bundleFile), err)
	}
	online, err := f.root(roots)
	if err == nil && online != nil && c.CheckSignatureFrom(online.certificate) != nil {
		err = fmt.Errorf("another root's key is in %s and would make another intermediate: use `gatehouse ca rotate-root issue --root-dir`", f.path(rootKeyFile))
	}
	return err
}

// inFolder does work on a locked folder.
func inFolder(dir string, work func(folder) error) error {
	unlock, err := lockFolder(dir)
	if err == nil {
		defer unlock()
		err = work(folder(dir))
	}
	if err != nil {
		return fmt.Errorf("in the CA's folder %s: %w", dir, err)
	}
	return nil
}
