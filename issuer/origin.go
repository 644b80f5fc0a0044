package issuer

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"gatehouse.dev/gatehouse/issuer/store"
)

// originPolicy tells whether scripts of an origin may read the answers (CORS).
// No answer ever allows credentials: a browser sends no cookies with such a
// request, so nothing can be done in a person's name.
type originPolicy func(ctx context.Context, origin string) bool

func anyOrigin(context.Context, string) bool { return true }

// apply sets the headers and answers a preflight; done tells that it did.
func (allowed originPolicy) apply(w http.ResponseWriter, r *http.Request, methods []string) (done bool) {
	header := w.Header()
	header.Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	preflight := r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != ""
	if origin != "" && allowed(r.Context(), origin) {
		header.Set("Access-Control-Allow-Origin", origin)
		if preflight {
			header.Set("Access-Control-Allow-Methods", strings.Join(methods, ", "))
			header.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, DPoP")
			header.Set("Access-Control-Max-Age", "600")
		} else {
			header.Set("Access-Control-Expose-Headers", "WWW-Authenticate, DPoP-Nonce")
		}
	}
	if preflight {
		w.WriteHeader(http.StatusNoContent)
	}
	return preflight
}

// browserOrigins are the origins of the redirect URIs of public clients: those
// are browser applications, and their scripts have to reach the token endpoint.
// They are gathered again where clients have changed, and then not at once, for
// anybody can ask.
type browserOrigins struct {
	clients clientList
	now     func() time.Time

	mu       sync.Mutex
	origins  map[string]bool
	revision uint64
	lookedAt time.Time
}

// clientList are all clients.
type clientList interface {
	ListClients(ctx context.Context, after string, limit int) ([]store.Client, error)
	ClientsRevision(ctx context.Context) (uint64, error)
}

// originsKept is how long a new public client may have to wait.
const originsKept = 2 * time.Second

func (b *browserOrigins) allows(ctx context.Context, origin string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now := b.now(); b.lookedAt.IsZero() || now.Sub(b.lookedAt) >= originsKept {
		if err := b.look(ctx); err != nil {
			return false
		}
		b.lookedAt = now
	}
	return b.origins[origin]
}

// look gathers the origins of all clients, so many at a time, unless none has
// changed. The revision comes first: what changes meanwhile is seen the next
// time.
func (b *browserOrigins) look(ctx context.Context) error {
	revision, err := b.clients.ClientsRevision(ctx)
	if err != nil || b.origins != nil && revision == b.revision {
		return err
	}
	const page = 500
	origins := map[string]bool{}
	for after := ""; ; {
		clients, err := b.clients.ListClients(ctx, after, page)
		if err != nil {
			return err
		}
		if len(clients) == 0 {
			b.origins, b.revision = origins, revision
			return nil
		}
		for _, origin := range originsOf(clients) {
			origins[origin] = true
		}
		after = clients[len(clients)-1].ID
	}
}

func originsOf(clients []store.Client) (origins []string) {
	for _, client := range clients {
		if client.Type != store.Public || client.Disabled {
			continue
		}
		for _, uri := range client.RedirectURIs {
			if u, err := url.Parse(uri); err == nil && (u.Scheme == "https" || u.Scheme == "http") {
				origins = append(origins, u.Scheme+"://"+u.Host)
			}
		}
	}
	return origins
}
