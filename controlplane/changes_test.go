package controlplane

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestChangedKeys(t *testing.T) {
	for name, row := range map[string]struct {
		edit func(*Gateway)
		want []string
	}{
		"nothing":           {func(*Gateway) {}, nil},
		"a plain value":     {func(g *Gateway) { g.Listen = "127.0.0.1:1" }, []string{"gateway.listen"}},
		"a nested value":    {func(g *Gateway) { g.TLS.Key = "x" }, []string{"gateway.tls.key"}},
		"a value of none":   {func(g *Gateway) { age := time.Second; g.HSTSMaxAge = &age }, []string{"gateway.hsts_max_age"}},
		"a service's URL":   {func(g *Gateway) { g.Services["site"] = Service{URL: "http://127.0.0.1:1"} }, []string{"gateway.services.site.url"}},
		"a service more":    {func(g *Gateway) { g.Services["new"] = Service{} }, []string{"gateway.services.new"}},
		"a service less":    {func(g *Gateway) { delete(g.Services, "site") }, []string{"gateway.services.site"}},
		"a route's scopes":  {func(g *Gateway) { g.Routes[0].Scopes = nil }, []string{"gateway.routes[orders-list].scopes"}},
		"a route in front":  {func(g *Gateway) { g.Routes = slices.Insert(g.Routes, 0, Route{ID: "new"}) }, []string{"gateway.routes[new]"}},
		"a route less":      {func(g *Gateway) { g.Routes = g.Routes[1:] }, []string{"gateway.routes[orders-list]"}},
		"the routes' order": {func(g *Gateway) { slices.Reverse(g.Routes) }, []string{"gateway.routes (their order)"}},
	} {
		text := string(readFile(t, "testdata/routes.in.yaml"))
		a, b := readGateway(t, text), readGateway(t, text)
		row.edit(&b)
		if diff := cmp.Diff(row.want, changedKeys(&Snapshot{in: &Inputs{Gateway: a}}, &Snapshot{in: &Inputs{Gateway: b}})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	// A new certificate in the same files.
	in := testInputs(t, readGateway(t, "listen: 127.0.0.1:1"))
	before := build(t, in)
	in.Certificate, in.Key = pair(t)
	if got := changedKeys(before, build(t, in)); !slices.Equal(got, []string{"gateway.tls (the files)"}) {
		t.Errorf("a new certificate: %v", got)
	}
}

func pair(t *testing.T) (certificate, key []byte) {
	id := newIdentities(t).of(t, "other", "spiffe://x/y")
	return readFile(t, string(id.Certificate)), readFile(t, string(id.Key))
}
