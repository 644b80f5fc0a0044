package e2e

import (
	"bufio"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/credentials"

	"gatehouse.dev/gatehouse/e2e/harness"
	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/internal/serve"
)

// asks tells whether an authorizer answers a workload well about its own rule.
func (m *mesh) asks(t *testing.T, service string) func() error {
	t.Helper()
	rule := m.Rule(m.URL(""))
	rule.NodeIdentities = []string{envoy.ServiceIdentity(trustDomain, service)}
	signed := harness.SignRule(t, rule, m.RuleKey(t))
	c := credentials.NewTLS(serve.ClientTLS(m.enrolledAs(service), envoy.AuthzIdentity(trustDomain), time.Now))
	checker := harness.DialChecker(t, m.Config().Text("authz.listen"), c)
	return func() error {
		response, err := checker.Check(t, m.reads, signed)
		if err == nil && harness.Verdict(response) != 200 {
			err = fmt.Errorf("the verdict is %d", harness.Verdict(response))
		}
		return err
	}
}

// opposite is the condition that another does not hold.
func opposite(what string, condition func() error) func() error {
	return func() error {
		if condition() == nil {
			return errors.New(what)
		}
		return nil
	}
}

// A revoked workload is nobody at once: for the control plane, the authorizers
// and its peers, on connections that stand, too. Others notice nothing, and it
// comes back once its last certificate is over and it is allowed.
func TestMeshRevokedWorkload(t *testing.T) {
	const life = 20 * time.Second
	m := startMesh(t, harness.Options{Configure: func(_ *harness.System, c harness.Config) {
		c.Set("controlplane.ca", map[string]any{"svid_life": life.String()})
		for _, route := range []string{"orders", "profile"} {
			c.Route(route)["stream"] = "1h"
		}
	}})
	_, profiles := m.Robot(t, "reader", "read:profile")
	others := func() error { return m.Says(200, "GET", "/profile/1", profiles)() }
	harness.Eventually(t, 5*time.Second, others)
	forProfile := assertionOf(t, m.hears(t, "GET", toProfile("GET", "/profile/1"), m.reads))
	url := "https://" + m.Address("profile") + "/profile/1"

	mine, theirs := m.configured(t, m.enrolledAs("orders"), envoy.ServiceGroup("orders")), m.configured(t, m.enrolledAs("profile"), envoy.ServiceGroup("profile"))
	for _, stream := range []discovery{mine, theirs} {
		first, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: first.GetTypeUrl(), ResponseNonce: first.GetNonce()}); err != nil {
			t.Fatal(err)
		}
	}
	check, othersCheck := m.asks(t, "orders"), m.asks(t, "profile")
	for service, check := range map[string]func() error{"orders": check, "profile": othersCheck} {
		if err := check(); err != nil {
			t.Fatalf("Check by %s: %v", service, err)
		}
	}
	standing := calls(t, m.enrolledAs("orders"), profileID)
	if answer, _, err := again(t, standing, url, forProfile); err != nil || answer.Status != 200 {
		t.Fatalf("orders calls profile: %s %v", answer, err)
	}

	from := m.endless(t, calls(t, m.enrolledAs("orders"), profileID), url[:len(url)-1]+"events", "Gatehouse-Assertion", forProfile)
	into := m.endless(t, m.HTTP(), m.URL("/orders/events"), "Authorization", "Bearer "+m.reads)
	theirsToo := m.endless(t, m.HTTP(), m.URL("/profile/events"), "Authorization", "Bearer "+profiles)

	m.CLI(t, "workload", "revoke", "orders")
	revoked := time.Now()
	var ended error
	for ended == nil {
		_, ended = mine.Recv()
	}
	if span := time.Since(revoked); span > atOnce {
		t.Errorf("its xDS stream went on for %v: %v", span, ended)
	}
	from.ends(t, "from it into another service")
	into.ends(t, "from the edge into it")
	theirsToo.goesOn(t)
	if err := m.firstOf(t, m.enrolledAs("orders"), envoy.ServiceGroup("orders")); err == nil {
		t.Error("it gets another xDS stream")
	}
	harness.Eventually(t, atOnce, opposite("its Check is answered", check))
	harness.Eventually(t, atOnce, func() error {
		answer, reused, err := again(t, standing, url, forProfile)
		if err != nil || !reused {
			t.Fatalf("on the connection that stood (%v): %s %v", reused, answer, err)
		}
		if answer.Status != 403 {
			return fmt.Errorf("on the connection that stood: %s", answer)
		}
		return nil
	})
	t.Logf("refused everywhere after %v", time.Since(revoked).Round(time.Millisecond))
	m.nobodyHears(t, "profile", func() {
		answer, reused, err := again(t, calls(t, m.enrolledAs("orders"), profileID), url, forProfile)
		if reused || err == nil && answer.Status != 403 {
			t.Errorf("on a new connection (%v): %s %v", !reused, answer, err)
		}
		if strings.Contains(answer.Body, "spiffe") || strings.Contains(answer.Body, "revoke") {
			t.Errorf("it is told why: %s", answer)
		}
	})
	m.nobodyHears(t, "orders", func() {
		if answer := m.Call(t, "GET", "/orders/1", m.reads); answer.Status == 200 {
			t.Errorf("its sidecar still serves: %s", answer)
		}
	})
	m.othersGoOn(t, theirs, others, othersCheck)
	m.allowedAgain(t, revoked, life)
}

