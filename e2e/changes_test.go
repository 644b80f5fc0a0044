package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/e2e/harness"
)

// Whatever is changed in the gateway's part, while requests come on routes that
// stay: none is lost, and Envoy's process is the same.
func TestChangesUnderLoad(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	_, access := s.Robot(t, "robot", "read:orders")
	s.AwaitApplied(t)
	other := harness.StartService(t, "other")
	running := s.Load(t, access, "/orders", "/open").Start(t)
	running.AwaitMore(t, 200)
	service := func(c harness.Config) map[string]any { return c.Get("gateway.services").(map[string]any) }
	for _, step := range []struct {
		name   string
		change func(harness.Config)
		then   func() error
	}{
		{"a new service and its route at once", func(c harness.Config) {
			service(c)["other"] = map[string]any{"url": other.URL}
			c.AddRoute(harness.Route{"id": "other", "path": "/other", "service": "other", "public": true})
		}, s.Says(200, "GET", "/other", "")},
		{"the loaded route moves to another service", func(c harness.Config) {
			c.Route("orders-list")["service"] = "other"
		}, func() error { return arrives(s, other, access) }},
		{"and back", func(c harness.Config) { c.Route("orders-list")["service"] = "orders" }, func() error { return arrives(s, s.Orders, access) }},
		{"the loaded service is renamed", func(c harness.Config) {
			service(c)["renamed"] = service(c)["orders"]
			delete(service(c), "orders")
			for _, r := range c.Routes() {
				if r["service"] == "orders" {
					r["service"] = "renamed"
				}
			}
		}, func() error { return arrives(s, s.Orders, access) }},
		{"a route and its service go away", func(c harness.Config) {
			c.RemoveRoute("other")
			delete(service(c), "other")
		}, s.Says(404, "GET", "/other", "")},
		{"the order of routes", func(c harness.Config) {
			routes := c.Routes()
			c.Set("gateway.routes", append(append([]harness.Route{}, routes[1:]...), routes[0]))
		}, s.Says(200, "GET", "/orders", access)},
		{"a header of every answer", func(c harness.Config) { c.Set("gateway.hsts_max_age", "1h") }, func() error {
			answer, err := s.TryCall("GET", "/open", "")
			if err == nil && answer.Header.Get("Strict-Transport-Security") != "max-age=3600" {
				err = fmt.Errorf("HSTS is %q", answer.Header.Get("Strict-Transport-Security"))
			}
			return err
		}},
		{"a new port for plain HTTP", func(c harness.Config) { c.Set("gateway.redirect_listen", harness.FreeAddress(t)) }, func() error {
			return redirects(s)
		}},
	} {
		s.Apply(t, step.change)
		harness.Eventually(t, time.Second, step.then)
		running.AwaitMore(t, 200)
		if t.Failed() {
			t.Fatalf("after: %s", step.name)
		}
	}
	harness.ExpectNoneLost(t, running.Stop(), 1800)
}

// A service is renamed over and over, with the loaded route and all: each time
// its cluster comes, the routes move, the old one goes. In any other order some
// requests of a dense load would find no cluster.
func TestChangesRenames(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	_, access := s.Robot(t, "robot", "read:orders")
	s.AwaitApplied(t)
	load := s.Load(t, access, "/open", "/orders")
	load.Workers, load.Pause = 6, 0
	running := load.Start(t)
	running.AwaitMore(t, 200)
	for i := range 6 {
		s.Apply(t, func(c harness.Config) {
			name := fmt.Sprintf("renamed-%d", i)
			services := map[string]any{"grpc": map[string]any{"url": s.GRPC.URL}}
			services[name] = map[string]any{"url": s.Orders.URL}
			for _, r := range c.Routes() {
				if r["service"] != "grpc" {
					r["service"] = name
				}
			}
			c.Set("gateway.services", services)
		})
	}
	running.AwaitMore(t, 200)
	harness.ExpectNoneLost(t, running.Stop(), 2000)
}

func arrives(s *harness.System, at *harness.Service, access string) error {
	answer, err := s.TryCall("GET", "/orders", access)
	if err == nil && answer.Header.Get("X-Service") != at.Name {
		err = fmt.Errorf("%s, from %q", answer, answer.Header.Get("X-Service"))
	}
	return err
}

func redirects(s *harness.System) error {
	status, location, err := harness.Redirect(s.HTTP(), "http://"+s.Config().Text("gateway.redirect_listen")+"/x")
	if err == nil && (status != 308 || location != s.URL("/x")) {
		err = fmt.Errorf("%d to %s", status, location)
	}
	return err
}

// The control: an edit that does take the loaded route away is noticed.
func TestChangesControl(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	_, access := s.Robot(t, "robot", "read:orders")
	running := s.Load(t, access, "/orders").Start(t)
	running.AwaitMore(t, 100)
	s.Apply(t, func(c harness.Config) { c.Route("orders-list")["path"] = "/away" })
	s.Apply(t, func(c harness.Config) { c.Route("orders-list")["path"] = "/orders" })
	running.AwaitMore(t, 100)
	if lost := harness.Lost(running.Stop()); len(lost) == 0 {
		t.Error("the load did not notice that its route was away")
	}
}

