package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"gatehouse.dev/gatehouse/issuer/store"
)

// CreateDevice implements store.Devices.
func (db *DB) CreateDevice(ctx context.Context, d store.Device, most int) error {
	return aboutDevice(db.write(ctx, func(t *txn) error {
		if _, err := need[store.Client](t, clients, []byte(d.ClientID)); err != nil {
			return err
		}
		switch {
		case t.waiting(d.ClientID, most) >= most:
			return refuse(store.ErrFull)
		case d.Hash.IsZero() || d.UserCode.IsZero() || t.has(devices, d.Hash[:]) || t.has(userCodes, d.UserCode[:]):
			return refuse(store.ErrConflict)
		}
		row := d
		row.State, row.IssuedAt = store.DevicePending, t.now
		return errors.Join(
			putRow(t, devices, d.Hash[:], row),
			t.put(userCodes, d.UserCode[:], d.Hash[:]),
			t.put(clientDevices, pair(d.ClientID, string(d.Hash[:])), nil),
			t.expire(d.ExpiresAt, expireDevice, d.Hash[:]),
		)
	}))
}

// waiting counts a client's authorizations that wait, up to most. Only keys are
// looked at: a full client must not cost others their time.
func (t *txn) waiting(clientID string, most int) (n int) {
	prefix := pair(clientID, "")
	cursor := t.Bucket(clientDevices).Cursor()
	for key, _ := cursor.Seek(prefix); bytes.HasPrefix(key, prefix) && n < most; key, _ = cursor.Next() {
		n++
	}
	return n
}

// PendingDevice implements store.Devices.
func (db *DB) PendingDevice(ctx context.Context, userCode store.Hash) (d store.Device, err error) {
	err = db.read(ctx, func(t *txn) error {
		d, err = t.pendingDevice(userCode)
		return err
	})
	return d, aboutDevice(err)
}

func (t *txn) pendingDevice(userCode store.Hash) (store.Device, error) {
	d, err := need[store.Device](t, devices, t.Bucket(userCodes).Get(userCode[:]))
	if err == nil && (d.State != store.DevicePending || !t.now.Before(d.ExpiresAt)) {
		return store.Device{}, refuse(store.ErrNotFound)
	}
	return d, err
}

// DecideDevice implements store.Devices.
func (db *DB) DecideDevice(ctx context.Context, decision store.Decision) error {
	return aboutDevice(db.write(ctx, func(t *txn) error {
		d, err := t.pendingDevice(decision.UserCode)
		if err != nil {
			return err
		}
		if decision.Allowed {
			if err := t.allow(&d, decision); err != nil {
				return err
			}
			return errors.Join(
				putRow(t, devices, d.Hash[:], d),
				t.audit(store.Event{Name: store.EventAuthorization, Subject: d.UserID, Client: d.ClientID, Session: d.SessionID, Detail: "device: " + strings.Join(d.Granted, " ")}),
			)
		}
		d.State, d.DecidedAt = store.DeviceDenied, t.now
		return t.settle(d)
	}))
}

// allow notes whose login a device was allowed in, which must be alive.
func (t *txn) allow(d *store.Device, decision store.Decision) error {
	s, _, err := t.liveSession([]byte(decision.Session.ID))
	if err != nil {
		return err
	}
	notBefore, _, err := t.parties(d.ClientID, s.UserID)
	if err != nil {
		return err
	}
	d.State, d.DecidedAt = store.DeviceAllowed, store.IssuedAt(t.now, notBefore)
	d.UserID, d.SessionID, d.AuthTime, d.Granted = s.UserID, s.ID, s.AuthTime, decision.Scopes
	return nil
}

// PollDevice implements store.Devices.
func (db *DB) PollDevice(ctx context.Context, p store.Poll) (issued store.Issuance, err error) {
	if err := checkID("grant", p.GrantID); err != nil {
		return store.Issuance{}, err
	}
	if p.Decide == nil {
		return store.Issuance{}, errors.New("device code: a poll decides the terms")
	}
	err = db.write(ctx, func(t *txn) (err error) {
		issued, err = t.poll(p)
		return err
	})
	if err != nil {
		return store.Issuance{}, aboutDevice(err)
	}
	return issued, nil
}

