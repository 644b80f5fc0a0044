package login

import (
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
)

const (
	// maxSealed bounds a sealed flow: browsers keep 4096 bytes of a cookie,
	// name and attributes included (RFC 6265 §6.1).
	maxSealed = 3800
	// maxFlows bounds the flows that one browser may have open, so that pages
	// which start flows cannot make its requests too large for the server.
	maxFlows = 4
)

// errTooLarge is a flow that does not fit into a cookie.
var errTooLarge = errors.New("the request is too large to be kept in a cookie")

// cookies seals flows into a browser's cookies and reads them back. The cipher
// is XChaCha20-Poly1305: its nonces are long enough to be drawn for as long as
// the key lives.
type cookies struct {
	aead cipher.AEAD
	// secure: the issuer is https. Then cookies are Secure and have the prefix
	// that keeps sibling hosts from planting them (RFC 6265bis §4.1.3.2).
	secure bool
}

func newCookies(key []byte, origin string) (*cookies, error) {
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, fmt.Errorf("keying the cookie cipher: %w", err)
	}
	return &cookies{aead: aead, secure: strings.HasPrefix(origin, "https://")}, nil
}

func (c *cookies) name(kind string) string {
	if c.secure {
		return "__Host-gatehouse-" + kind
	}
	return "gatehouse-" + kind
}

func (c *cookies) flowName(id string) string { return c.name("flow-" + id) }

// cookie has what all of ours share. Lax, not Strict: an authorization request
// comes from another site.
func (c *cookies) cookie(name, value string) *http.Cookie {
	return &http.Cookie{Name: name, Value: value, Path: "/", Secure: c.secure, HttpOnly: true, SameSite: http.SameSiteLaxMode}
}

func (c *cookies) drop(w http.ResponseWriter, name string) {
	gone := c.cookie(name, "")
	gone.MaxAge = -1
	http.SetCookie(w, gone)
}

// seal encrypts a flow for the cookie of this name, and for no other.
func (c *cookies) seal(name string, f *Flow) (string, error) {
	plain, err := json.Marshal(f)
	if err != nil {
		return "", fmt.Errorf("encoding a flow: %w", err)
	}
	nonce := make([]byte, c.aead.NonceSize())
	rand.Read(nonce) // never fails (crypto/rand)
	sealed := base64.RawURLEncoding.EncodeToString(c.aead.Seal(nonce, nonce, plain, []byte(name)))
	if len(sealed) > maxSealed {
		return "", errTooLarge
	}
	return sealed, nil
}

// open is a flow sealed for this name; nil where the value is anything else.
func (c *cookies) open(name, value string) *Flow {
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(value)
	if err != nil || len(value) > maxSealed || len(sealed) < c.aead.NonceSize() {
		return nil
	}
	plain, err := c.aead.Open(nil, sealed[:c.aead.NonceSize()], sealed[c.aead.NonceSize():], []byte(name))
	if err != nil {
		return nil
	}
	f := &Flow{}
	if json.Unmarshal(plain, f) != nil {
		return nil
	}
	return f
}

// flow is the browser's flow with this id; nil: there is none that lives.
func (c *cookies) flow(r *http.Request, id string, now time.Time) *Flow {
	if id == "" || len(id) > 64 {
		return nil
	}
	name := c.flowName(id)
	cookie, err := r.Cookie(name)
	if err != nil {
		return nil
	}
	f := c.open(name, cookie.Value)
	if f == nil || f.ID != id || f.expired(now) {
		return nil
	}
	return f
}

// keep gives the flow to the browser, and takes away the oldest ones beyond
// maxFlows and those that are over.
func (c *cookies) keep(w http.ResponseWriter, r *http.Request, f *Flow, now time.Time) error {
	name := c.flowName(f.ID)
	sealed, err := c.seal(name, f)
	if err != nil {
		return err
	}
	cookie := c.cookie(name, sealed)
	cookie.MaxAge = int(flowLifetime / time.Second)
	http.SetCookie(w, cookie)
	for _, old := range c.surplus(r, name, now) {
		c.drop(w, old)
	}
	return nil
}

// surplus are the names of the browser's flow cookies that must go to leave
// room for the one named kept.
func (c *cookies) surplus(r *http.Request, kept string, now time.Time) (names []string) {
	var alive []*Flow
	for _, cookie := range r.Cookies() {
		if !strings.HasPrefix(cookie.Name, c.flowName("")) || cookie.Name == kept {
			continue
		}
		f := c.open(cookie.Name, cookie.Value)
		if f == nil || f.expired(now) {
			names = append(names, cookie.Name)
			continue
		}
		alive = append(alive, f)
	}
	for len(alive) >= maxFlows {
		oldest := 0
		for i, f := range alive {
			if f.StartedAt.Before(alive[oldest].StartedAt) {
				oldest = i
			}
		}
		names = append(names, c.flowName(alive[oldest].ID))
		alive = append(alive[:oldest], alive[oldest+1:]...)
	}
	return names
}
