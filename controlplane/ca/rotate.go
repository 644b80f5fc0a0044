package ca

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"
)

// A root is replaced in three steps, so that nobody meets a certificate that it
// cannot verify: AddRoot, and everybody learns the new root; UseRoot, and new
// certificates lead to it; DropRoot, once none that leads to the old one is in
// use. Between them the bundle has both, the old one first.

// AddRoot puts a new root into the bundle. With nil one is made, whose key waits
// in the folder.
func AddRoot(dir string, added *x509.Certificate, now time.Time) (root *x509.Certificate, err error) {
	err = inFolder(dir, func(f folder) error {
		roots, err := f.roots()
		if err != nil {
			return err
		}
		if len(roots) > 1 {
			return errors.New("one root is being replaced already: `gatehouse ca rotate-root issue` and `drop` go on with it")
		}
		if root = added; root == nil {
			made, err := newRoot(now)
			if err != nil {
				return err
			}
			if err := writeKey(f.path(nextKeyFile), made.key); err != nil {
				return err
			}
			root = made.certificate
		}
		if err := checkRoot(root, "the file"); err != nil {
			return err
		}
		if root.Equal(roots[0]) {
			return errors.New("it is the root that is there")
		}
		return f.saveRoots(append(roots, root))
	})
	return root, err
}

// UseRoot makes the new root issue: next, with its key where that is kept
// elsewhere, or nil for the one whose key waits in the folder. The old root's
// key, if it is in the folder, is deleted: it shall sign nothing more.
func UseRoot(dir string, next *Root, now time.Time, life time.Duration) error {
	return inFolder(dir, func(f folder) error {
		roots, err := f.roots()
		if err != nil {
			return err
		}
		if len(roots) < 2 {
			return errors.New("there is no new root: begin with `gatehouse ca rotate-root add`")
		}
		if next == nil {
			return f.useWaiting(roots, now, life)
		}
		if !next.certificate.Equal(roots[1]) {
			return fmt.Errorf("the root %q is not the one that was added", next.certificate.Subject.CommonName)
		}
		// The key first: with it here, the folder would go back to its root.
		if err := os.Remove(f.path(rootKeyFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		_, err = f.makeIntermediate(next, now, life)
		return err
	})
}

func (f folder) useWaiting(roots []*x509.Certificate, now time.Time, life time.Duration) error {
	next, err := f.rootOf(nextKeyFile, roots)
	if err != nil {
		return err
	}
	if next == nil {
		return errors.New("the new root's key is not here: name its folder with --root-dir, or ask it for an intermediate with `gatehouse ca intermediate request`")
	}
	if err := os.Rename(f.path(nextKeyFile), f.path(rootKeyFile)); err != nil {
		return err
	}
	_, err = f.makeIntermediate(next, now, life)
	return err
}

// OldRoot is the root that is being replaced; nil: none is.
func OldRoot(dir string) (old *x509.Certificate, err error) {
	err = inFolder(dir, func(f folder) error {
		roots, err := f.roots()
		if err == nil && len(roots) > 1 {
			old = roots[0]
		}
		return err
	})
	return old, err
}

// DropRoot takes the old root out of the bundle: what leads to it is refused
// from now on.
func DropRoot(dir string) error {
	return inFolder(dir, func(f folder) error {
		roots, err := f.roots()
		if err != nil {
			return err
		}
		if len(roots) < 2 {
			return errors.New("no root is being replaced")
		}
		online, err := f.root(roots)
		if err != nil {
			return err
		}
		present, err := f.intermediate(roots)
		if err != nil {
			return err
		}
		if (online != nil && online.certificate.Equal(roots[0])) || (present != nil && present.root.Equal(roots[0])) {
			return errors.New("the old root still issues: `gatehouse ca rotate-root issue` comes before `drop`")
		}
		return f.saveRoots(roots[1:])
	})
}
