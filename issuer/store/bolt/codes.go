package bolt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/issuer/store"
)

// consumedCodeKept is how long after its redemption a code's replay is still
// recognised: far longer than an attacker's race, far shorter than a grant.
const consumedCodeKept = 24 * time.Hour

// CreateCode implements store.Codes.
func (db *DB) CreateCode(ctx context.Context, c store.Code) (store.Code, error) {
	err := db.write(ctx, func(t *txn) error {
		notBefore, _, err := t.parties(c.ClientID, c.UserID)
		if err != nil {
			return err
		}
		if err := t.sessionOf(c); err != nil {
			return err
		}
		if c.Hash.IsZero() || t.has(codes, c.Hash[:]) {
			return refuse(store.ErrConflict)
		}
		c.IssuedAt = store.IssuedAt(t.now, notBefore)
		return errors.Join(
			putRow(t, codes, c.Hash[:], c),
			t.expire(c.ExpiresAt, expireCode, c.Hash[:]),
			t.audit(store.Event{Name: store.EventAuthorization, Subject: c.UserID, Client: c.ClientID, Session: c.SessionID, Detail: strings.Join(c.Scopes, " ")}),
		)
	})
	return c, aboutCode(err)
}

// sessionOf is ErrNotFound where the session that a code hangs on has ended.
func (t *txn) sessionOf(c store.Code) error {
	if c.SessionID == "" {
		return nil
	}
	s, _, err := t.liveSession([]byte(c.SessionID))
	if err == nil && s.UserID != c.UserID {
		err = refuse(store.ErrNotFound)
	}
	return err
}

// parties are the not-before that concerns a client and a user together, and
// the user; ErrNotFound where one of them is gone or
// disabled.
func (t *txn) parties(clientID, userID string) (notBefore int64, u store.User, err error) {
	c, err := need[store.Client](t, clients, []byte(clientID))
	if err != nil {
		return 0, store.User{}, err
	}
	u, err = t.user([]byte(userID))
	if err == nil && (c.Disabled || u.Disabled) {
		err = refuse(store.ErrNotFound)
	}
	return max(c.NotBefore, u.NotBefore), u, err
}

// RedeemCode implements store.Codes.
func (db *DB) RedeemCode(ctx context.Context, r store.Redemption) (issued store.Issuance, err error) {
	if err := checkID("grant", r.GrantID); err != nil {
		return store.Issuance{}, err
	}
	if r.Decide == nil {
		return store.Issuance{}, errors.New("authorization code: a redemption decides the terms")
	}
	err = db.write(ctx, func(t *txn) (err error) {
		issued, err = t.redeem(r)
		return err
	})
	if err != nil {
		return store.Issuance{}, aboutCode(err)
	}
	return issued, nil
}

func (t *txn) redeem(r store.Redemption) (store.Issuance, error) {
	c, err := need[store.Code](t, codes, r.Code[:])
	if err != nil {
		return store.Issuance{}, err
	}
	switch {
	case c.ClientID != r.ClientID:
		return store.Issuance{}, refuse(store.ErrNotFound)
	case !c.ConsumedAt.IsZero():
		return store.Issuance{}, t.replayed(c)
	case !t.now.Before(c.ExpiresAt):
		return store.Issuance{}, refuse(store.ErrExpired)
	}
	notBefore, u, err := t.parties(c.ClientID, c.UserID)
	if err == nil {
		err = t.sessionOf(c)
	}
	if errors.Is(err, store.ErrNotFound) || (err == nil && c.IssuedAt.Unix() <= notBefore) {
		return store.Issuance{}, refuse(store.ErrRevoked)
	}
	if err != nil {
		return store.Issuance{}, err
	}
	terms, err := r.Decide(c)
	if err != nil {
		return store.Issuance{}, cmp.Or(t.consume(&c, ""), refuse(err))
	}
	g := store.Grant{
		ID: r.GrantID, UserID: c.UserID, ClientID: c.ClientID, SessionID: c.SessionID,
		Scopes: c.Scopes, Audience: c.Audience, AuthTime: c.AuthTime,
		IssuedAt: store.IssuedAt(t.now, notBefore), ExpiresAt: terms.ExpiresAt, Holder: terms.Holder,
	}
	err = errors.Join(t.grant(g, &c, terms.Refresh), t.audit(issueEvent(g, "authorization_code")))
	return store.Issuance{Code: c, Grant: g, User: u, IssuedAt: g.IssuedAt}, err
}

// replayed revokes what the first redemption of a code created: one of the two
// who presented it stole it (RFC 6749 §4.1.2, RFC 9700 §2.1.1). Only the first
// replay is recorded: whoever holds a used code could fill the log with it.
func (t *txn) replayed(c store.Code) error {
	if !c.ReplayedAt.IsZero() {
		return refuse(store.ErrReplayed)
	}
	c.ReplayedAt = t.now
	if err := putRow(t, codes, c.Hash[:], c); err != nil {
		return err
	}
	if c.GrantID != "" {
		if err := t.revokeGrant(c.GrantID); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	if err := t.audit(store.Event{
		Name: store.EventReplay, Result: store.Failure, Reason: "the authorization code was used before",
		Subject: c.UserID, Client: c.ClientID, Session: c.SessionID, Grant: c.GrantID,
	}); err != nil {
		return err
	}
	return refuse(store.ErrConsumed)
}

// issueEvent records that tokens were made from a grant.
func issueEvent(g store.Grant, grantType string) store.Event {
	return store.Event{Name: store.EventToken, Subject: g.UserID, Client: g.ClientID, Session: g.SessionID, Grant: g.ID, Detail: grantType}
}

// consume marks a code as spent and keeps it, to recognise a replay.
func (t *txn) consume(c *store.Code, grantID string) error {
	before := c.ExpiresAt
	c.ConsumedAt, c.GrantID = t.now, grantID
	return errors.Join(
		t.unexpire(before, expireCode, c.Hash[:]),
		t.expire(t.now.Add(consumedCodeKept), expireCode, c.Hash[:]),
		putRow(t, codes, c.Hash[:], *c),
	)
}

// grant stores a grant and its first refresh token, and spends its code.
func (t *txn) grant(g store.Grant, c *store.Code, refresh store.Hash) error {
	if err := t.consume(c, g.ID); err != nil {
		return err
	}
	return t.addGrant(g, refresh)
}

// addGrant stores a grant and its first refresh token.
func (t *txn) addGrant(g store.Grant, refresh store.Hash) error {
	if t.has(grants, []byte(g.ID)) {
		return about("grant", g.ID, store.ErrConflict)
	}
	err := errors.Join(
		putRow(t, grants, []byte(g.ID), g),
		t.put(sessionGrants, pair(g.SessionID, g.ID), nil),
		t.expire(g.ExpiresAt, expireGrant, []byte(g.ID)),
	)
	if err == nil && !refresh.IsZero() {
		err = t.addRefresh(g, refresh)
	}
	return err
}

func aboutCode(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("authorization code: %w", err)
}
