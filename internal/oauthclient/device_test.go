package oauthclient

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// deviceIssuer answers polls with what it is told, an error or a status, one after
// the other; an empty one gives the token.
type deviceIssuer struct {
	*httptest.Server
	says  []string
	began string
	asked url.Values
}

func newDeviceIssuer(t *testing.T, began string, says ...string) (*deviceIssuer, *Client, *[]time.Duration) {
	t.Helper()
	i := &deviceIssuer{says: says, began: began}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(map[string]string{"issuer": i.URL, "token_endpoint": i.URL + "/token", "device_authorization_endpoint": i.URL + "/device"})
	})
	mux.HandleFunc("POST /device", func(w http.ResponseWriter, r *http.Request) {
		r.ParseForm()
		i.asked = r.PostForm
		fmt.Fprint(w, i.began)
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		r.ParseForm()
		i.asked = r.PostForm
		said := i.says[0]
		i.says = i.says[1:]
		if said == "" {
			fmt.Fprint(w, `{"access_token":"person","token_type":"Bearer"}`)
			return
		}
		switch status, err := strconv.Atoi(said); {
		case said == "hang up":
			panic(http.ErrAbortHandler)
		case err == nil:
			w.WriteHeader(status)
		default:
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprintf(w, `{"error":%q}`, said)
		}
	})
	i.Server = httptest.NewTLSServer(mux)
	t.Cleanup(i.Close)
	roots := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.Certificate().Raw})
	c, err := Discover(t.Context(), Config{Issuer: i.URL, Roots: roots, ID: "tv"})
	if err != nil {
		t.Fatal(err)
	}
	waited := &[]time.Duration{}
	c.wait = func(ctx context.Context, d time.Duration) error {
		*waited = append(*waited, d)
		return ctx.Err()
	}
	return i, c, waited
}

const begun = `{"device_code":"dc","user_code":"BCDF-GHJK","verification_uri":"https://i.example/device","interval":7,"expires_in":60}`

// The device asks at the issuer's pace, ever more slowly where it is told so.
func TestDevicePollsAtTheIssuersPace(t *testing.T) {
	i, c, waited := newDeviceIssuer(t, begun, "authorization_pending", "slow_down", "authorization_pending", "")
	var shown DeviceCode
	tokens, err := c.Device(t.Context(), []string{"a", "b"}, "https://api.example", func(d DeviceCode) {
		shown = d
		if i.asked.Get("client_id") != "tv" || i.asked.Get("scope") != "a b" || i.asked.Get("resource") != "https://api.example" {
			t.Errorf("it asked for %v", i.asked)
		}
	})
	if err != nil || tokens.AccessToken != "person" || shown.UserCode != "BCDF-GHJK" {
		t.Fatalf("%v, %v, shown %+v", tokens, err, shown)
	}
	if i.asked.Get("grant_type") != deviceGrant || i.asked.Get("device_code") != "dc" || i.asked.Get("client_id") != "tv" {
		t.Errorf("it polled with %v", i.asked)
	}
	if want := []time.Duration{7 * time.Second, 7 * time.Second, 12 * time.Second, 12 * time.Second}; !slices.Equal(*waited, want) {
		t.Errorf("it waited %v, want %v (RFC 8628 §3.5)", *waited, want)
	}
}

