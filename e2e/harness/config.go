package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// Config is a gatehouse.yaml as a tree, so that a test can say anything in it,
// wrong things included.
type Config map[string]any

// Route is one of gateway.routes.
type Route map[string]any

// APIs of the test's issuer.
const (
	OrdersAPI  = "https://orders.example"
	ProfileAPI = "https://profile.example"
)

// Set writes a value under a dotted key, such as "issuer.keys.publish_lead",
// making the maps on the way; nil removes the key.
func (c Config) Set(key string, value any) Config {
	path := strings.Split(key, ".")
	at := map[string]any(c)
	for _, name := range path[:len(path)-1] {
		next, ok := at[name].(map[string]any)
		if !ok {
			next = map[string]any{}
			at[name] = next
		}
		at = next
	}
	if last := path[len(path)-1]; value == nil {
		delete(at, last)
	} else {
		at[last] = value
	}
	return c
}

// Get is the value under a dotted key, nil for none.
func (c Config) Get(key string) any {
	var at any = map[string]any(c)
	for _, name := range strings.Split(key, ".") {
		inner, ok := at.(map[string]any)
		if !ok {
			return nil
		}
		at = inner[name]
	}
	return at
}

// Text is the value under a dotted key as text.
func (c Config) Text(key string) string {
	text, _ := c.Get(key).(string)
	return text
}

// Routes are gateway.routes.
func (c Config) Routes() []Route {
	routes, _ := c.Get("gateway.routes").([]Route)
	return routes
}

// Route is the route with an id; changing it changes the configuration.
func (c Config) Route(id string) Route {
	for _, r := range c.Routes() {
		if r["id"] == id {
			return r
		}
	}
	panic("there is no route " + id)
}

// AddRoute puts routes in front of the others.
func (c Config) AddRoute(routes ...Route) Config {
	return c.Set("gateway.routes", append(routes, c.Routes()...))
}

// RemoveRoute takes a route away.
func (c Config) RemoveRoute(id string) Config {
	return c.Set("gateway.routes", slices.DeleteFunc(slices.Clone(c.Routes()), func(r Route) bool { return r["id"] == id }))
}

// YAML is the file.
func (c Config) YAML() []byte {
	text, err := yaml.Marshal(map[string]any(c))
	if err != nil {
		panic(fmt.Sprintf("encoding a configuration: %v", err))
	}
	return text
}

// clone is a copy that shares nothing.
func (c Config) clone() Config { return copyTree(map[string]any(c)).(map[string]any) }

func copyTree(node any) any {
	switch n := node.(type) {
	case map[string]any:
		m := map[string]any{}
		for k, v := range n {
			m[k] = copyTree(v)
		}
		return m
	case Config:
		return Config(copyTree(map[string]any(n)).(map[string]any))
	case []Route:
		list := make([]Route, len(n))
		for i, r := range n {
			list[i] = copyTree(map[string]any(r)).(map[string]any)
		}
		return list
	default:
		return node
	}
}

// defaultConfig is a site with two APIs and a route of every kind.
func (s *System) defaultConfig(t testing.TB) Config {
	gateway := FreePort(t)
	url := fmt.Sprintf("https://localhost:%d", gateway)
	return Config{
		"version": 1,
		"gateway": map[string]any{
			"listen":          fmt.Sprintf("127.0.0.1:%d", gateway),
			"redirect_listen": FreeAddress(t),
			"public_url":      url,
			"services": map[string]any{
				"orders":  map[string]any{"url": s.Orders.URL},
				"profile": map[string]any{"url": s.Profile.URL},
				"grpc":    map[string]any{"url": s.GRPC.URL},
			},
			"routes": defaultRoutes(),
		},
		"issuer": map[string]any{
			"url":       url,
			"listen":    FreeAddress(t),
			"telemetry": FreeAddress(t),
			"apis": []any{
				map[string]any{"audience": OrdersAPI, "scopes": []string{"read:orders", "write:orders"}},
				map[string]any{"audience": ProfileAPI, "scopes": []string{"read:profile"}},
			},
			"roles": map[string]any{
				"customer": []string{"read:orders", "write:orders", "read:profile"},
				"approver": []string{"read:orders", "write:orders", "read:profile"},
			},
		},
		"authz":        map[string]any{"telemetry": FreeAddress(t)},
		"controlplane": map[string]any{"telemetry": FreeAddress(t)},
		"envoy":        map[string]any{"path": EnvoyPath(t), "admin": FreeAddress(t)},
	}
}

func defaultRoutes() []Route {
	guarded := func(id, path, method, service, audience, scope string) Route {
		return Route{"id": id, "path": path, "methods": []string{method}, "service": service, "audience": audience, "scopes": []string{scope}}
	}
	remove := guarded("orders-delete", "/orders/{id}", "DELETE", "orders", OrdersAPI, "write:orders")
	remove["policy"] = "orders.approve"
	forwarding := guarded("forwarding", "/forwarding", "GET", "profile", ProfileAPI, "read:profile")
	forwarding["forward_credentials"] = true
	return []Route{
		guarded("orders-list", "/orders", "GET", "orders", OrdersAPI, "read:orders"),
		guarded("orders-create", "/orders", "POST", "orders", OrdersAPI, "write:orders"),
		guarded("orders-read", "/orders/{id}", "GET", "orders", OrdersAPI, "read:orders"),
		remove,
		guarded("health-check", "/grpc.health.v1.Health/Check", "POST", "grpc", OrdersAPI, "read:orders"),
		guarded("health-list", "/grpc.health.v1.Health/List", "POST", "grpc", OrdersAPI, "write:orders"),
		guarded("profile", "/profile", "GET", "profile", ProfileAPI, "read:profile"),
		forwarding,
		{"id": "open", "path": "/open/**", "service": "profile", "public": true},
		{"id": "open-h2", "path": "/h2/**", "service": "grpc", "public": true},
	}
}

// approvePolicy is the team policy of the route orders-delete.
const approvePolicy = `package orders.approve

allow if {
	input.token.subject_type == "user"
	"approver" in input.token.roles
}
`

// WritePolicy writes a file of the policies folder.
func (s *System) WritePolicy(t testing.TB, name, text string) {
	t.Helper()
	writeFile(t, filepath.Join(s.Dir, "policies", name), []byte(text))
}

// WriteConfig writes gatehouse.yaml as it is given, whatever that is.
func (s *System) WriteConfig(t testing.TB, text []byte) {
	t.Helper()
	writeFile(t, s.ConfigPath(""), text)
}

// writeFile replaces a file in one step, as editors do.
func writeFile(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	partial := path + ".partial"
	if err := os.WriteFile(partial, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(partial, path); err != nil {
		t.Fatal(err)
	}
}

// OwnIssuer is how authz.issuers names the site's own issuer, for a test that
// lists others beside it.
func (s *System) OwnIssuer(c Config) map[string]any {
	return map[string]any{
		"issuer": c.Text("issuer.url"), "jwks_url": "http://" + c.Text("issuer.listen") + "/oauth/keys",
		"allow_internal": true, "feed": "unix:run/feed.sock",
	}
}
