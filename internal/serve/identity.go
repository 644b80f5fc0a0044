package serve

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"

	"gatehouse.dev/gatehouse/internal/conf"
)

// Source is where a part's own certificate comes from, and the authorities
// that its peers are verified against. It is asked at each handshake, so that
// what was renewed or replaced counts at once.
type Source interface {
	// KeyPair is the part's certificate chain with its key.
	KeyPair() (*tls.Certificate, error)
	// Roots are the authorities of the trust domain.
	Roots() (*x509.CertPool, error)
}

// Identity is where a part has its certificate for mutual TLS with other parts
// from: files that somebody else keeps (`certificate`, `key`, `ca`), the
// workload CA (`enrol`), or SPIRE's agent (`spire`). Empty: the part speaks over
// Unix sockets only. An Identity of files is a Source that reads them.
type Identity struct {
	// The PEM certificate chain whose URI SAN is the part's SPIFFE id; read again
	// when it changes.
	Certificate conf.Path `yaml:"certificate"`
	// The PEM private key of the certificate; keep it 0600.
	Key conf.Path `yaml:"key"`
	// The PEM certificates of the authorities that peers are verified against.
	CA conf.Path `yaml:"ca"`
	// HOST:PORT of the workload CA (`controlplane.enrolment_listen`), which
	// issues the certificate and renews it.
	Enrol string `yaml:"enrol"`
	// The file of the join token that this part enrols with, once: `gatehouse
	// workload token` makes it. Danger: until it is used, who reads it can be this
	// part. Default: none, which does where `state` has a certificate already.
	JoinToken conf.Path `yaml:"join_token"`
	// The folder, 0700, that keeps what the workload CA issued over restarts.
	// Default: identity/PART in data_dir.
	State conf.Path `yaml:"state"`
	// The Unix socket of SPIRE's Workload API, unix:PATH, in place of the workload
	// CA.
	SPIRE string `yaml:"spire"`
}

// Set tells whether the identity is configured; a folder alone is none.
func (id Identity) Set() bool {
	id.State = ""
	return id != Identity{}
}

// Files tells whether the certificate is in files.
func (id Identity) Files() bool { return id.Certificate != "" || id.Key != "" || id.CA != "" }

// Validate reports keys that are missing beside others that are there, and two
// places at once.
func (id Identity) Validate() (vs conf.Violations) {
	if !id.Set() {
		return nil
	}
	if id.SPIRE != "" {
		if _, unix := UnixPath(id.SPIRE); !unix {
			vs.Add("spire", id.SPIRE, "is no Unix socket", "write unix:PATH, as of SPIRE's agent")
		}
	}
	if _, _, err := net.SplitHostPort(id.Enrol); err != nil && id.Enrol != "" {
		vs.Add("enrol", id.Enrol, "is no address", "write HOST:PORT")
	}
	places := 0
	for _, there := range []bool{id.Files(), id.Enrol != "" || id.JoinToken != "", id.SPIRE != ""} {
		if there {
			places++
		}
	}
	if places > 1 {
		vs.Add("", nil, "has its certificate from two places", "keep one of: certificate, key and ca; enrol; spire")
	}
	if id.JoinToken != "" && id.Enrol == "" {
		vs.Add("enrol", nil, "is missing", "say where the join token is good, HOST:PORT")
	}
	return append(vs, id.validateFiles()...)
}

func (id Identity) validateFiles() (vs conf.Violations) {
	if !id.Files() {
		return nil
	}
	for key, value := range map[string]conf.Path{"certificate": id.Certificate, "key": id.Key, "ca": id.CA} {
		if value == "" {
			vs.Add(key, nil, "is missing", "an identity needs certificate, key and ca")
		}
	}
	return vs
}

// KeyPair implements Source.
func (id Identity) KeyPair() (*tls.Certificate, error) {
	if !id.Files() {
		return nil, ErrNoIdentity
	}
	pair, err := tls.LoadX509KeyPair(string(id.Certificate), string(id.Key))
	if err != nil {
		return nil, fmt.Errorf("loading identity.certificate %q: %w", id.Certificate, err)
	}
	return &pair, nil
}

// Roots implements Source.
func (id Identity) Roots() (*x509.CertPool, error) {
	if !id.Files() {
		return nil, ErrNoIdentity
	}
	pem, err := os.ReadFile(string(id.CA))
	if err != nil {
		return nil, fmt.Errorf("loading identity.ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("loading identity.ca %q: it holds no PEM certificate", id.CA)
	}
	return pool, nil
}
