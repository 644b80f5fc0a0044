package issuer

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"

	"gatehouse.dev/gatehouse/issuer/login"
	"gatehouse.dev/gatehouse/issuer/store"
)

// Leaving implements login.Authority: it validates a client's request to log
// somebody out (OpenID Connect RP-Initiated Logout §2, §3). Where a browser may
// go afterwards is compared byte by byte with what the client registered; a
// redirect to anywhere else would make an open redirector of us.
func (s *server) Leaving(ctx context.Context, form login.Form) (l login.Leaving, err error) {
	clientID := form("client_id")
	if compact := form("id_token_hint"); compact != "" {
		hint, err := s.hint(compact)
		if err != nil {
			return l, login.Mistake("id_token_hint is no ID token of this issuer")
		}
		if clientID == "" {
			clientID = hint.Audience[0]
		}
		if !slices.Contains(hint.Audience, clientID) {
			return l, login.Mistake("id_token_hint is not for the client that client_id names")
		}
		l.SessionID = hint.SessionID
	}
	target := form("post_logout_redirect_uri")
	if clientID == "" {
		if target != "" {
			return l, login.Mistake("post_logout_redirect_uri needs an id_token_hint or a client_id")
		}
		return l, nil
	}
	client, err := s.store.Client(ctx, clientID)
	switch {
	case errors.Is(err, store.ErrNotFound), client.Disabled:
		return login.Leaving{}, login.Mistake("the client is not known")
	case err != nil:
		return login.Leaving{}, fmt.Errorf("reading client: %w", err)
	}
	if l.Client = client.Name; l.Client == "" {
		l.Client = client.ID
	}
	l.Location, err = afterLogout(client, target, form("state"))
	return l, err
}

// maxState bounds the state that goes back to a client, in bytes.
const maxState = 1024

// afterLogout is where the browser goes once nobody is logged in; empty where
// the client does not ask for it.
func afterLogout(client store.Client, target, state string) (string, error) {
	switch {
	case target == "":
		return "", nil
	case !slices.Contains(client.PostLogoutRedirectURIs, target) || !redirectable(target):
		return "", login.Mistake("post_logout_redirect_uri is not registered for the client")
	case len(state) > maxState:
		return "", login.Mistake("state is too long")
	case state == "":
		return target, nil
	default:
		return appendQuery(target, url.Values{"state": {state}}), nil
	}
}