// endless is a response that goes on.
type endless struct {
	lines chan string // closed when it ends
}

func (m *mesh) endless(t *testing.T, client *http.Client, url, header, value string) endless {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set(header, value)
	patient := *client
	patient.Timeout = 0 // it would end the response by itself
	response, err := patient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != 200 {
		t.Fatalf("%s is answered %s", url, response.Status)
	}
	e := endless{lines: make(chan string)}
	go func() {
		defer response.Body.Close()
		defer close(e.lines)
		for scanner := bufio.NewScanner(response.Body); scanner.Scan(); {
			select {
			case e.lines <- scanner.Text():
			case <-t.Context().Done():
				return
			}
		}
	}()
	e.goesOn(t)
	return e
}

// goesOn waits for lines that were not under way already.
func (e endless) goesOn(t *testing.T) {
	t.Helper()
	late := time.After(20 * time.Second)
	for range 3 {
		select {
		case _, open := <-e.lines:
			if !open {
				t.Fatal("the stream has ended")
			}
		case <-late:
			t.Fatal("the stream stands still")
		}
	}
}

// ends waits for the stream's end.
func (e endless) ends(t *testing.T, which string) {
	t.Helper()
	late := time.After(atOnce)
	for {
		select {
		case _, open := <-e.lines:
			if !open {
				return
			}
		case <-late:
			t.Errorf("the stream %s goes on", which)
			return
		}
	}
}

// atOnce is what a loaded machine needs for a push to arrive.
const atOnce = 3 * time.Second

// othersGoOn finds that the other workload has its callers, Check and stream.
func (m *mesh) othersGoOn(t *testing.T, stream discovery, works, check func() error) {
	t.Helper()
	if err := works(); err != nil {
		t.Errorf("the other is harmed: %v", err)
	}
	if err := check(); err != nil {
		t.Errorf("Check by the other: %v", err)
	}
	if len(take(t, stream, nil)[harness.DiscoveryTypes[2]]) == 0 {
		t.Error("the other's stream has no listeners for it")
	}
	if err := m.firstOf(t, m.enrolledAs("profile"), envoy.ServiceGroup("profile")); err != nil {
		t.Errorf("the other's next stream: %v", err)
	}
}

// allowedAgain finds that a workload stays out until its last certificate is
// over, and then comes back.
func (m *mesh) allowedAgain(t *testing.T, revoked time.Time, life time.Duration) {
	t.Helper()
	last := m.lastCertificate(t, "orders")
	if out := m.TryCLI(t, "", "workload", "allow", "orders"); out.Code == 0 || !strings.Contains(out.Stderr, "certificate") {
		t.Errorf("it is allowed while it has a certificate: %+v", out)
	}
	harness.Eventually(t, life+45*time.Second, func() error {
		if out := m.TryCLI(t, "", "workload", "allow", "orders"); out.Code != 0 {
			return errors.New(out.Stderr)
		}
		return nil
	})
	if now := time.Now(); now.Before(last.NotAfter) {
		t.Errorf("it is allowed at %v, and its certificate ends at %v", now, last.NotAfter)
	}
	t.Logf("allowed %v after it was revoked", time.Since(revoked).Round(time.Second))
}

func (m *mesh) lastCertificate(t *testing.T, service string) *x509.Certificate {
	t.Helper()
	pair, err := m.enrolledAs(service).KeyPair()
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf
}
