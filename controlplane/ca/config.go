package ca

import (
	"path/filepath"
	"time"

	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/internal/serve"
)

// Config is the workload CA's configuration, `controlplane.ca` in
// gatehouse.yaml. Its root and intermediate are in the folder `ca` in data_dir.
type Config struct {
	// How long workloads' certificates (X.509-SVIDs) live, 10s to 24h; they are
	// renewed at half of it. Danger: whoever steals one with its key is that
	// workload for so long. Default: 1h.
	Life time.Duration `yaml:"svid_life"`
	// How long an intermediate lives, at least twice `svid_life`; the next one is
	// made at half of it where the root's key is in the folder. Default: 720h.
	IntermediateLife time.Duration `yaml:"intermediate_life"`
	// An external signer in place of the intermediate: a program and its
	// arguments. It gets a PKCS #10 request (PEM) on standard input, and
	// GATEHOUSE_SPIFFE_ID, GATEHOUSE_HOSTS and GATEHOUSE_NOT_AFTER (RFC 3339) in
	// its environment; it answers with the chain (PEM), the leaf first, within 15
	// seconds. The answer is verified against the roots, which `gatehouse ca
	// init --certificate` puts in place. Default: none.
	SignerCommand []string `yaml:"signer_command"`
	// The file of join tokens' hashes, issued certificates and revoked workloads
	// (mode 0600). Default: ca/workloads.db in data_dir.
	Database conf.Path `yaml:"database"`
	// The 0600 Unix socket that `gatehouse workload` administers this CA through.
	// Parts on this machine watch trust there, too. Default: unix:run/ca.sock in
	// data_dir.
	AdminSocket string `yaml:"admin_socket"`

	// Dir is the folder of root and intermediate.
	Dir string `yaml:"-"`
	// TrustDomain is whose ids it issues.
	TrustDomain string `yaml:"-"`
	// Enrolment is where workloads enrol: controlplane.enrolment_listen; empty:
	// nowhere.
	Enrolment string `yaml:"-"`
}

const (
	defaultLife             = time.Hour
	defaultIntermediateLife = 30 * 24 * time.Hour
	minLife, maxLife        = 10 * time.Second, 24 * time.Hour
)

// SetDefaults fills what is empty; files are in dataDir.
func (c *Config) SetDefaults(dataDir string) {
	conf.Default(&c.Life, defaultLife)
	conf.Default(&c.IntermediateLife, defaultIntermediateLife)
	conf.Default(&c.Dir, filepath.Join(dataDir, "ca"))
	conf.Default(&c.Database, conf.Path(filepath.Join(dataDir, "ca", "workloads.db")))
	conf.Default(&c.AdminSocket, "unix:run/ca.sock")
	c.AdminSocket = serve.Absolute(dataDir, c.AdminSocket)
}

// Validate reports everything that is wrong, with keys relative to Config.
func (c *Config) Validate() (vs conf.Violations) {
	if c.Life < minLife || c.Life > maxLife {
		vs.Add("svid_life", c.Life, "is not between 10s and 24h", "write 1h")
	}
	if c.IntermediateLife < 2*c.Life {
		vs.Add("intermediate_life", c.IntermediateLife, "is less than twice svid_life", "write 720h")
	}
	if err := validateCommand(c.SignerCommand); err != nil {
		vs.Add("signer_command", c.SignerCommand[0], "cannot be run", "name a program that is there and may be executed")
	}
	if c.Database == "" {
		vs.Add("database", nil, "is missing", "name the file of the workload CA")
	}
	if _, ok := serve.UnixPath(c.AdminSocket); !ok {
		vs.Add("admin_socket", c.AdminSocket, "is no Unix socket", "write unix:PATH: its mode says who may administer")
	} else {
		vs.AddUnder("", serve.ValidateAddress("admin_socket", c.AdminSocket, serve.Identity{}))
	}
	return vs
}
