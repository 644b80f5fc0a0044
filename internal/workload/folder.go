package workload

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"gatehouse.dev/gatehouse/internal/whole"
)

// folder keeps a state over restarts: identity.pem, the key and the chain, and
// roots.pem, both 0600 in a 0700 folder.
type folder string

// prepare makes the folder, and refuses one that others may enter.
func (f folder) prepare() error {
	if err := os.MkdirAll(string(f), 0o700); err != nil {
		return fmt.Errorf("making the state folder: %w", err)
	}
	info, err := os.Stat(string(f))
	if err != nil {
		return fmt.Errorf("looking at the state folder: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("the state folder %s is open to others (mode %o): chmod 700 it, for it holds the private key", f, info.Mode().Perm())
	}
	return nil
}

// load is what save saved and when; nil where nothing is there.
func (f folder) load() (*State, time.Time, error) {
	path := filepath.Join(string(f), "identity.pem")
	identity, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, time.Time{}, nil
	}
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("reading the identity: %w", err)
	}
	roots, err := os.ReadFile(filepath.Join(string(f), "roots.pem"))
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("reading the trust bundle: %w", err)
	}
	state, err := parseState(identity, identity, roots)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("reading %s: %w (move it away, and enrol with a new join token)", path, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("reading the identity: %w", err)
	}
	return state, info.ModTime(), nil
}

// save puts the roots in place first: they include those of the old chain.
func (f folder) save(s *State) error {
	if err := f.saveRoots(s.Roots); err != nil {
		return err
	}
	key, err := s.keyPEM()
	if err != nil {
		return err
	}
	return f.write("identity.pem", append(key, s.certificatePEM()...))
}

func (f folder) saveRoots(roots []*x509.Certificate) error {
	var text []byte
	for _, r := range roots {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Raw})...)
	}
	return f.write("roots.pem", text)
}

// write puts a 0600 file in place in one step that survives a power cut.
func (f folder) write(name string, content []byte) error {
	err := whole.WriteFile(filepath.Join(string(f), name), content, 0o600)
	if err == nil {
		err = f.sync()
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return nil
}

func (f folder) sync() error { return whole.SyncFolder(string(f)) }
