package app

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"gatehouse.dev/gatehouse/controlplane/ca"
	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/internal/serve"
	"gatehouse.dev/gatehouse/internal/whole"
)

// Part is a part of Gatehouse, by the name of its section and command.
type Part string

// The parts.
const (
	Issuer       Part = "issuer"
	Authz        Part = "authz"
	ControlPlane Part = "controlplane"
	Envoy        Part = "envoy"
	RateLimit    Part = "ratelimit"
)

// All are the parts that `gatehouse run` starts; the issuer and the
// rate-limit service only where the configuration has one.
func (c *Config) All() []Part {
	parts := []Part{Authz, ControlPlane, Envoy}
	if c.RateLimit != nil {
		parts = append([]Part{RateLimit}, parts...)
	}
	if c.Issuer != nil {
		parts = append([]Part{Issuer}, parts...)
	}
	return parts
}

// Prepare makes what the parts need and is missing: the data folder, keys, and
// certificates of the development CA, which it also renews. What is there and
// good stays as it is, so it can be called at any time.
func (c *Config) Prepare(parts []Part, now func() time.Time) error {
	if err := privateFolder(string(c.DataDir)); err != nil {
		return err
	}
	unlock, err := lock(string(c.data(".lock")))
	if err != nil {
		return err
	}
	defer unlock()
	kek, err := environmentKEK()
	if err != nil {
		return err
	}
	if slices.Contains(parts, Issuer) && c.Issuer != nil && kek == nil {
		if err := c.Issuer.MakeKEK(); err != nil {
			return err
		}
	}
	if slices.Contains(parts, ControlPlane) {
		if err := keepRuleKey(string(c.ControlPlane.RuleKey)); err != nil {
			return err
		}
	}
	return c.keepCertificates(parts, now)
}

// CA holds the certificates of the CA's roots, for clients of the gateway.
func (c *Config) CA() conf.Path { return c.data("ca", "ca.crt") }

// keepCertificates looks after the certificates that the development CA issues:
// the gateway's where it is in its default place, and the identities that are
// verified against that CA.
func (c *Config) keepCertificates(parts []Part, now func() time.Time) error {
	leaves := c.leaves(parts)
	if len(leaves) == 0 && !slices.Contains(parts, ControlPlane) {
		return nil
	}
	authority, err := ca.OpenConfigured(c.ControlPlane.CA, now, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	for _, l := range leaves {
		if _, err := authority.Keep(string(l.certificate), string(l.key), l.subject); err != nil {
			return fmt.Errorf("keeping %s: %w", l.name, err)
		}
	}
	return nil
}

type leaf struct {
	name             string
	certificate, key conf.Path
	subject          ca.Subject
}

func (c *Config) leaves(parts []Part) (leaves []leaf) {
	tls := c.Gateway.TLS
	if slices.Contains(parts, ControlPlane) && tls.Certificate == c.data("tls", "edge.crt") && tls.Key == c.data("tls", "edge.key") {
		leaves = append(leaves, leaf{"gateway.tls", tls.Certificate, tls.Key, ca.Subject{Hosts: c.hosts()}})
	}
	for _, p := range parts {
		id, spiffe := c.identity(p)
		if id.Set() && id.CA == c.CA() {
			leaves = append(leaves, leaf{string(p) + ".identity", id.Certificate, id.Key, ca.Subject{SPIFFE: spiffe}})
		}
	}
	return leaves
}

// hosts are the names that the gateway's development certificate is for.
func (c *Config) hosts() []string {
	hosts := []string{"localhost", "127.0.0.1", "::1"}
	if u, err := url.Parse(c.Gateway.PublicURL); err == nil && u.Hostname() != "" && !slices.Contains(hosts, u.Hostname()) {
		hosts = append(hosts, u.Hostname())
	}
	if c.Gateway.MTLSHost != "" {
		hosts = append(hosts, c.Gateway.MTLSHost)
	}
	return hosts
}

func (c *Config) identity(p Part) (serve.Identity, string) {
	switch p {
	case Issuer:
		if c.Issuer == nil {
			return serve.Identity{}, ""
		}
		return c.Issuer.Identity, envoy.IssuerIdentity(c.TrustDomain)
	case Authz:
		return c.Authz.Identity, envoy.AuthzIdentity(c.TrustDomain)
	case RateLimit:
		if c.RateLimit == nil {
			return serve.Identity{}, ""
		}
		return c.RateLimit.Identity, envoy.RateLimitIdentity(c.TrustDomain)
	case ControlPlane:
		return c.ControlPlane.Identity, envoy.ControlPlaneIdentity(c.TrustDomain)
	case Envoy:
		return c.Envoy.Identity, envoy.EdgeIdentity(c.TrustDomain)
	default:
		return serve.Identity{}, ""
	}
}

func privateFolder(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fmt.Errorf("making data_dir: %w", err)
	}
	if err := os.Chmod(path, 0o700); err != nil {
		return fmt.Errorf("making data_dir private: %w", err)
	}
	return nil
}

// lock keeps parts that start at once from making the same thing twice.
func lock(path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking data_dir: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		file.Close()
		return nil, fmt.Errorf("locking data_dir: %w", err)
	}
	return func() { file.Close() }, nil
}

// keepSecret writes what make makes into a 0600 file, unless it is there.
func keepSecret(path string, make func() ([]byte, error)) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	content, err := make()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("making the folder of %s: %w", path, err)
	}
	return whole.WriteFile(path, content, 0o600)
}
