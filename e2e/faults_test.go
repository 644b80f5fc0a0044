package e2e

import (
	"fmt"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/e2e/harness"
)

// The authorizer is killed under load: from then on every answer is 503, and
// within a second of its return every answer is good.
func TestFaultsAuthorizerKilled(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	_, access := s.Robot(t, "robot", "read:orders")
	running := s.Load(t, access, "/orders").Start(t)
	running.AwaitMore(t, 200)

	dying := time.Now()
	s.Process(harness.Authz).Kill()
	dead := time.Now()
	running.AwaitMore(t, 200)
	s.Expect(t, 503, "GET", "/orders", access)
	s.Expect(t, 503, "GET", "/orders", "")
	s.Expect(t, 200, "GET", "/open", "")

	again := time.Now()
	s.StartPart(t, harness.Authz)
	back := time.Now().Add(time.Second)
	harness.Eventually(t, time.Second, s.Says(200, "GET", "/orders", access))
	harness.Eventually(t, 2*time.Second, func() error {
		if now := time.Now(); now.Before(back) {
			return fmt.Errorf("%v until everything must be good", back.Sub(now))
		}
		return nil
	})
	running.AwaitMore(t, 200)
	results := running.Stop()

	through, wrong, late := judge(results, dying, dead, again, back)
	harness.Complain(t, through, len(results), "got through without an authorizer")
	harness.Complain(t, wrong, len(results), "were answered neither well nor 503")
	harness.Complain(t, late, len(results), "were refused a second after the authorizer was ready")
}

// judge sorts out what a load may not see around the death of the authorizer:
// dying, dead, started again, back.
func judge(results []harness.Result, dying, dead, again, back time.Time) (through, wrong, late []harness.Result) {
	for _, r := range results {
		switch {
		case r.Status != 200 && r.Status != 503, r.End.Before(dying) && r.Status != 200:
			wrong = append(wrong, r)
		case r.Start.After(dead) && r.End.Before(again) && r.Status == 200:
			through = append(through, r)
		case r.Start.After(back) && r.Status != 200:
			late = append(late, r)
		}
	}
	return through, wrong, late
}

// One of two authorizers is killed: the other carries on, and what is refused
// meanwhile is 503, never let through.
func TestFaultsOneOfTwoAuthorizersKilled(t *testing.T) {
	s := harness.Start(t, harness.Options{Authorizers: 2})
	_, access := s.Robot(t, "robot", "read:orders")
	_, other := s.Robot(t, "other", "read:profile")
	harness.Eventually(t, 5*time.Second, s.Says(200, "GET", "/orders", access))
	s.Process(harness.AuthzName(1)).Kill()
	// Envoy notices, and asks the other one alone.
	harness.Eventually(t, 5*time.Second, func() error {
		for range 20 {
			if err := s.Says(200, "GET", "/orders", access)(); err != nil {
				return err
			}
		}
		return nil
	})
	s.Expect(t, 401, "GET", "/orders", other)
	s.StartPart(t, harness.AuthzName(1))
	harness.During(t, time.Second, s.Says(200, "GET", "/orders", access))
}

// The control plane is killed and started again under load: nobody notices.
func TestFaultsControlPlaneKilled(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	robot, access := s.Robot(t, "robot", "read:orders")
	running := s.Load(t, access, "/orders", "/open", "/orders/7").Start(t)
	running.AwaitMore(t, 200)
	s.Process(harness.ControlPlane).Kill()
	running.AwaitMore(t, 500)
	// Everything else goes on as well: decisions, logins, revocations.
	token := s.Token(t, robot, "read:orders")
	s.Expect(t, 200, "GET", "/orders", token)
	s.Revoke(t, robot, token)
	harness.Eventually(t, time.Second, s.Says(401, "GET", "/orders", token))

	s.StartPart(t, harness.ControlPlane)
	s.AwaitApplied(t)
	running.AwaitMore(t, 500)
	// It takes over: an edit arrives.
	s.Edit(t, func(c harness.Config) {
		c.AddRoute(harness.Route{"id": "new", "path": "/new", "service": "orders", "public": true})
	})
	harness.Eventually(t, 10*time.Second, s.Says(200, "GET", "/new", ""))
	running.AwaitMore(t, 200)
	harness.ExpectNoneLost(t, running.Stop(), 1400)
}

