package harness

import (
	"sync"
	"testing"

	"gatehouse.dev/gatehouse/envoy"
)

// Services of a Mesh; orders may call profile, and nobody else anybody.
const (
	OrdersService  = "orders"
	ProfileService = "profile"
)

// Mesh is a system with two services behind sidecars. All of it is over mutual
// TLS: authorizers, edge and sidecars have enrolled with the workload CA.
type Mesh struct {
	*System
	Members  map[string]Member
	Sidecars map[string]*Sidecar
}

// StartMesh starts everything. Configure changes the configuration first.
func StartMesh(t testing.TB, o Options) *Mesh {
	t.Helper()
	m := PrepareMesh(t, o)
	m.StartParts(t)
	for _, name := range []string{OrdersService, ProfileService} {
		m.Members[name].Start(t, m.Folder)
		m.Sidecars[name].Enrol(t)
	}
	t.Cleanup(func() { m.stopSidecars(t) })
	return m
}

// stopSidecars ends them together: each waits for connections that the others
// keep.
func (m *Mesh) stopSidecars(t testing.TB) {
	var all sync.WaitGroup
	for _, c := range m.Sidecars {
		if c.Process != nil {
			all.Go(func() { c.Process.Stop(t) })
		}
	}
	all.Wait()
}

// PrepareMesh does all that StartMesh does but starting processes.
func PrepareMesh(t testing.TB, o Options) *Mesh {
	t.Helper()
	m := &Mesh{Members: map[string]Member{}, Sidecars: map[string]*Sidecar{}}
	o.Authorizers = max(o.Authorizers, 2)
	configure := o.Configure
	o.Configure = func(s *System, c Config) {
		for _, name := range []string{OrdersService, ProfileService} {
			sidecar := s.NewSidecar(t, name, "sidecar-"+name)
			m.Sidecars[name] = sidecar
			m.Members[name] = Member{
				Name: name, Listen: FreeAddress(t), Control: FreeAddress(t), Outbound: FreeAddress(t),
				KeysURL: sidecar.Keys(),
			}
		}
		m.configure(t, s, c, o.Authorizers)
		if configure != nil {
			configure(s, c)
		}
	}
	m.System = Prepare(t, o)
	return m
}

func (m *Mesh) configure(t testing.TB, s *System, c Config, authorizers int) {
	var addresses []string
	for range authorizers {
		addresses = append(addresses, FreeAddress(t))
	}
	enrol, xds := FreeAddress(t), FreeAddress(t)
	c.Set("controlplane.listen", xds).Set("controlplane.authz", addresses).Set("controlplane.enrolment_listen", enrol)
	c.Set("authz.listen", addresses[0]).Set("authz.trust", xds)
	c.Set("envoy.telemetry", FreeAddress(t))
	for _, part := range []string{Authz, Envoy} {
		c.Set(part+".identity", map[string]any{"enrol": enrol, "join_token": s.TokenPath(part)})
	}
	c.Set("gateway.services", map[string]any{
		OrdersService: map[string]any{
			"url":     "http://" + m.Members[OrdersService].Listen,
			"sidecar": map[string]any{"address": FreeAddress(t), "outbound": m.Members[OrdersService].Outbound},
			"routes": []Route{
				{"id": "write", "path": "/orders", "methods": []string{"POST"}, "scopes": []string{"write:orders"}},
				// The service itself must see to this one.
				{"id": "loose", "path": "/orders/loose", "methods": []string{"POST"}},
				{"id": "read", "path": "/orders/**", "methods": []string{"GET"}, "scopes": []string{"read:orders"}},
			},
		},
		ProfileService: map[string]any{
			"url":        "h2c://" + m.Members[ProfileService].Listen,
			"sidecar":    map[string]any{"address": FreeAddress(t), "outbound": m.Members[ProfileService].Outbound},
			"allow_from": []string{OrdersService},
		},
	})
	guarded := func(id, path, method, service, audience string, scopes ...string) Route {
		return Route{"id": id, "path": path, "methods": []string{method}, "service": service, "audience": audience, "scopes": scopes}
	}
	c.Set("gateway.routes", []Route{
		guarded("orders-create", "/orders", "POST", OrdersService, OrdersAPI, "write:orders"),
		guarded("orders-loose", "/orders/loose", "POST", OrdersService, OrdersAPI, "write:orders"),
		guarded("orders", "/orders/**", "GET", OrdersService, OrdersAPI, "read:orders"),
		guarded("profile", "/profile/**", "GET", ProfileService, ProfileAPI, "read:profile"),
	})
}

// StartParts starts all but services and sidecars, and lets those enrol that
// have to.
func (m *Mesh) StartParts(t testing.TB) {
	t.Helper()
	for _, name := range m.Parts() {
		id := map[string]string{Envoy: envoy.EdgeIdentity("gatehouse.local")}[name]
		if name != Envoy && name != Issuer && name != ControlPlane {
			id = envoy.AuthzIdentity("gatehouse.local")
		}
		if id != "" {
			m.CLI(t, "workload", "token", "--id", id, "--out", m.TokenPath(name))
		}
		m.StartPart(t, name)
	}
}

// Address is where others reach a service's sidecar.
func (m *Mesh) Address(service string) string {
	return m.written().Text("gateway.services." + service + ".sidecar.address")
}
