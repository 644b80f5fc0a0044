package issuer

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/issuer/login"
	"gatehouse.dev/gatehouse/issuer/store"
)

const (
	// deviceLifetime is how long a person may take; RFC 8628 §3.2 leaves it to
	// us, and codes that live longer are guessed more easily.
	deviceLifetime = 10 * time.Minute
	// pollInterval is how long a device waits between two polls, pollStep how
	// much longer each time that it did not (RFC 8628 §3.5), up to pollLongest.
	pollInterval = 5 * time.Second
	pollStep     = 5 * time.Second
	pollLongest  = time.Minute
	// maxDevices bounds the devices of one client that wait: anybody can start
	// one where the client is public.
	maxDevices = 5000
)

// deviceAuthorization is what a device shows and polls with (RFC 8628 §3.2).
type deviceAuthorization struct {
	DeviceCode string `json:"device_code"`
	UserCode   string `json:"user_code"`
	URI        string `json:"verification_uri"`
	Complete   string `json:"verification_uri_complete"`
	ExpiresIn  int    `json:"expires_in"`
	Interval   int    `json:"interval"`
}

// authorizeDevice is the device authorization endpoint (RFC 8628 §3.1).
func (s *server) authorizeDevice(w http.ResponseWriter, r *http.Request) error {
	f, err := bodyForm(r)
	if err != nil {
		return err
	}
	client, err := s.authenticate(r.Context(), r, f)
	if err != nil {
		return err
	}
	if !slices.Contains(client.GrantTypes, grantDeviceCode) {
		return fail(codeUnauthorizedClient, "the client may not use the device grant")
	}
	// Who proved itself is bounded by the number that wait.
	if anybodys(client) {
		if wait := s.login.StartDevice(r); wait > 0 {
			return busy(wait)
		}
	}
	scopes, resources, err := s.catalog.askedOfPerson(client, f)
	if err != nil {
		return err
	}
	if _, err := s.catalog.rules(s.catalog.audiences(scopes)); err != nil {
		return err
	}
	answer, err := s.startDevice(r.Context(), client, scopes, resources)
	if errors.Is(err, store.ErrFull) {
		return busy(time.Minute)
	}
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

// busy tells a client to come again later.
func busy(wait time.Duration) error {
	return &failure{code: codeTemporarilyUnavailable, description: "too many devices are waiting; try again later", status: http.StatusTooManyRequests, retryAfter: wait}
}

// startDevice stores a device authorization under new codes. A user code that
// is taken already is drawn again: among 2^34 that happens hardly ever.
func (s *server) startDevice(ctx context.Context, client store.Client, scopes, resources []string) (*deviceAuthorization, error) {
	for range 3 {
		code, userCode := store.NewToken("ghd_"), newUserCode()
		err := s.store.CreateDevice(ctx, store.Device{
			Hash: store.HashOf(code), UserCode: s.userCodeHash(userCode), ClientID: client.ID,
			Scopes: scopes, Audience: resources, Interval: pollInterval, ExpiresAt: s.now().Add(deviceLifetime),
		}, maxDevices)
		if errors.Is(err, store.ErrConflict) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("storing a device authorization: %w", err)
		}
		shown := showUserCode(userCode)
		return &deviceAuthorization{
			DeviceCode: code, UserCode: shown, URI: s.config.URL + login.PathDevice,
			Complete:  s.config.URL + login.PathDevice + "?" + url.Values{"user_code": {shown}}.Encode(),
			ExpiresIn: int(deviceLifetime / time.Second), Interval: int(pollInterval / time.Second),
		}, nil
	}
	return nil, errors.New("every user code that was drawn is taken")
}

// userCodeAlphabet has no vowels, so that no words come out, and nothing that
// looks like something else (RFC 8628 §6.1); its 20 letters make 8 of them 34.6
// bits.
const userCodeAlphabet = "BCDFGHJKLMNPQRSTVWXZ"

const userCodeLength = 8

// newUserCode draws each letter evenly: bytes beyond the last multiple of 20
// are drawn again.
func newUserCode() string {
	code := make([]byte, 0, userCodeLength)
	for len(code) < userCodeLength {
		var random [1]byte
		rand.Read(random[:]) // never fails (crypto/rand)
		if n := int(random[0]); n < 256-256%len(userCodeAlphabet) {
			code = append(code, userCodeAlphabet[n%len(userCodeAlphabet)])
		}
	}
	return string(code)
}

// showUserCode writes a code as people read it.
func showUserCode(code string) string { return code[:userCodeLength/2] + "-" + code[userCodeLength/2:] }

// parseUserCode reads a code as people write it: in small letters, with blanks
// or dashes anywhere (RFC 8628 §6.1). ok is false where it can be none.
func parseUserCode(typed string) (code string, ok bool) {
	code = strings.Map(func(r rune) rune {
		switch {
		case r == '-' || r == ' ':
			return -1
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		}
		return r
	}, typed)
	return code, len(code) == userCodeLength && strings.Trim(code, userCodeAlphabet) == ""
}

// userCodeHash is what is stored of a user code. It is keyed, for all codes
// could be tried against a plain hash.
func (s *server) userCodeHash(code string) (hash store.Hash) {
	mac := hmac.New(sha256.New, s.userCodeKey)
	mac.Write([]byte(code))
	return store.Hash(mac.Sum(nil))
}

// Device implements login.Authority.
func (s *server) Device(ctx context.Context, typed string) (*login.DeviceRequest, error) {
	code, ok := parseUserCode(typed)
	if !ok {
		return nil, nil
	}
	d, err := s.store.PendingDevice(ctx, s.userCodeHash(code))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &login.DeviceRequest{UserCode: showUserCode(code), ClientID: d.ClientID, Scopes: d.Scopes, Resources: d.Audience}, nil
}

// concludeDevice records what a person decided of a device, and is where the
// browser goes then.
func (s *server) concludeDevice(ctx context.Context, o login.Outcome) (login.Return, error) {
	code, ok := parseUserCode(o.Flow.UserCode)
	if o.Flow.ClientID == "" || !ok { // it ended before a device was known
		return login.Return{Location: login.PathRefused}, nil
	}
	allowed := o.Error == ""
	err := s.store.DecideDevice(ctx, store.Decision{
		UserCode: s.userCodeHash(code), Allowed: allowed, Session: o.Session, Scopes: o.Scopes,
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		// The code expired, or was decided on elsewhere, or the session ended.
		return login.Return{Location: login.PathRefused}, nil
	case err != nil:
		return login.Return{}, fmt.Errorf("recording a decision on a device: %w", err)
	case !allowed:
		s.audit.denied(ctx, o.Flow.ClientID, fail(o.Error, outcomes[o.Error]))
		return login.Return{Location: login.PathRefused}, nil
	}
	s.audit.granted(ctx, o.Session.UserID, o.Flow.ClientID, o.Session.ID, o.Scopes)
	return login.Return{Location: login.PathConnected}, nil
}
