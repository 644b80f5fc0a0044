package e2e

import (
	"path/filepath"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/e2e/harness"
)

// A backup knows nothing of what came after it: clients, people, keys. Once it
// is restored, whatever was issued before is refused at each gateway within a
// second, and what is issued then is good.
func TestRestoreEndsWhatWasIssued(t *testing.T) {
	s := harness.Start(t, harness.Options{Authorizers: 2, Configure: func(_ *harness.System, c harness.Config) {
		c.Set("issuer.keys", map[string]any{"publish_lead": "2s", "rotate_every": "1h"})
		c.Set("issuer.access_token_lifetime", "10m")
	}})
	shop := s.AddShop(t, "shop", "read:orders")
	ada := s.AddUser(t, "ada", "customer")
	robot, old := s.Robot(t, "robot", "read:orders")
	before := s.Login(t, shop, ada, "offline_access", "read:orders")
	backup := filepath.Join(s.Dir, "monday.db")
	s.CLI(t, "store", "backup", backup)

	late, lateToken := s.Robot(t, "late", "read:orders")
	eve := s.AddUser(t, "eve", "customer")
	after := s.Login(t, shop, eve, "read:orders")
	issued := []string{old, before.Access, lateToken, after.Access}
	lost := rotate(t, s, robot, func(access string) { issued = append(issued, access) })
	if last := issued[len(issued)-1]; keyOf(t, last) != lost {
		t.Fatal("no token is signed by the key that was made after the backup")
	}
	for _, access := range issued {
		harness.Eventually(t, 2*time.Second, s.Says(200, "GET", "/orders", access))
	}

	s.Process(harness.Issuer).Stop(t)
	s.CLI(t, "store", "restore", backup)
	s.StartPart(t, harness.Issuer)
	harness.Eventually(t, 10*time.Second, s.Says(200, "GET", "/orders", s.Token(t, robot, "read:orders")))
	deadline := time.Second
	for _, access := range issued {
		harness.Eventually(t, deadline, s.Says(401, "GET", "/orders", access))
	}
	// From here on each gateway has heard of it, and none forgets it.
	for range 20 {
		for _, access := range issued {
			s.Expect(t, 401, "GET", "/orders", access)
		}
	}
	again := s.Login(t, shop, ada, "offline_access", "read:orders")
	s.Expect(t, 200, "GET", "/orders", again.Access)
	if answer := s.Post(t, "/oauth/token", late, map[string][]string{"grant_type": {"client_credentials"}}); answer.Status != 401 {
		t.Errorf("a client from after the backup: %s", answer)
	}
	if answer := s.Post(t, "/oauth/token", shop, map[string][]string{"grant_type": {"refresh_token"}, "refresh_token": {before.Refresh}}); answer.Status != 400 {
		t.Errorf("a refresh token from before the restore: %s", answer)
	}
}
