package app

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/controlplane/ca"
	workloadv1 "gatehouse.dev/gatehouse/proto/gatehouse/workload/v1"
)

// InitCA gives the site a root that is kept apart, in rootDir, made where there
// is none, and its first intermediate.
func (c *Config) InitCA(rootDir string, now time.Time) error {
	if err := privateFolder(string(c.DataDir)); err != nil {
		return err
	}
	root, err := ca.OpenRoot(rootDir)
	if errors.Is(err, os.ErrNotExist) {
		root, err = ca.NewRoot(rootDir, now)
	}
	if err != nil {
		return err
	}
	dir := c.ControlPlane.CA.Dir
	if err := ca.Init(dir, []*x509.Certificate{root.Certificate()}); err != nil {
		return err
	}
	return ca.SignIntermediate(dir, root, now, c.ControlPlane.CA.IntermediateLife)
}

// InitForeignCA makes the roots in a PEM file the ones of this site, for an
// external signer.
func (c *Config) InitForeignCA(file string) error {
	if err := privateFolder(string(c.DataDir)); err != nil {
		return err
	}
	roots, err := readRoots(file)
	if err != nil {
		return err
	}
	return ca.Init(c.ControlPlane.CA.Dir, roots)
}

func readRoots(file string) (roots []*x509.Certificate, err error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the roots: %w", err)
	}
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		root, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", file, err)
		}
		roots = append(roots, root)
	}
	if len(roots) == 0 {
		return nil, fmt.Errorf("%s holds no PEM certificate", file)
	}
	return roots, nil
}

// RequestIntermediate is the PEM request for the next intermediate.
func (c *Config) RequestIntermediate() ([]byte, error) {
	return ca.RequestIntermediate(c.ControlPlane.CA.Dir)
}

// SignIntermediate signs such a request with the root in rootDir.
func SignIntermediate(rootDir string, request []byte, life time.Duration) ([]byte, error) {
	root, err := ca.OpenRoot(rootDir)
	if err != nil {
		return nil, err
	}
	return root.SignRequest(request, time.Now(), life)
}

// InstallIntermediate puts the answer into use, at once where a CA runs.
func (c *Config) InstallIntermediate(ctx context.Context, answer []byte) error {
	if err := ca.InstallIntermediate(c.ControlPlane.CA.Dir, answer, time.Now()); err != nil {
		return err
	}
	_, err := c.reloadCA(ctx)
	return err
}

// Bundle is the trust bundle in the SPIFFE bundle format.
func (c *Config) Bundle(ctx context.Context) ([]byte, error) {
	state, err := c.reloadCA(ctx)
	if err != nil {
		return nil, err
	}
	return ca.BundleJSON(state.GetBundle())
}

// reloadCA makes a running CA notice what changed in its folder.
func (c *Config) reloadCA(ctx context.Context) (answer *workloadv1.ReloadResponse, err error) {
	err = Workloads(ctx, c, func(ctx context.Context, w workloadv1.WorkloadsClient) (err error) {
		answer, err = w.Reload(ctx, &workloadv1.ReloadRequest{})
		return err
	})
	return answer, err
}

// AddRoot begins the replacement of the root. The new one is made in rootDir,
// in the site's own folder where that is empty, or is the one in file.
func (c *Config) AddRoot(ctx context.Context, rootDir, file string) (*x509.Certificate, error) {
	var added *x509.Certificate
	switch {
	case rootDir != "":
		root, err := ca.NewRoot(rootDir, time.Now())
		if err != nil {
			return nil, err
		}
		added = root.Certificate()
	case file != "":
		roots, err := readRoots(file)
		if err != nil {
			return nil, err
		}
		added = roots[0]
	}
	root, err := ca.AddRoot(c.ControlPlane.CA.Dir, added, time.Now())
	if err != nil {
		return nil, err
	}
	_, err = c.reloadCA(ctx)
	return root, err
}

// UseRoot makes the new root issue, once everybody who watches trusts it.
func (c *Config) UseRoot(ctx context.Context, rootDir string, force bool) error {
	state, err := c.reloadCA(ctx)
	if err != nil {
		return err
	}
	if behind := state.GetBehind(); len(behind) > 0 && !force {
		return fmt.Errorf("%d who watch do not trust the new root yet, among them %s: try again in a moment, or use --force", len(behind), strings.Join(behind[:min(3, len(behind))], ", "))
	}
	var root *ca.Root
	if rootDir != "" {
		if root, err = ca.OpenRoot(rootDir); err != nil {
			return err
		}
	}
	if err := ca.UseRoot(c.ControlPlane.CA.Dir, root, time.Now(), c.ControlPlane.CA.IntermediateLife); err != nil {
		return err
	}
	// The certificates in files, too, lead to the new root from now on.
	if err := c.Prepare(c.All(), time.Now); err != nil {
		return err
	}
	_, err = c.reloadCA(ctx)
	return err
}

// DropRoot ends the replacement, once nothing that leads to the old root is in
// use.
func (c *Config) DropRoot(ctx context.Context, force bool) error {
	dir := c.ControlPlane.CA.Dir
	old, err := ca.OldRoot(dir)
	if err != nil {
		return err
	}
	state, err := c.reloadCA(ctx)
	if err != nil {
		return err
	}
	for _, use := range state.GetRoots() {
		if old != nil && !force && bytes.Equal(use.GetFingerprint(), fingerprint(old)) {
			return fmt.Errorf("a certificate that leads to the old root is good until %s: try again after that, or use --force", use.GetUntil().AsTime().Format(time.RFC3339))
		}
	}
	if err := ca.DropRoot(dir); err != nil {
		return err
	}
	_, err = c.reloadCA(ctx)
	return err
}

func fingerprint(c *x509.Certificate) []byte {
	sum := sha256.Sum256(c.Raw)
	return sum[:]
}
