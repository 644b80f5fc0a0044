package ca

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

const (
	signerTime   = 15 * time.Second
	signerOutput = 64 << 10
	signerErrors = 1 << 10
)

// commandSigner is an external signer behind a command: the request goes to its
// standard input as PEM, what it shall say into its environment, and the chain
// comes back on its standard output. It implements Signer.
type commandSigner struct{ command []string }

// Sign implements Signer, bounded in time and output.
func (s *commandSigner) Sign(ctx context.Context, template *x509.Certificate, request *x509.CertificateRequest) ([]*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, signerTime)
	defer cancel()
	c := exec.CommandContext(ctx, s.command[0], s.command[1:]...)
	c.Env = append(os.Environ(), signerEnvironment(template)...)
	c.Stdin = bytes.NewReader(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request.Raw}))
	out, complaint := &bounded{limit: signerOutput}, &bounded{limit: signerErrors}
	c.Stdout, c.Stderr = out, complaint
	// A child that inherited the pipes must not hold us up.
	c.WaitDelay = time.Second
	if err := c.Run(); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("it took longer than %s", signerTime)
		}
		return nil, fmt.Errorf("asking the signer %q: %w: %s", s.command[0], err, bytes.TrimSpace(complaint.kept))
	}
	if out.overflown {
		return nil, fmt.Errorf("asking the signer %q: it answered more than %d bytes", s.command[0], signerOutput)
	}
	chain, err := parseCertificates(out.kept)
	if err != nil {
		return nil, fmt.Errorf("reading the answer of the signer %q: %w", s.command[0], err)
	}
	return chain, nil
}

// signerEnvironment is what the certificate shall say: a request's own words
// are not to be trusted, so a signer need not read them.
func signerEnvironment(template *x509.Certificate) []string {
	var hosts, ids []string
	hosts = append(hosts, template.DNSNames...)
	for _, ip := range template.IPAddresses {
		hosts = append(hosts, ip.String())
	}
	for _, u := range template.URIs {
		ids = append(ids, u.String())
	}
	return []string{
		"GATEHOUSE_SPIFFE_ID=" + strings.Join(ids, ","),
		"GATEHOUSE_HOSTS=" + strings.Join(hosts, ","),
		"GATEHOUSE_NOT_AFTER=" + template.NotAfter.UTC().Format(time.RFC3339),
	}
}

// bounded keeps the first limit bytes.
type bounded struct {
	kept      []byte
	limit     int
	overflown bool
}

// Write takes everything, so that the command gets no SIGPIPE, and keeps what
// there is room for.
func (b *bounded) Write(p []byte) (int, error) {
	room := min(b.limit-len(b.kept), len(p))
	b.kept = append(b.kept, p[:room]...)
	b.overflown = b.overflown || room < len(p)
	return len(p), nil
}

func validateCommand(command []string) error {
	if len(command) == 0 {
		return nil
	}
	if strings.TrimSpace(command[0]) == "" {
		return errors.New("its first word is empty")
	}
	_, err := exec.LookPath(command[0])
	return err
}
