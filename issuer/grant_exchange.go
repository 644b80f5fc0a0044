package issuer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"gatehouse.dev/gatehouse/issuer/store"
	"gatehouse.dev/gatehouse/token"
)

// typeAccessToken is the one type of token that is taken and given (RFC 8693
// §3).
const typeAccessToken = "urn:ietf:params:oauth:token-type:access_token"

const (
	// maxActors bounds how often a token is passed on by delegation.
	maxActors = 4
	// maxDescent bounds how many tokens one descends from.
	maxDescent = 8
)

// exchange gives a client a token for another API, made from one that was
// presented to it (RFC 8693). now was taken before the client was read, as for
// client credentials.
//
// The new token opens no more than the presented one opens by the
// configuration's entry, lives no longer, and says what it was made from, so
// that whatever ends the presented token ends it too, at every gateway. It
// needs no row in the store.
func (s *server) exchange(ctx context.Context, now time.Time, client store.Client, f form) (*tokenResponse, error) {
	target, err := exchangeRequest(f)
	if err != nil {
		return nil, err
	}
	subject, err := s.exchanged(ctx, f.get("subject_token"), "subject_token")
	if err != nil {
		return nil, err
	}
	entry, allowed := s.config.exchangeFor(client.ID, target, subject)
	if !allowed {
		return nil, fail(codeInvalidTarget, "the client may not exchange this token for one of the target")
	}
	actor, err := s.actor(ctx, client, f)
	if err != nil {
		return nil, err
	}
	mode, err := modeOf(entry, actor != nil)
	if err != nil {
		return nil, err
	}
	t, err := s.descend(client, subject, actor, mode)
	if err != nil {
		return nil, err
	}
	return s.mintExchange(ctx, now, entry, f, subject, t)
}

// exchangeRequest checks the form of a request (RFC 8693 §2.1) and returns the
// one target: a token for several would be good at each of them for whoever of
// them has it.
func exchangeRequest(f form) (target string, err error) {
	targets := slices.Clone(f["resource"])
	if f.has("audience") && !slices.Contains(targets, f.get("audience")) {
		targets = append(targets, f.get("audience"))
	}
	switch {
	case !f.has("subject_token") || !f.has("subject_token_type"):
		return "", fail(codeInvalidRequest, "subject_token or subject_token_type is missing")
	case f.get("subject_token_type") != typeAccessToken:
		return "", fail(codeInvalidRequest, "the subject_token_type is not supported: it must be that of access tokens")
	case f.has("actor_token") != f.has("actor_token_type"):
		return "", fail(codeInvalidRequest, "actor_token and actor_token_type go together")
	case f.has("actor_token_type") && f.get("actor_token_type") != typeAccessToken:
		return "", fail(codeInvalidRequest, "the actor_token_type is not supported: it must be that of access tokens")
	case f.has("requested_token_type") && f.get("requested_token_type") != typeAccessToken:
		return "", fail(codeInvalidRequest, "the requested_token_type is not supported: it must be that of access tokens")
	case len(targets) == 0:
		return "", fail(codeInvalidRequest, "resource or audience is missing")
	case len(targets) > 1:
		return "", fail(codeInvalidTarget, "one target at a time")
	}
	return targets[0], nil
}

// exchanged are the claims of a token that somebody wants to exchange. One that
// is bound to a key is taken from who proves the key, and the new token is
// bound to it too; from others it would come out free of it (RFC 7800 §3.1).
func (s *server) exchanged(ctx context.Context, compact, parameter string) (*token.Claims, error) {
	claims, err := s.presented(ctx, compact)
	switch {
	case isOurs(err):
		return nil, err
	case err != nil:
		return nil, fail(codeInvalidRequest, parameter+" is invalid, expired or revoked").because(err)
	}
	return claims, nil
}

// actor are the claims of the actor token; nil: there is none. It must be one
// that the client got for itself: others' say nothing of who asks.
func (s *server) actor(ctx context.Context, client store.Client, f form) (*token.Claims, error) {
	if !f.has("actor_token") {
		return nil, nil
	}
	claims, err := s.exchanged(ctx, f.get("actor_token"), "actor_token")
	if err != nil {
		return nil, err
	}
	if claims.Subject() != client.ID || claims.ClientID() != client.ID || len(claims.Ancestors()) > 0 {
		return nil, fail(codeInvalidRequest, "actor_token is not one of the client's own")
	}
	return claims, nil
}

// modeOf is how the client acts. Where it does not say, it is named, unless it
// may do nothing but impersonate.
func modeOf(entry TokenExchange, hasActor bool) (string, error) {
	delegates, impersonates := slices.Contains(entry.Allow, delegation), slices.Contains(entry.Allow, impersonation)
	switch {
	case hasActor && !delegates:
		return "", fail(codeInvalidRequest, "the client may not act by delegation")
	case hasActor, !impersonates:
		return delegation, nil
	default:
		return impersonation, nil
	}
}

// descent is what the new token says of where it comes from.
type descent struct {
	client    store.Client
	act       map[string]any
	mayAct    any
	ancestors []token.Ancestor
	machine   bool
	authTime  time.Time
}

