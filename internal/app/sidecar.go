package app

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/internal/serve"
)

// Sidecar is how an Envoy is run beside a service, without a configuration
// file: what it does comes from the control plane.
type Sidecar struct {
	// Service is its name in gateway.services.
	Service string
	// TrustDomain is that of the site.
	TrustDomain string
	// Identity is where the certificate comes from.
	Identity serve.Identity
	// State is the folder of sockets and, where the workload CA issues it, of the
	// certificate and key.
	State string
	// XDS is the control plane, HOST:PORT.
	XDS string
	// Node is the node's id; empty: the service and this machine's name.
	Node string
	// Telemetry is the loopback address of /assertion-keys, /metrics, /livez and
	// /readyz.
	Telemetry string
	// Keys is where the service asks for /assertion-keys, whichever of its
	// sidecars is running: unix:PATH; empty: none.
	Keys string
	// Admin is that of Envoy's own administration; empty: a socket in State.
	Admin string
	// Path is the Envoy binary; empty: as `envoy.path`.
	Path string
	// Concurrency is the number of worker threads.
	Concurrency uint32
}

// RunSidecar runs it until ctx ends and Envoy has drained.
func RunSidecar(ctx context.Context, sidecar Sidecar, o Options) error {
	logger, err := newLogger(o)
	if err != nil {
		return err
	}
	if err := sidecar.complete(); err != nil {
		return err
	}
	config := sidecar.envoy()
	if err := sidecar.validate(config).Err(); err != nil {
		return err
	}
	s := &site{config: &Config{TrustDomain: sidecar.TrustDomain}, parts: []Part{Envoy}, options: o, logger: logger}
	source, err := s.open(sidecar.Identity, envoy.ServiceIdentity(sidecar.TrustDomain, sidecar.Service), Envoy)
	if err != nil {
		return err
	}
	st, err := s.newStation("the sidecar of "+sidecar.Service, config, source, sidecar.Telemetry, sidecar.Keys)
	if err != nil {
		return err
	}
	s.add(st, sidecar.XDS)
	s.front = append(s.front, process{"start", func(ctx context.Context) error {
		if s.await(ctx, st.missing) {
			logger.Info("ready", "service", sidecar.Service, "telemetry", sidecar.Telemetry)
		}
		return nil
	}})
	return s.run(ctx)
}

// complete fills in defaults that this machine gives.
func (c *Sidecar) complete() error {
	state, err := filepath.Abs(c.State)
	if err != nil {
		return fmt.Errorf("--state: %w", err)
	}
	c.State = state
	c.Identity.State = conf.Path(state)
	if err := privateFolder(state); err != nil {
		return fmt.Errorf("--state: %w", err)
	}
	if c.Node == "" {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("finding this machine's name: %w (name the node with --node)", err)
		}
		c.Node = c.Service + "@" + host
	}
	conf.Default(&c.Admin, "unix:admin.sock")
	return nil
}

func (c *Sidecar) envoy() envoy.Config {
	config := envoy.Config{
		Path: conf.Path(c.Path), Node: c.Node, Group: envoy.ServiceGroup(c.Service), Admin: c.Admin, XDS: c.XDS,
		XDSIdentity: envoy.ControlPlaneIdentity(c.TrustDomain), Identity: c.Identity, Agent: "unix:agent.sock", Concurrency: c.Concurrency,
	}
	config.SetDefaults(c.State)
	return config
}

// validate reports what is wrong by the names of the flags.
func (c *Sidecar) validate(config envoy.Config) (vs conf.Violations) {
	if c.Service == "" || strings.Trim(c.Service, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" {
		vs.Add("--service", c.Service, "is no name of a service", "write its name in gateway.services")
	}
	if !isTrustDomain(c.TrustDomain) {
		vs.Add("--trust-domain", c.TrustDomain, "is no SPIFFE trust domain", "write the control plane's trust_domain")
	}
	if _, _, err := net.SplitHostPort(c.XDS); err != nil {
		vs.Add("--xds", c.XDS, "is no address", "write the control plane's controlplane.listen as this machine reaches it, HOST:PORT")
	}
	if !c.Identity.Set() {
		vs.Add("--enrol", nil, "is missing", "write the control plane's enrolment_listen as this machine reaches it, HOST:PORT, or name --certificate, --key and --ca, or --spire")
		return vs
	}
	vs = append(vs, serve.ValidateLoopback("--telemetry", c.Telemetry)...)
	if _, ok := serve.UnixPath(c.Keys); c.Keys != "" && !ok {
		vs.Add("--assertion-keys", c.Keys, "is no Unix socket", "write unix:PATH, in a folder that this user alone can write to: others could listen on a port while no sidecar does")
	} else if c.Keys != "" {
		vs = append(vs, serve.ValidateEndpoint("--assertion-keys", c.Keys)...)
	}
	vs.AddUnder("envoy", config.Validate())
	return vs
}
