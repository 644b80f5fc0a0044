package envoy

import (
	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/internal/serve"
)

// Config is how an Envoy of the edge is started, `envoy:` in gatehouse.yaml.
// What it does then comes from the control plane.
type Config struct {
	// The Envoy binary. Default: $ENVOY, else `envoy` on the PATH where its
	// version is supported, else .tools/envoy, which `make tools` fetches.
	Path conf.Path `yaml:"path"`
	// The node's id, unique among the Envoys of a control plane. Default:
	// edge-1.
	Node string `yaml:"node"`
	// The loopback address of Envoy's own administration, or a Unix socket,
	// unix:PATH. Danger: who reaches it can read the configuration and stop the
	// Envoy. Default: 127.0.0.1:9901.
	Admin string `yaml:"admin"`
	// The control plane: unix:PATH, or HOST:PORT with `identity`. Default: its
	// `listen` in this file.
	XDS string `yaml:"xds"`
	// The SPIFFE id that the control plane must have over mutual TLS; unused on
	// a Unix socket. Default: spiffe://TRUST_DOMAIN/controlplane.
	XDSIdentity string `yaml:"xds_identity"`
	// This Envoy's certificate for mutual TLS with the control plane, the
	// authorizers and other Envoys. It reaches Envoy over the agent's socket.
	// Default: none, Unix sockets only; one of the CA in data_dir where
	// gateway.services has sidecars.
	Identity serve.Identity `yaml:"identity"`
	// The 0600 Unix socket on which this process hands Envoy its certificate,
	// key and trust bundle. Danger: who reaches it has the key. Default:
	// unix:run/agent-NODE.sock in data_dir.
	Agent string `yaml:"agent"`
	// The loopback address of this process's /assertion-keys (the public keys of
	// assertions, as a JWK Set), /metrics, /livez and /readyz. Default: none.
	Telemetry string `yaml:"telemetry"`
	// The node group, Envoy's `cluster`; empty: the edge's.
	Group string `yaml:"-"`
	// Worker threads. Default: 2.
	Concurrency uint32 `yaml:"concurrency"`
}

// SetDefaults fills what is empty. Relative socket paths are in dataDir.
func (c *Config) SetDefaults(dataDir string) {
	conf.Default(&c.Group, EdgeGroup)
	conf.Default(&c.Node, EdgeGroup+"-1")
	conf.Default(&c.Agent, "unix:run/agent-"+c.Node+".sock")
	c.Agent = serve.Absolute(dataDir, c.Agent)
	c.Admin = serve.Absolute(dataDir, c.Admin)
	conf.Default(&c.Admin, "127.0.0.1:9901")
	conf.Default(&c.XDS, "unix:run/xds.sock")
	c.XDS = serve.Absolute(dataDir, c.XDS)
	conf.Default(&c.XDSIdentity, ControlPlaneIdentity("gatehouse.local"))
	conf.Default(&c.Concurrency, 2)
}

// Validate reports all that is wrong.
func (c *Config) Validate() (vs conf.Violations) {
	vs.AddUnder("identity", c.Identity.Validate())
	if _, unix := serve.UnixPath(c.Admin); unix {
		vs = append(vs, serve.ValidateAddress("admin", c.Admin, c.Identity)...)
	} else {
		vs = append(vs, serve.ValidateLoopback("admin", c.Admin)...)
	}
	vs = append(vs, serve.ValidateAddress("xds", c.XDS, c.Identity)...)
	if _, unix := serve.UnixPath(c.Agent); !unix && c.Agent != "" {
		vs.Add("agent", c.Agent, "is no Unix socket", "write unix:PATH: the key must not pass over a network")
	} else if unix {
		vs = append(vs, serve.ValidateAddress("agent", c.Agent, c.Identity)...)
	}
	if c.Telemetry != "" {
		vs = append(vs, serve.ValidateLoopback("telemetry", c.Telemetry)...)
	}
	if c.Concurrency > 256 {
		vs.Add("concurrency", c.Concurrency, "is more than 256 worker threads", "use one for each core")
	}
	return vs
}