// An issuer that is away for a while is asked again, more slowly, as long as the
// code lives.
func TestDeviceOutlivesFaults(t *testing.T) {
	for _, fault := range []string{"hang up", "500", "502", "503", "429", "temporarily_unavailable"} {
		_, c, waited := newDeviceIssuer(t, begun, "authorization_pending", fault, "authorization_pending", "")
		tokens, err := c.Device(t.Context(), nil, "", func(DeviceCode) {})
		if err != nil || tokens.AccessToken != "person" {
			t.Errorf("%s: %v, %v", fault, tokens, err)
		}
		if want := []time.Duration{7 * time.Second, 7 * time.Second, 12 * time.Second, 12 * time.Second}; !slices.Equal(*waited, want) {
			t.Errorf("%s: it waited %v, want %v", fault, *waited, want)
		}
	}
	_, c, waited := newDeviceIssuer(t, begun, slices.Repeat([]string{"503"}, 100)...)
	if _, err := c.Device(t.Context(), nil, "", func(DeviceCode) {}); err == nil || !strings.Contains(err.Error(), "503") || len(*waited) > 5 {
		t.Errorf("an issuer that stays away: %v after %d attempts", err, len(*waited))
	}
	for _, status := range []string{"401", "302"} {
		_, c, waited = newDeviceIssuer(t, begun, status)
		if _, err := c.Device(t.Context(), nil, "", func(DeviceCode) {}); err == nil || len(*waited) != 1 {
			t.Errorf("%s: %v after %d attempts", status, err, len(*waited))
		}
	}
}

func TestDeviceEnds(t *testing.T) {
	for name, row := range map[string]struct {
		began string
		says  []string
		want  string
	}{
		"denied":             {begun, []string{"authorization_pending", "access_denied"}, "denied"},
		"expired":            {begun, []string{"expired_token"}, "expired"},
		"another refusal":    {begun, []string{"invalid_client"}, "the issuer said invalid_client"},
		"nobody comes":       {begun, slices.Repeat([]string{"authorization_pending"}, 100), "expired"},
		"slower and slower":  {begun, slices.Repeat([]string{"slow_down"}, 100), "expired"},
		"no code":            {`{"user_code":"x","verification_uri":"https://i.example"}`, nil, "without a code"},
		"no address":         {`{"device_code":"x","user_code":"x"}`, nil, "without a code or an address"},
		"no interval either": {`{"device_code":"x","user_code":"x","verification_uri":"y"}`, []string{"access_denied"}, "denied"},
	} {
		_, c, waited := newDeviceIssuer(t, row.began, row.says...)
		tokens, err := c.Device(t.Context(), nil, "", func(DeviceCode) {})
		if err == nil || !strings.Contains(err.Error(), row.want) || tokens.AccessToken != "" {
			t.Errorf("%s: %v, %v", name, tokens, err)
		}
		if name == "no interval either" && (*waited)[0] != 5*time.Second {
			t.Errorf("%s: it waited %v", name, *waited)
		}
	}
	_, c, _ := newDeviceIssuer(t, begun)
	ended, cancel := context.WithCancel(t.Context())
	if _, err := c.Device(ended, nil, "", func(DeviceCode) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("did not end with its context: %v", err)
	}
	c.metadata.Device = ""
	if _, err := c.Device(t.Context(), nil, "", func(DeviceCode) {}); err == nil {
		t.Error("an issuer without the flow")
	}
}

func TestExchange(t *testing.T) {
	i, c, _ := newDeviceIssuer(t, begun, "", "", "invalid_target")
	tokens, err := c.Exchange(t.Context(), "subject", "", []string{"read"}, "https://api.example")
	if err != nil || tokens.AccessToken != "person" || i.asked.Get("subject_token") != "subject" || i.asked.Get("subject_token_type") != accessToken ||
		i.asked.Get("resource") != "https://api.example" || i.asked.Get("scope") != "read" || i.asked.Has("actor_token") || i.asked.Has("actor_token_type") {
		t.Errorf("%v, %v, asked %v", tokens, err, i.asked)
	}
	if _, err := c.Exchange(t.Context(), "subject", "me", nil, ""); err != nil || i.asked.Get("actor_token") != "me" || i.asked.Get("actor_token_type") != accessToken {
		t.Errorf("%v, asked %v", err, i.asked)
	}
	if _, err := c.Exchange(t.Context(), "subject", "", nil, ""); err == nil || !strings.Contains(err.Error(), "invalid_target") {
		t.Errorf("a refusal: %v", err)
	}
}
