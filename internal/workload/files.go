package workload

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/internal/serve"
)

// lookEvery is how often files are looked at for a change.
const lookEvery = time.Second

// files is a source that somebody else keeps in files, and renews there.
type files struct {
	source   *Source
	identity serve.Identity
	logger   *slog.Logger
	seen     [sha256.Size]byte
}

// NewFiles reads the files once.
func NewFiles(identity serve.Identity, deps Deps) (*Source, error) {
	deps.complete()
	f := &files{source: newSource(nil, deps), identity: identity, logger: deps.Logger}
	f.source.run = f.run
	return f.source, f.read()
}

// run follows the files until ctx ends. Files that do not fit together, as
// while they are replaced one by one, change nothing.
func (f *files) run(ctx context.Context) error {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	var told string
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
		}
		err := f.read()
		if err != nil && err.Error() != told {
			f.logger.Warn("identity files cannot be used: the last good ones stay", "error", err)
		}
		told = ""
		if err != nil {
			told = err.Error()
		}
	}
}

// read takes over the files where they changed.
func (f *files) read() error {
	var contents [3][]byte
	sum := sha256.New()
	for i, path := range []conf.Path{f.identity.Certificate, f.identity.Key, f.identity.CA} {
		content, err := os.ReadFile(string(path))
		if err != nil {
			return fmt.Errorf("reading the identity's files: %w", err)
		}
		part := sha256.Sum256(content)
		sum.Write(part[:])
		contents[i] = content
	}
	now := [sha256.Size]byte(sum.Sum(nil))
	if now == f.seen {
		return nil
	}
	state, err := parseState(contents[0], contents[1], contents[2])
	if err != nil {
		return fmt.Errorf("reading identity.certificate %q: %w", f.identity.Certificate, err)
	}
	f.seen = now
	f.source.Set(state)
	return nil
}

func parseState(chain, key, roots []byte) (*State, error) {
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, err
	}
	signer, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, errors.New("the key cannot sign")
	}
	certificates, err := parseCertificates(chain)
	if err != nil {
		return nil, err
	}
	authorities, err := parseCertificates(roots)
	if err != nil {
		return nil, fmt.Errorf("reading the roots: %w", err)
	}
	return NewState(certificates, signer, authorities)
}

// parseCertificates reads every PEM certificate of a text.
func parseCertificates(text []byte) (all []*x509.Certificate, err error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}
