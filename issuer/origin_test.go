package issuer

import (
	"context"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/issuer/store"
)

// countedClients counts how often the whole list is begun.
type countedClients struct {
	store.Clients
	lists int
}

func (c *countedClients) ListClients(ctx context.Context, after string, limit int) ([]store.Client, error) {
	if after == "" {
		c.lists++
	}
	return c.Clients.ListClients(ctx, after, limit)
}

// Scripts that ask, whoever's, cost no list of clients, unless one has changed:
// then its origin counts within two seconds.
func TestOriginsAreGatheredWhenClientsChange(t *testing.T) {
	s := newSite(t)
	counted := &countedClients{Clients: s.server.store}
	b := &browserOrigins{clients: counted, now: s.clock.now}
	for range 100 {
		if !b.allows(t.Context(), "https://spa.example") || b.allows(t.Context(), "https://evil.example") || b.allows(t.Context(), "https://app.example") {
			t.Fatal("the origins are not those of public clients")
		}
		s.clock.advance(originsKept)
	}
	if counted.lists != 1 {
		t.Errorf("the clients were listed %d times", counted.lists)
	}
	s.register(store.Client{ID: "new", Type: store.Public, GrantTypes: []string{grantAuthorizationCode}, RedirectURIs: []string{"https://new.example/cb"}})
	s.clock.advance(originsKept)
	if !b.allows(t.Context(), "https://new.example") || counted.lists != 2 {
		t.Errorf("a new client's origin is not known; %d lists", counted.lists)
	}
	if _, err := s.server.store.UpdateClient(t.Context(), "new", func(c *store.Client) error { c.Disabled = true; return nil }); err != nil {
		t.Fatal(err)
	}
	s.clock.advance(originsKept - time.Millisecond)
	if b.allows(t.Context(), "https://new.example"); counted.lists != 2 {
		t.Error("the list was read again at once")
	}
	s.clock.advance(time.Millisecond)
	if b.allows(t.Context(), "https://new.example") {
		t.Error("a disabled client's origin is still taken")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	s.clock.advance(originsKept)
	if b.allows(ended, "https://spa.example") {
		t.Error("it was allowed without looking")
	}
}
