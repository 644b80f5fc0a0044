package login

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	"gatehouse.dev/gatehouse/issuer/store"
)

// visitor is who sits at the browser; session is nil where nobody is logged in.
type visitor struct {
	session *store.Session
	user    store.User
}

// visitor reads the browser's session. The cookie holds a secret of which the
// store knows the hash.
func (p *Pages) visitor(r *http.Request) (v visitor, err error) {
	cookie, err := r.Cookie(p.cookies.name("session"))
	if err != nil || cookie.Value == "" {
		return v, nil
	}
	session, user, err := p.deps.People.SessionByCookie(r.Context(), store.HashOf(cookie.Value))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return v, nil
	case err != nil:
		return v, fmt.Errorf("reading a session: %w", err)
	}
	return visitor{&session, user}, nil
}

// admit gives a person who proved themselves a session with a new secret, so
// that one planted before the login is worth nothing.
func (p *Pages) admit(ctx context.Context, w http.ResponseWriter, r *http.Request, user store.User) error {
	now := p.deps.Now()
	secret := store.NewToken("")
	session := store.Session{
		ID: store.NewID("ses_"), Cookie: store.HashOf(secret), UserID: user.ID,
		AuthTime: now, ExpiresAt: now.Add(p.config.SessionLifetime),
	}
	// The browser's old session goes on under the new secret if it is the same
	// person's, and ends if it is another's.
	if _, err := p.deps.People.ReplaceSession(ctx, store.HashOf(p.secret(r)), session); err != nil {
		return fmt.Errorf("storing a session: %w", err)
	}
	http.SetCookie(w, p.cookies.cookie(p.cookies.name("session"), secret))
	return nil
}

// ClientAddress is where a request comes from: the last hop that Envoy wrote
// into X-Forwarded-For, for nobody but Envoy reaches the listener. IPv6
// addresses count by /64, for a single host has that many.
func ClientAddress(r *http.Request) string {
	forwarded := strings.Join(r.Header["X-Forwarded-For"], ",")
	last := strings.TrimSpace(forwarded[strings.LastIndexByte(forwarded, ',')+1:])
	address, err := netip.ParseAddr(last)
	if err != nil {
		port, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil {
			return "unknown"
		}
		address = port.Addr()
	}
	address = address.Unmap().WithZone("")
	if address.Is6() {
		return netip.PrefixFrom(address, 64).Masked().String()
	}
	return address.String()
}