func (t *txn) poll(p store.Poll) (store.Issuance, error) {
	d, err := need[store.Device](t, devices, p.Device[:])
	switch {
	case err != nil:
		return store.Issuance{}, err
	case d.ClientID != p.ClientID:
		return store.Issuance{}, refuse(store.ErrNotFound)
	case d.State == store.DeviceConsumed:
		return store.Issuance{}, t.fetchedAgain(d)
	case !t.now.Before(d.ExpiresAt):
		return store.Issuance{}, refuse(store.ErrExpired)
	case d.State == store.DeviceDenied:
		return store.Issuance{}, refuse(store.ErrDenied)
	case d.State == store.DevicePending:
		return store.Issuance{}, t.wait(d, p)
	case d.State != store.DeviceAllowed:
		return store.Issuance{}, fmt.Errorf("a device authorization is in the unknown state %d", d.State)
	}
	return t.fetch(d, p)
}

// wait notes that a device asked, and makes it wait longer where it came too
// soon (RFC 8628 §3.5).
func (t *txn) wait(d store.Device, p store.Poll) error {
	outcome := store.ErrPending
	if !d.PolledAt.IsZero() && t.now.Before(d.PolledAt.Add(d.Interval)) {
		outcome = store.ErrSlowDown
		d.Interval = min(d.Interval+p.Step, max(p.Longest, d.Interval))
	}
	d.PolledAt = t.now
	if err := putRow(t, devices, d.Hash[:], d); err != nil {
		return err
	}
	return refuse(outcome)
}

// fetch creates the grant.
func (t *txn) fetch(d store.Device, p store.Poll) (store.Issuance, error) {
	notBefore, u, err := t.parties(d.ClientID, d.UserID)
	if err == nil {
		err = t.sessionOf(store.Code{UserID: d.UserID, SessionID: d.SessionID})
	}
	if errors.Is(err, store.ErrNotFound) || err == nil && d.DecidedAt.Unix() <= notBefore {
		return store.Issuance{}, refuse(store.ErrRevoked)
	}
	if err != nil {
		return store.Issuance{}, err
	}
	terms, err := p.Decide(d)
	if err != nil {
		return store.Issuance{}, refuse(err)
	}
	g := store.Grant{
		ID: p.GrantID, UserID: d.UserID, ClientID: d.ClientID, SessionID: d.SessionID,
		Scopes: d.Granted, Audience: d.Audience, AuthTime: d.AuthTime,
		IssuedAt: store.IssuedAt(t.now, notBefore), ExpiresAt: terms.ExpiresAt, Holder: terms.Holder,
	}
	d.State, d.GrantID = store.DeviceConsumed, g.ID
	err = errors.Join(t.settle(d), t.addGrant(g, terms.Refresh), t.audit(issueEvent(g, "device_code")))
	return store.Issuance{Grant: g, User: u, IssuedAt: g.IssuedAt}, err
}

// settle stores an authorization that waits no longer.
func (t *txn) settle(d store.Device) error {
	return errors.Join(putRow(t, devices, d.Hash[:], d), t.delete(clientDevices, pair(d.ClientID, string(d.Hash[:]))))
}

// fetchedAgain revokes what a device code led to: it is a bearer's secret, and
// two have it. Only the first time is recorded.
func (t *txn) fetchedAgain(d store.Device) error {
	if !d.ReplayedAt.IsZero() {
		return refuse(store.ErrReplayed)
	}
	d.ReplayedAt = t.now
	if err := putRow(t, devices, d.Hash[:], d); err != nil {
		return err
	}
	if err := t.audit(store.Event{
		Name: store.EventReplay, Result: store.Failure, Reason: "the device code was used before",
		Subject: d.UserID, Client: d.ClientID, Session: d.SessionID, Grant: d.GrantID,
	}); err != nil {
		return err
	}
	if err := t.revokeGrant(d.GrantID); err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return refuse(store.ErrConsumed)
}

// dropDevice removes an expired device authorization.
func (t *txn) dropDevice(hash []byte) error {
	d, found, err := row[store.Device](t, devices, hash)
	if err != nil || !found {
		return err
	}
	return errors.Join(
		t.delete(userCodes, d.UserCode[:]), t.delete(devices, hash),
		t.delete(clientDevices, pair(d.ClientID, string(hash))),
	)
}

func aboutDevice(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("device code: %w", err)
}
