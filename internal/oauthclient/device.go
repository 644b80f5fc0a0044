package oauthclient

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

const deviceGrant = "urn:ietf:params:oauth:grant-type:device_code"

// defaultInterval is between two polls where the issuer names none, and by how
// much each slow_down lengthens it (RFC 8628 §3.2, §3.5).
const defaultInterval = 5 * time.Second

// DeviceCode is what a person brings to the issuer (RFC 8628 §3.2).
type DeviceCode struct {
	UserCode string `json:"user_code"`
	URI      string `json:"verification_uri"`
	// Complete has the code in it; empty: the issuer gave none.
	Complete string `json:"verification_uri_complete"`

	Code      string `json:"device_code"`
	ExpiresIn int    `json:"expires_in"`
	Interval  int    `json:"interval"`
}

// Device gets a token for a person who has a browser elsewhere: show is given
// what they need, and Device polls until they have decided, the code has expired
// or ctx ends.
func (c *Client) Device(ctx context.Context, scopes []string, resource string, show func(DeviceCode)) (Tokens, error) {
	if c.metadata.Device == "" {
		return Tokens{}, errors.New("the issuer has no device flow: its metadata names no device_authorization_endpoint")
	}
	form := url.Values{}
	set(form, "scope", strings.Join(scopes, " "))
	set(form, "resource", resource)
	var d DeviceCode
	if err := c.post(ctx, c.metadata.Device, form, &d); err != nil {
		return Tokens{}, fmt.Errorf("beginning the device flow: %w", err)
	}
	if d.Code == "" || d.UserCode == "" || d.URI == "" {
		return Tokens{}, errors.New("beginning the device flow: the issuer answered without a code or an address")
	}
	show(d)
	interval := time.Duration(d.Interval) * time.Second
	if interval <= 0 {
		interval = defaultInterval
	}
	return c.poll(ctx, url.Values{"grant_type": {deviceGrant}, "device_code": {d.Code}}, interval, time.Duration(d.ExpiresIn)*time.Second)
}

// poll asks for the tokens at the issuer's pace (RFC 8628 §3.5), which it slows
// down for an issuer that is away, as the RFC wants it of timeouts.
func (c *Client) poll(ctx context.Context, form url.Values, interval, life time.Duration) (Tokens, error) {
	var fault error
	for waited := time.Duration(0); ; waited += interval {
		if life > 0 && waited >= life {
			return Tokens{}, expired(fault)
		}
		if err := c.wait(ctx, interval); err != nil {
			return Tokens{}, fmt.Errorf("waiting for the person: %w", err)
		}
		tokens, err := c.token(ctx, form)
		fault = nil
		var said refused
		switch errors.As(err, &said); {
		case err == nil:
			return tokens, nil
		case said.Code == "authorization_pending":
		case said.Code == "slow_down":
			interval += defaultInterval
		case said.Code == "access_denied":
			return Tokens{}, errors.New("the person denied the request")
		case said.Code == "expired_token":
			return Tokens{}, expired(nil)
		case life > 0 && ctx.Err() == nil && isTransient(err, said):
			fault, interval = err, interval+defaultInterval
		default:
			return Tokens{}, err
		}
	}
}

// isTransient tells whether an issuer may say something else a while later.
func isTransient(err error, said refused) bool {
	_, gone := errors.AsType[away](err)
	return gone || said.Code == "temporarily_unavailable"
}

// expired is the end of a code; fault is why the issuer did not answer last.
func expired(fault error) error {
	if fault != nil {
		return fmt.Errorf("the code expired while the issuer was away: begin anew: %w", fault)
	}
	return errors.New("nobody allowed it before the code expired: begin anew")
}

// wait waits for a time, or until ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
