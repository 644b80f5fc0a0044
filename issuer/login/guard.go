package login

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"strings"

	"gatehouse.dev/gatehouse/issuer/store"
)

// fromOurPage tells whether the browser says that a POST comes from a page of
// this origin. Clients that say nothing are left to the token in the form;
// those that do say may not contradict it (Fetch Metadata; RFC 6454 §7).
func fromOurPage(r *http.Request, origin string) bool {
	for header, want := range map[string]string{"Sec-Fetch-Site": "same-origin", "Origin": origin} {
		if values := r.Header[header]; len(values) > 1 || len(values) == 1 && values[0] != want {
			return false
		}
	}
	return true
}

// matches compares a form's token in constant time; an empty one matches
// nothing.
func matches(presented, want string) bool {
	return want != "" && subtle.ConstantTimeCompare([]byte(presented), []byte(want)) == 1
}

// consentToken is the consent form's token. It holds for this flow, this login
// and exactly these scopes, for a device with this code: what a person allows is what they saw.
func consentToken(f *Flow, session *store.Session, scopes []string) string {
	return authenticator(f.CSRF, "consent", session.ID, strings.Join(scopes, " "), f.ClientID, f.UserCode)
}

// endToken is the logout form's token. The cookie's secret is its key, so it
// holds for this browser's session alone.
func endToken(cookie string) string { return authenticator(cookie, "end session") }

func authenticator(key string, parts ...string) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(strings.Join(parts, "\x00")))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}
