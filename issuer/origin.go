package issuer

import (
	"context"
	"net/http"
	"net/url"
	"slices"
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
// They are read again after a while, not per request, for anybody can ask.
type browserOrigins struct {
	clients store.Clients
	now     func() time.Time

	mu      sync.Mutex
	origins []string
	readAt  time.Time
}

// originsKept is how long a new public client may have to wait.
const originsKept = 2 * time.Second

func (b *browserOrigins) allows(ctx context.Context, origin string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now := b.now(); b.readAt.IsZero() || now.Sub(b.readAt) >= originsKept {
		origins, err := b.read(ctx)
		if err != nil {
			return false
		}
		b.origins, b.readAt = origins, now
	}
	return slices.Contains(b.origins, origin)
}

// read gathers the origins of all clients, so many at a time.
func (b *browserOrigins) read(ctx context.Context) (origins []string, err error) {
	const page = 500
	for after := ""; ; {
		clients, err := b.clients.ListClients(ctx, after, page)
		if err != nil || len(clients) == 0 {
			return origins, err
		}
		origins = append(origins, originsOf(clients)...)
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