// The control: a killed authorizer is seen by both checks above, the one that
// counts what is lost and, where the times are not what they seem, judge.
func TestFaultsControl(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	_, access := s.Robot(t, "robot", "read:orders")
	running := s.Load(t, access, "/orders").Start(t)
	begin := time.Now()
	running.AwaitMore(t, 200)
	s.Process(harness.Authz).Kill()
	dead := time.Now()
	running.AwaitMore(t, 50)
	s.StartPart(t, harness.Authz)
	harness.Eventually(t, 5*time.Second, s.Says(200, "GET", "/orders", access))
	running.AwaitMore(t, 50)
	results := running.Stop()
	if lost := harness.Lost(results); len(lost) == 0 {
		t.Error("the load lost nothing while there was no authorizer")
	}
	if through, _, _ := judge(results, begin, begin, dead, dead); len(through) == 0 {
		t.Error("nothing got through while there was an authorizer")
	}
	if _, _, late := judge(results, begin, begin, begin, begin); len(late) == 0 {
		t.Error("nothing was late while there was no authorizer")
	}
}

// The issuer is killed: known tokens, and new ones by loaded keys, are good
// until a route's revocation_max_age, then 503; all is well once it is back.
func TestFaultsIssuerKilled(t *testing.T) {
	s := harness.Start(t, harness.Options{Configure: func(_ *harness.System, c harness.Config) {
		c.Route("orders-list")["revocation_max_age"] = "2s"
	}})
	robot, seen := s.Robot(t, "robot", "read:orders")
	unseen := s.Token(t, robot, "read:orders")
	s.Expect(t, 200, "GET", "/orders", seen)
	running := s.Load(t, seen, "/orders/7").Start(t) // its limit is 10 minutes
	running.AwaitMore(t, 50)

	s.Process(harness.Issuer).Kill()
	killed := time.Now()
	s.Expect(t, 200, "GET", "/orders", seen)
	s.Expect(t, 200, "GET", "/orders", unseen)
	harness.Eventually(t, 4*time.Second, s.Says(503, "GET", "/orders", seen))
	if age := time.Since(killed); age < 1500*time.Millisecond || age > 3*time.Second {
		t.Errorf("the route was closed %v after the issuer's end, not after 2 s", age)
	}
	s.Expect(t, 503, "GET", "/orders", unseen)
	s.Expect(t, 200, "GET", "/orders/7", unseen)
	running.AwaitMore(t, 100)

	s.StartPart(t, harness.Issuer)
	harness.Eventually(t, 3*time.Second, s.Says(200, "GET", "/orders", seen))
	s.Expect(t, 200, "GET", "/orders", s.Token(t, robot, "read:orders"))
	harness.ExpectNoneLost(t, running.Stop(), 200)
}

// An authorizer that starts while the issuer is gone is not ready, says what it
// lacks, and lets nothing through.
func TestFaultsAuthorizerStartsWithoutIssuer(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	_, access := s.Robot(t, "robot", "read:orders")
	s.Process(harness.Authz).Stop(t)
	s.Process(harness.Issuer).Stop(t)
	s.LaunchPart(t, harness.Authz)
	harness.Eventually(t, 10*time.Second, func() error {
		status, body, err := s.TryTelemetry(t, harness.Authz, "/readyz")
		if err == nil && (status != 503 || body == "") {
			err = fmt.Errorf("/readyz says %d %q", status, body)
		}
		return err
	})
	harness.During(t, time.Second, s.Says(503, "GET", "/orders", access))
	s.StartPart(t, harness.Issuer)
	s.AwaitReady(t, harness.Authz)
	harness.Eventually(t, time.Second, s.Says(200, "GET", "/orders", access))
}
