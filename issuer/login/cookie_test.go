package login

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func testCookies(t testing.TB, origin string) *cookies {
	t.Helper()
	c, err := newCookies(bytes.Repeat([]byte{7}, 32), origin)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func testFlow(id string) *Flow {
	age := int64(5)
	return &Flow{ID: id, CSRF: "c", ClientID: "web", RedirectURI: "https://app.example/cb", State: "s", Nonce: "n",
		Challenge: "x", Scopes: []string{"openid"}, Resources: []string{"https://a"}, MaxAge: &age, Subject: "usr_1", StartedAt: start}
}

func TestSealedFlowComesBack(t *testing.T) {
	c := testCookies(t, "https://issuer.example")
	name := c.flowName("a")
	sealed, err := c.seal(name, testFlow("a"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(testFlow("a"), c.open(name, sealed)); diff != "" {
		t.Error(diff)
	}
	if strings.Contains(sealed, "web") {
		t.Error("the sealed flow can be read")
	}
}

// Whatever a browser sends that we did not seal for exactly this cookie is
// nothing.
func TestAlteredFlowIsNothing(t *testing.T) {
	c := testCookies(t, "https://issuer.example")
	name := c.flowName("a")
	sealed, err := c.seal(name, testFlow("a"))
	if err != nil {
		t.Fatal(err)
	}
	other, err := newCookies(bytes.Repeat([]byte{8}, 32), "https://issuer.example")
	if err != nil {
		t.Fatal(err)
	}
	if c.open(c.flowName("b"), sealed) != nil {
		t.Error("a flow opens under another cookie's name")
	}
	if other.open(name, sealed) != nil {
		t.Error("a flow opens with another key")
	}
	for i := range sealed {
		altered := []byte(sealed)
		altered[i] ^= 1
		if c.open(name, string(altered)) != nil {
			t.Fatalf("a flow opens though byte %d was altered", i)
		}
	}
	for i := range sealed {
		if c.open(name, sealed[:i]) != nil {
			t.Fatalf("a flow opens though cut to %d bytes", i)
		}
	}
}

func FuzzOpenCookie(f *testing.F) {
	c := testCookies(f, "https://issuer.example")
	sealed, err := c.seal(c.flowName("a"), testFlow("a"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add("")
	f.Add("AAAA")
	f.Fuzz(func(t *testing.T, value string) {
		// Nothing opens but what was sealed with this key.
		if opened := c.open(c.flowName("a"), value); opened != nil && !cmp.Equal(testFlow("a"), opened) {
			t.Errorf("%q opens as %+v", value, opened)
		}
	})
}

func TestCookieAttributes(t *testing.T) {
	for origin, want := range map[string]string{
		"https://issuer.example": "__Host-gatehouse-session=v; Path=/; HttpOnly; Secure; SameSite=Lax",
		"http://127.0.0.1:9400":  "gatehouse-session=v; Path=/; HttpOnly; SameSite=Lax",
	} {
		c := testCookies(t, origin)
		if got := c.cookie(c.name("session"), "v").String(); got != want {
			t.Errorf("%s: %s, want %s", origin, got, want)
		}
	}
}

func TestFlowTooLargeForACookie(t *testing.T) {
	c := testCookies(t, "https://issuer.example")
	f := testFlow("a")
	f.State = strings.Repeat("x", 4000)
	if err := c.keep(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil), f, start); err != errTooLarge {
		t.Errorf("keep: %v", err)
	}
}

// A browser keeps a bounded number of flows; the oldest goes, the one being
// kept stays.
func TestFlowsPerBrowserAreBounded(t *testing.T) {
	c := testCookies(t, "https://issuer.example")
	jar := map[string]string{}
	for i, id := range []string{"a", "b", "c", "d", "e", "f", "b2", "f"} {
		r := httptest.NewRequest("GET", "/", nil)
		for name, value := range jar {
			r.AddCookie(&http.Cookie{Name: name, Value: value})
		}
		flow := testFlow(id)
		flow.StartedAt = start.Add(time.Duration(i) * time.Second)
		w := httptest.NewRecorder()
		if err := c.keep(w, r, flow, start.Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		for _, set := range w.Result().Cookies() {
			if set.MaxAge < 0 {
				delete(jar, set.Name)
			} else {
				jar[set.Name] = set.Value
			}
		}
		if len(jar) > maxFlows {
			t.Fatalf("the browser holds %d flows", len(jar))
		}
		if jar[c.flowName(id)] == "" {
			t.Fatalf("the flow %s was not kept", id)
		}
	}
	if jar[c.flowName("a")] != "" || jar[c.flowName("e")] == "" {
		t.Error("it was not the oldest flow that went")
	}
}
