package controlplane

import (
	"net"
	"slices"

	"gatehouse.dev/gatehouse/internal/conf"
)

// Listening is an address that an Envoy of the gateway listens on, and its key,
// relative to Gateway.
type Listening struct{ Key, Address string }

// SidecarListeners are those of the sidecars that are on the edge's machine, as
// an address on loopback tells.
func (g *Gateway) SidecarListeners() (all []Listening) {
	for _, l := range g.listening() {
		if l.machine == "" && l.service != "" {
			all = append(all, l.Listening)
		}
	}
	return all
}

// LocalSidecars are the services whose sidecars are on the edge's machine, in
// their order.
func (g *Gateway) LocalSidecars() (names []string) {
	for _, l := range g.listening() {
		if l.machine == "" && l.service != "" && !slices.Contains(names, l.service) {
			names = append(names, l.service)
		}
	}
	return names
}

// listening is an address that is listened on, and on which machine: that of
// the edge is "".
type listening struct {
	Listening
	machine, service string
}

func (g *Gateway) listening() []listening {
	all := []listening{{Listening: Listening{"listen", g.Listen}}, {Listening: Listening{"redirect_listen", g.RedirectListen}}}
	for _, name := range sortedKeys(g.Services) {
		s := g.Services[name].Sidecar
		if s == nil {
			continue
		}
		machine := "of " + name
		if at, err := splitHostPort(s.Address); err == nil {
			if machine = at.host; local(at.host) {
				machine = ""
			}
		}
		key := "services." + name + ".sidecar."
		all = append(all,
			listening{Listening{key + "listen", s.Listen}, machine, name},
			listening{Listening{key + "outbound", s.Outbound}, machine, name})
	}
	return all
}

// validatePorts reports sidecars that are reached at one address, and listeners
// that could not be on one machine. Machines are told apart by the hosts of the
// sidecars' addresses.
func (g *Gateway) validatePorts() (vs conf.Violations) {
	names, addresses := sortedKeys(g.Services), map[string]string{}
	for _, name := range names {
		if s := g.Services[name]; s.inbound() {
			if other, taken := addresses[s.Sidecar.Address]; taken {
				vs.Add(name+".sidecar.address", s.Sidecar.Address, "is also that of "+other, "give each service's sidecar an address of its own")
				return vs
			}
			addresses[s.Sidecar.Address] = name
		}
	}
	all := g.listening()
	for i, l := range all {
		for _, earlier := range all[:i] {
			if l.service != "" && l.machine == earlier.machine && collide(l.Address, earlier.Address) {
				key := l.Key[len("services."):]
				vs.Add(key, l.Address, "is also "+earlier.Key+" on the same machine", "give each an address of its own")
				break
			}
		}
	}
	return vs
}

func collide(a, b string) bool {
	x, err := splitHostPort(a)
	y, err2 := splitHostPort(b)
	return err == nil && err2 == nil && x.port == y.port && (x.host == y.host || unspecified(x.host) || unspecified(y.host))
}

func unspecified(host string) bool {
	ip := net.ParseIP(host)
	return ip != nil && ip.IsUnspecified()
}

// local tells whether a host is reached from its own machine alone, or is all
// of the machine's addresses.
func local(host string) bool { return backend{host: host}.loopback() || unspecified(host) }