// descend derives a token's descent, within bounds: each link could be a step
// of an attacker's on the way to somewhere else.
func (s *server) descend(client store.Client, subject, actor *token.Claims, mode string) (d descent, err error) {
	raw := subject.Raw()
	d = descent{client: client, mayAct: raw["may_act"], machine: subject.SubjectType() == token.SubjectClient, authTime: instant(raw["auth_time"])}
	if _, restricted := raw["may_act"]; restricted && !s.mayAct(d.mayAct, client) {
		return d, fail(codeInvalidRequest, "subject_token names others who may act")
	}
	d.act, _ = raw["act"].(map[string]any)
	if mode == delegation {
		link := map[string]any{"sub": client.ID}
		if d.act != nil {
			link["act"] = d.act
		}
		d.act = link
	}
	d.ancestors = append(d.ancestors, ancestorOf(subject))
	if actor != nil {
		d.ancestors = append(d.ancestors, ancestorOf(actor))
	}
	d.ancestors = append(d.ancestors, subject.Ancestors()...)
	if actors(d.act) > maxActors || len(d.ancestors) > maxDescent {
		return d, fail(codeInvalidRequest, "subject_token was exchanged too often")
	}
	return d, nil
}

// mayAct tells whether may_act lets the client act (RFC 8693 §4.4). A member
// that is not understood may be a condition that is not met.
func (s *server) mayAct(claim any, client store.Client) bool {
	members, _ := claim.(map[string]any)
	for name, value := range members {
		if name == "sub" && value == client.ID || name == "client_id" && value == client.ID || name == "iss" && value == s.config.URL {
			continue
		}
		return false
	}
	return members["sub"] == client.ID
}

// actors counts the links of an act claim (RFC 8693 §4.1).
func actors(act map[string]any) (n int) {
	for act != nil {
		n++
		act, _ = act["act"].(map[string]any)
	}
	return n
}

func ancestorOf(c *token.Claims) token.Ancestor {
	return token.Ancestor{ID: c.ID(), ClientID: c.ClientID(), KeyID: c.KeyID(), IssuedAt: c.IssuedAt()}
}

func instant(claim any) time.Time {
	number, _ := claim.(json.Number)
	seconds, err := number.Int64()
	if err != nil {
		return time.Time{}
	}
	return time.Unix(seconds, 0)
}

// mintExchange makes the answer.
func (s *server) mintExchange(ctx context.Context, now time.Time, entry TokenExchange, f form, subject *token.Claims, d descent) (*tokenResponse, error) {
	t := accessToken{
		subject: subject.Subject(), client: d.client, audience: []string{entry.Target},
		notAfter: subject.ExpiresAt(), descent: &d,
	}
	reached := entry.reach(s.catalog, subject.Scopes())
	notBefore := []int64{d.client.NotBefore}
	if !d.machine {
		user, err := s.store.User(ctx, subject.Subject())
		switch {
		case errors.Is(err, store.ErrNotFound):
			return nil, fail(codeInvalidRequest, "subject_token is invalid, expired or revoked").because(err)
		case err != nil:
			return nil, fmt.Errorf("reading the subject of an exchange: %w", err)
		case user.Disabled:
			return nil, fail(codeInvalidRequest, "subject_token is invalid, expired or revoked")
		}
		t.person = &personClaims{user: user, sessionID: subject.SessionID(), grantID: subject.GrantID(), authTime: d.authTime}
		reached = s.catalog.ofPerson(reached, user.AllRoles)
		notBefore = append(notBefore, user.NotBefore)
	}
	var err error
	if t.scopes, err = s.exchangedScopes(d.client, reached, f); err != nil {
		return nil, err
	}
	t.issuedAt = store.IssuedAt(now, notBefore...)
	if !t.issuedAt.Before(t.notAfter) {
		return nil, fail(codeInvalidRequest, "subject_token is invalid, expired or revoked")
	}
	signed, expiresAt, err := s.mintAccess(ctx, t)
	if err != nil {
		return nil, err
	}
	s.audit.exchanged(ctx, d.client.ID, subject, entry.Target, t.scopes)
	response := bearerResponse(signed, expiresAt.Sub(t.issuedAt), t.scopes)
	response.IssuedTokenType = typeAccessToken
	return response, nil
}

// exchangedScopes are what was asked for, or all that there is: of what the
// subject's token reaches, as far as the client may go itself.
func (s *server) exchangedScopes(client store.Client, reached []string, f form) ([]string, error) {
	asked, ok := parseScope(f.get("scope"))
	if !ok {
		return nil, fail(codeInvalidScope, "scope does not follow its grammar")
	}
	reached = keep(reached, func(scope string) bool { return s.catalog.mayAsk(client, scope) })
	for _, scope := range asked {
		if !slices.Contains(reached, scope) {
			return nil, fail(codeInvalidScope, "a scope is more than the exchange can give")
		}
	}
	if len(asked) == 0 {
		asked = reached
	}
	if len(asked) == 0 {
		return nil, fail(codeInvalidScope, "the exchange can give no scope of the target")
	}
	return asked, nil
}
