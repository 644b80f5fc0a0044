package bolt

import (
	"context"
	"errors"
	"slices"
	"strings"

	"gatehouse.dev/gatehouse/issuer/store"
)

// SaveConsent implements store.Consents.
func (db *DB) SaveConsent(ctx context.Context, userID, clientID string, scopes []string) error {
	return db.write(ctx, func(t *txn) error {
		client, err := need[store.Client](t, clients, []byte(clientID))
		if err != nil {
			return about("client", clientID, err)
		}
		if !t.has(users, []byte(userID)) {
			return about("user", userID, refuse(store.ErrNotFound))
		}
		given, _, err := t.consent(userID, clientID)
		if err != nil {
			return err
		}
		all := append(slices.Clone(given.Scopes), scopes...)
		slices.Sort(all)
		return errors.Join(
			putRow(t, consents, pair(userID, clientID), store.Consent{
				UserID: userID, ClientID: clientID, Scopes: slices.Compact(all),
				GivenAt: store.IssuedAt(t.now, client.NotBefore),
			}),
			t.audit(store.Event{Name: store.EventConsentGive, Subject: userID, Client: clientID, Detail: strings.Join(scopes, " ")}),
		)
	})
}

// Consent implements store.Consents.
func (db *DB) Consent(ctx context.Context, userID, clientID string) (c store.Consent, err error) {
	err = db.read(ctx, func(t *txn) error {
		given, found, err := t.consent(userID, clientID)
		if err == nil && !found {
			err = refuse(store.ErrNotFound)
		}
		c = given
		return err
	})
	return c, about("consent to client", clientID, err)
}

// consent is a consent in force: given to the client as it is now, not to one
// that was revoked, or deleted and had the same id.
func (t *txn) consent(userID, clientID string) (c store.Consent, found bool, err error) {
	client, found, err := row[store.Client](t, clients, []byte(clientID))
	if err != nil || !found {
		return store.Consent{}, false, err
	}
	c, found, err = row[store.Consent](t, consents, pair(userID, clientID))
	if err != nil || !found || c.GivenAt.Unix() <= client.NotBefore {
		return store.Consent{}, false, err
	}
	return c, true, nil
}

// ListConsents implements store.Consents.
func (db *DB) ListConsents(ctx context.Context, userID, after string, limit int) (some []store.Consent, err error) {
	err = db.read(ctx, func(t *txn) error {
		some = nil
		prefix := pair(userID, "")
		for _, key := range keysUnder(t, consents, prefix) {
			clientID := string(key[len(prefix):])
			if len(some) == limit || clientID <= after {
				continue
			}
			c, found, err := t.consent(userID, clientID)
			if err != nil {
				return err
			}
			if found {
				some = append(some, c)
			}
		}
		return nil
	})
	return some, err
}

// RevokeConsent implements store.Consents.
func (db *DB) RevokeConsent(ctx context.Context, userID, clientID string) error {
	return db.write(ctx, func(t *txn) error {
		key := pair(userID, clientID)
		if !t.has(consents, key) {
			return nil
		}
		return errors.Join(
			t.delete(consents, key),
			t.audit(store.Event{Name: store.EventConsentRevoke, Subject: userID, Client: clientID}),
		)
	})
}
