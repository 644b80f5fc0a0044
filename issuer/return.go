package issuer

import (
	"net/url"

	"gatehouse.dev/gatehouse/issuer/login"
)

// returning is where and how a client wants its answer.
type returning struct {
	redirectURI string
	state       string
	formPost    bool
}

func returnOf(f form) returning {
	return returning{f.get("redirect_uri"), f.get("state"), f.get("response_mode") == modeFormPost}
}

func returnOfFlow(f *login.Flow) returning { return returning{f.RedirectURI, f.State, f.FormPost} }

// errorReturn leads back to a proven redirect URI with an error (RFC 6749
// §4.1.2.1) and the issuer's name (RFC 9207 §2).
func (s *server) errorReturn(to returning, code, description string) login.Return {
	answer := url.Values{"error": {code}}
	if description != "" {
		answer.Set("error_description", description)
	}
	return s.returnWith(to, answer)
}

// returnWith posts the answer, or adds it to the redirect URI's own query.
func (s *server) returnWith(to returning, answer url.Values) login.Return {
	if to.state != "" {
		answer.Set("state", to.state)
	}
	answer.Set("iss", s.config.URL)
	if to.formPost {
		return login.Return{Location: to.redirectURI, Fields: answer}
	}
	return login.Return{Location: appendQuery(to.redirectURI, answer)}
}
