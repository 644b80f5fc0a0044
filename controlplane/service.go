package controlplane

import (
	"net"
	"slices"
	"time"

	"gatehouse.dev/gatehouse/internal/conf"
)

// Service is a back end that routes lead to.
type Service struct {
	// http://HOST:PORT, https://HOST[:PORT], or h2c://HOST:PORT for HTTP/2
	// without TLS, as plain gRPC servers speak it. https verifies the
	// certificate against HOST. It is where the service itself listens: as its
	// sidecar sees it, else as the edge does. Default: none, required.
	URL string `yaml:"url"`
	// The PEM authorities that an https certificate is verified against.
	// Default: those of the system that Envoy runs on
	// (/etc/ssl/certs/ca-certificates.crt).
	CA conf.Path `yaml:"ca"`
	// Whether http and h2c may leave this machine; not for a service with a
	// sidecar, which stands beside it. Danger: claims and data cross the network
	// readable, and the service cannot tell the gateway from anybody else on it.
	// Default: false.
	AllowPlaintext bool `yaml:"allow_plaintext"`
	// The Envoy beside the service: others reach the service through it alone,
	// over mutual TLS, and it demands a signed assertion for this service.
	// Default: none; the edge calls url itself, and the service may verify the
	// assertion that it gets in gatehouse-assertion with the keys at
	// /assertion-keys of an authorizer's telemetry.
	Sidecar *Sidecar `yaml:"sidecar"`
	// The services that may call this one, by their names, each known by its
	// exact SPIFFE id. The edge may where a route leads here. Default: none.
	AllowFrom []string `yaml:"allow_from"`
	// What the service's own sidecar lets through, beside whatever the edge
	// demanded; the first whose path and method match wins, and without one the
	// answer is 404. Danger: without any, every assertion for this service is
	// good for all of it. Default: every request with an assertion, and what the
	// edge's public routes let through.
	Routes []ServiceRoute `yaml:"routes"`
}

// Sidecar is the Envoy beside a service.
type Sidecar struct {
	// HOST:PORT at which the edge and other sidecars reach it. Default: none;
	// then nobody calls the service, which only calls others.
	Address string `yaml:"address"`
	// IP:PORT that it listens on for them. Default: address; where that has a
	// name for its host, all of the machine's addresses at its port.
	Listen string `yaml:"listen"`
	// The loopback address, IP:PORT, at which the service calls other services:
	// plain HTTP or gRPC without TLS, with the other's name as the host and the
	// assertion that it got itself in gatehouse-assertion. Danger: every process
	// of the machine that holds such an assertion can call for the service.
	// Default: none; then it calls nobody.
	Outbound string `yaml:"outbound"`
	// How long the service may take to answer through it, up to 1h. Default: the
	// longest timeout of the gateway's routes that lead here, at least 15s.
	Timeout time.Duration `yaml:"timeout"`
}

// ServiceRoute is what a service's own sidecar lets through, from callers that
// allow_from and the gateway's routes admit. The assertion is always one for
// this service.
type ServiceRoute struct {
	// The route's name in decisions and logs, unique within the service: letters,
	// digits, `-`, `_` and `.`. Default: none, required.
	ID string `yaml:"id"`
	// As in gateway.routes: exact, {name} for one segment, a final /** for
	// everything below. Default: none, required.
	Path string `yaml:"path"`
	// The methods, in capitals. Default: all.
	Methods []string `yaml:"methods"`
	// The scopes, all of which the assertion must carry. Default: none.
	Scopes []string `yaml:"scopes"`
	// A Rego package that must allow the request as well as the scopes. Default:
	// none.
	Policy string `yaml:"policy"`
	// Whether revocations must be known to the last 30s. Default: false.
	Sensitive bool `yaml:"sensitive"`
	// How old the knowledge of revocations may be, up to 720h. Default: 30s
	// where sensitive, else gateway.revocation_max_age.
	RevocationMaxAge *time.Duration `yaml:"revocation_max_age"`
	// Whether the caller's Authorization and DPoP proof reach the service.
	// Danger: the service can then act as the client elsewhere. Default: false.
	ForwardCredentials bool `yaml:"forward_credentials"`
	// Whether no assertion is demanded, as for a health check; the caller must
	// still be one that may call. Danger: the service is told nothing of who is
	// behind the request. Default: false.
	Public bool `yaml:"public"`
}

// setDefaults fills what follows from the address.
func (s *Sidecar) setDefaults() {
	if s == nil || s.Address == "" || s.Listen != "" {
		return
	}
	s.Listen = s.Address
	host, port, err := net.SplitHostPort(s.Address)
	switch {
	case err != nil || net.ParseIP(host) != nil:
	case host == "localhost":
		s.Listen = net.JoinHostPort("127.0.0.1", port)
	default:
		s.Listen = net.JoinHostPort("0.0.0.0", port)
	}
}

// routes are the service's own, in the form of the gateway's.
func (s Service) routes(name string) []Route {
	routes := make([]Route, len(s.Routes))
	for i, r := range s.Routes {
		routes[i] = Route{
			ID: r.ID, Path: r.Path, Methods: r.Methods, Service: name, Scopes: r.Scopes, Policy: r.Policy, Sensitive: r.Sensitive,
			RevocationMaxAge: r.RevocationMaxAge, ForwardCredentials: r.ForwardCredentials, Public: r.Public,
		}
	}
	return routes
}

// inbound tells whether others reach the service through a sidecar.
func (s Service) inbound() bool { return s.Sidecar != nil && s.Sidecar.Address != "" }

// outbound tells whether the service can call others.
func (s Service) outbound() bool { return s.Sidecar != nil && s.Sidecar.Outbound != "" }

// HasSidecars tells whether any service has a sidecar.
func (g *Gateway) HasSidecars() bool {
	for _, s := range g.Services {
		if s.Sidecar != nil {
			return true
		}
	}
	return false
}

// routesTo are the gateway's routes that lead to a service, in their order.
func (g *Gateway) routesTo(service string) (routes []Route) {
	for _, r := range g.Routes {
		if r.Service == service {
			routes = append(routes, r)
		}
	}
	return routes
}

// callable are the services that a service may call.
func (g *Gateway) callable(caller string) (names []string) {
	for _, name := range sortedKeys(g.Services) {
		if slices.Contains(g.Services[name].AllowFrom, caller) {
			names = append(names, name)
		}
	}
	return names
}

// timeoutOf is how long a service with a sidecar may take to answer.
func (g *Gateway) timeoutOf(service string) time.Duration {
	if own := g.Services[service].Sidecar.Timeout; own > 0 {
		return own
	}
	longest := defaultTimeout
	for _, r := range g.routesTo(service) {
		longest = max(longest, r.Timeout, r.Stream)
	}
	return longest
}