// An edit of another part changes nothing, and is said to need a restart.
func TestChangesOfOtherParts(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	_, access := s.Robot(t, "robot", "read:orders")
	marks := map[string]int{}
	for _, name := range []string{harness.Issuer, harness.Authz, harness.ControlPlane} {
		marks[name] = s.Process(name).Logged()
	}
	s.Edit(t, func(c harness.Config) {
		c.Set("issuer.access_token_lifetime", "5m")
		c.Set("authz.skew", "20s")
	})
	for _, name := range []string{harness.Issuer, harness.Authz} {
		harness.Eventually(t, 5*time.Second, func() error {
			log := s.Process(name).LogSince(marks[name])
			if !strings.Contains(log, "restart") || !strings.Contains(log, "issuer.access_token_lifetime") || !strings.Contains(log, "authz.skew") {
				return fmt.Errorf("%s says nothing of a restart: %s", name, log)
			}
			return nil
		})
	}
	s.Expect(t, 200, "GET", "/orders", access)

	// With it, an edit of the gateway's part still counts.
	s.Apply(t, func(c harness.Config) {
		c.Set("issuer.refresh_grace", "5s")
		c.AddRoute(harness.Route{"id": "new", "path": "/new", "service": "orders", "public": true})
	})
	s.Expect(t, 200, "GET", "/new", "")
	if log := s.Process(harness.ControlPlane).LogSince(marks[harness.ControlPlane]); !strings.Contains(log, "restart") {
		t.Errorf("the control plane says nothing of a restart: %s", log)
	}
}

// An invalid edit is refused with everything that is wrong, each with line, key
// and remedy, in the log, in /status and by `gatehouse validate`; what runs
// goes on, without a lost request.
func TestChangesInvalid(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	_, access := s.Robot(t, "robot", "read:orders")
	s.AwaitApplied(t)
	before := s.Edge(t).Version
	running := s.Load(t, access, "/orders", "/open").Start(t)
	good := s.Config()
	for name, row := range map[string]struct {
		change func(harness.Config)
		keys   []string
	}{
		"a service that is not there": {func(c harness.Config) { c.Route("orders-list")["service"] = "nowhere" }, []string{"gateway.routes[0].service"}},
		"two things at once": {func(c harness.Config) {
			c.Route("orders-list")["path"] = "orders"
			c.Route("profile")["timeout"] = "forever"
		}, []string{"gateway.routes[0].path", "gateway.routes[6].timeout"}},
		"an unknown key":     {func(c harness.Config) { c.Set("gateway.lissten", "127.0.0.1:1") }, []string{"gateway.lissten"}},
		"an unknown policy":  {func(c harness.Config) { c.Route("profile")["policy"] = "not.there" }, []string{"gateway.routes[6].policy"}},
		"an unknown scope":   {func(c harness.Config) { c.Route("profile")["scopes"] = []string{"rea:profile"} }, []string{"gateway.routes[6].scopes[0]"}},
		"an unknown issuer":  {func(c harness.Config) { c.Set("gateway.issuers", []string{"https://unknown.example"}) }, []string{"gateway.issuers[0]"}},
		"another part's key": {func(c harness.Config) { c.Set("issuer.access_token_lifetime", "1h") }, []string{"issuer.access_token_lifetime"}},
	} {
		mark := s.Process(harness.ControlPlane).Logged()
		s.Write(t, good)
		s.Edit(t, row.change)
		said := s.TryCLI(t, "", "validate")
		if said.Code != 1 {
			t.Errorf("%s: validate ends with %d", name, said.Code)
		}
		for _, key := range row.keys {
			if err := namesKey(said.Stderr, key); err != nil {
				t.Errorf("%s: validate: %v", name, err)
			}
			harness.Eventually(t, 5*time.Second, func() error {
				return namesKey(s.Process(harness.ControlPlane).LogSince(mark), key)
			})
			harness.Eventually(t, 5*time.Second, func() error {
				edit := s.Status(t).RefusedEdit
				if edit == nil || !strings.Contains(edit.Reason, key) {
					return fmt.Errorf("%s: /status says %+v", name, edit)
				}
				return nil
			})
		}
		if edge := s.Edge(t); edge.Version != before || !edge.Taken {
			t.Errorf("%s: the Envoys shall have %+v, no longer %s", name, edge, before)
		}
	}
	running.AwaitMore(t, 100)
	harness.ExpectNoneLost(t, running.Stop(), 200)

	// What is no YAML at all changes nothing either.
	s.WriteConfig(t, []byte("gateway: [unclosed\n"))
	harness.Eventually(t, 5*time.Second, func() error {
		if edit := s.Status(t).RefusedEdit; edit == nil || strings.Contains(edit.Reason, "access_token_lifetime") {
			return fmt.Errorf("/status says %+v", edit)
		}
		return nil
	})
	s.Expect(t, 200, "GET", "/orders", access)

	// Mended, it is forgotten.
	s.Write(t, good)
	harness.Eventually(t, 5*time.Second, func() error {
		if edit := s.Status(t).RefusedEdit; edit != nil {
			return fmt.Errorf("/status still says %+v", edit)
		}
		return nil
	})
	s.Expect(t, 200, "GET", "/orders", access)
}

// namesKey looks for one line with gatehouse.yaml, a line number, a key and
// what to do about it.
func namesKey(text, key string) error {
	for line := range strings.Lines(text) {
		_, after, found := strings.Cut(line, "gatehouse.yaml:")
		if found && after[0] >= '1' && after[0] <= '9' && strings.Contains(after, key+": ") && strings.Count(after, ": ") >= 3 {
			return nil
		}
	}
	return fmt.Errorf("no line names %s with its line and a remedy:\n%s", key, text)
}
