package store

import (
	"context"
	"errors"
	"time"
)

// What a device that asks for its tokens learns (RFC 8628 §3.5), besides
// ErrNotFound, ErrExpired, ErrConsumed and ErrRevoked.
var (
	// ErrPending: the person has not decided yet.
	ErrPending = errors.New("not decided yet")
	// ErrSlowDown: it asks too often.
	ErrSlowDown = errors.New("asked too often")
	// ErrDenied: the person said no.
	ErrDenied = errors.New("denied")
	// ErrFull: there are too many of them.
	ErrFull = errors.New("too many")
)

// DeviceState is how far a device authorization has come. Zero is no state.
type DeviceState uint8

// States of a device authorization, in order.
const (
	// DevicePending waits for the person.
	DevicePending DeviceState = iota + 1
	// DeviceAllowed waits for the device to fetch its tokens.
	DeviceAllowed
	// DeviceDenied was denied by the person.
	DeviceDenied
	// DeviceConsumed was fetched.
	DeviceConsumed
)

// Device is a device authorization (RFC 8628).
type Device struct {
	// Hash is that of the device code; UserCode is keyed, for user codes are
	// short.
	Hash     Hash
	UserCode Hash
	ClientID string
	Scopes   []string
	Audience []string
	State    DeviceState
	// UserID, SessionID and AuthTime are of the person who allowed it; Granted
	// are the scopes that they allowed.
	UserID    string    `json:",omitempty"`
	SessionID string    `json:",omitempty"`
	AuthTime  time.Time `json:",omitzero"`
	Granted   []string  `json:",omitempty"`
	// PolledAt is when the device asked last; Interval how long it has to wait
	// from then.
	PolledAt time.Time `json:",omitzero"`
	Interval time.Duration
	// IssuedAt is kept by the store.
	IssuedAt  time.Time
	ExpiresAt time.Time
	// DecidedAt is kept by the store: the person's decision dates from then.
	DecidedAt time.Time `json:",omitzero"`
	// GrantID is the grant that came of it; empty: none.
	GrantID string `json:",omitempty"`
	// ReplayedAt is when it was first fetched again; zero: not yet.
	ReplayedAt time.Time `json:",omitzero"`
}

// Decision is what a person says of a device.
type Decision struct {
	UserCode Hash
	// Allowed: the person allowed Scopes, in Session.
	Allowed bool
	Session Session
	Scopes  []string
}

// Poll is a device that asks for its tokens.
type Poll struct {
	Device Hash
	// ClientID is the authenticated client that asks.
	ClientID string
	// GrantID names the grant to be created.
	GrantID string
	// Step is added to the interval each time that the device asks too soon,
	// up to Longest.
	Step, Longest time.Duration
	// Decide says what is granted. It may run more than once, so it only
	// computes.
	Decide func(Device) (Terms, error)
}

// Devices are device authorizations (RFC 8628).
type Devices interface {
	// CreateDevice stores a device authorization in DevicePending. ErrFull: its
	// client has that many waiting already. ErrConflict: one of its codes is
	// taken. ErrNotFound: no such client.
	CreateDevice(ctx context.Context, d Device, most int) error
	// PendingDevice is what waits behind a user code, or ErrNotFound.
	PendingDevice(ctx context.Context, userCode Hash) (Device, error)
	// DecideDevice records a person's decision, exactly once. ErrNotFound:
	// nothing waits behind the code any more, or the session has ended.
	DecideDevice(ctx context.Context, d Decision) error
	// PollDevice answers a device. Once allowed it creates the grant, exactly
	// once, and the first refresh token where the terms have one.
	//
	// ErrNotFound: no such code, or another client's (which then learns and
	// changes nothing). ErrPending; ErrSlowDown: it asked before the interval
	// was over, which is longer now. ErrDenied. ErrExpired. ErrConsumed: it was
	// fetched before; the grant is revoked, for two hold the code; ErrReplayed:
	// not for the first time. ErrRevoked: client, user or session has ended since
	// the decision. An error of Decide: nothing changes.
	PollDevice(ctx context.Context, p Poll) (Issuance, error)
}
