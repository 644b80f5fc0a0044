package store

import (
	"context"
	"strings"
	"time"
)

// Event is a record of the audit log: who did what to whom, from where, and
// what became of it. Never a secret, a code or a token.
type Event struct {
	// Sequence is its place in the log, from 1, without gaps.
	Sequence uint64 `json:"sequence"`
	// At is when it happened.
	At time.Time `json:"time"`
	// Name says what happened, e.g. "user.update".
	Name string `json:"event"`
	// Result is one of the Results.
	Result string `json:"result"`
	// Reason says why it did not succeed, in constant words.
	Reason string `json:"reason,omitempty"`
	// Actor is the administrator; empty: the subject or the client itself.
	Actor string `json:"actor,omitempty"`
	// Address is where the request came from; empty: this machine.
	Address string `json:"address,omitempty"`
	// Subject is the user's id, Client the client's.
	Subject string `json:"subject,omitempty"`
	Client  string `json:"client,omitempty"`
	Session string `json:"session,omitempty"`
	Grant   string `json:"grant,omitempty"`
	// Detail is what else there is to know: the grant type, the fields changed.
	Detail string `json:"detail,omitempty"`
}

// Results of events.
const (
	Success   = "success"
	Failure   = "failure"
	Throttled = "throttled"
)

// Names of the events that the store records itself, in the transaction of what
// they tell.
const (
	EventClientCreate     = "client.create"
	EventClientUpdate     = "client.update"
	EventClientSecret     = "client.secret"
	EventClientRevoke     = "client.revoke"
	EventClientDelete     = "client.delete"
	EventClientRegister   = "client.register"
	EventClientReregister = "client.reregister"
	EventClientUnregister = "client.unregister"
	EventRegistration     = "registration_token.create"
	EventRegistrationEnd  = "registration_token.delete"
	EventUserCreate       = "user.create"
	EventUserUpdate       = "user.update"
	EventUserPassword     = "user.password"
	EventUserRevoke       = "user.revoke"
	EventUserDelete       = "user.delete"
	EventUserRehash       = "user.rehash"
	EventGroupCreate      = "group.create"
	EventGroupUpdate      = "group.update"
	EventGroupDelete      = "group.delete"
	EventSessionStart     = "session.start"
	EventSessionRevoke    = "session.revoke"
	EventConsentGive      = "consent.give"
	EventConsentRevoke    = "consent.revoke"
	EventAuthorization    = "authorization"
	EventToken            = "token.issue"
	EventTokenRevoke      = "token.revoke"
	EventReplay           = "token.replay"
	EventGrantRevoke      = "grant.revoke"
	EventKeyPut           = "key.put"
	EventKeyPurge         = "key.purge"
	EventKeyDelete        = "key.delete"
	EventKeyReseal        = "key.reseal"
	EventRestore          = "store.restore"
)

// EventBackup is a copy of the database that somebody took, recorded by who
// gives it out.
const EventBackup = "store.backup"

// Origin is where a change comes from.
type Origin struct {
	// Actor is the administrator; empty: whom the change concerns.
	Actor   string
	Address string
	// Client is the client that asks, for events that name no other.
	Client string
}

type originKey struct{}

// WithOrigin lets what is changed under this context be recorded as coming from
// there.
func WithOrigin(ctx context.Context, o Origin) context.Context {
	return context.WithValue(ctx, originKey{}, o)
}

// OriginOf is the origin of a context; zero: the issuer itself.
func OriginOf(ctx context.Context) Origin {
	o, _ := ctx.Value(originKey{}).(Origin)
	return o
}

// EventQuery selects events; empty fields select all.
type EventQuery struct {
	// After is the sequence to begin behind.
	After uint64
	// Limit is how many are returned at most.
	Limit int
	// Since is the earliest, Until the latest time.
	Since, Until            time.Time
	Subject, Client, Result string
	// Name is an event's name, or the part before its dot.
	Name string
}

// Matches tells whether an event is among those selected.
func (q EventQuery) Matches(e Event) bool {
	family, _, _ := strings.Cut(e.Name, ".")
	return (q.Since.IsZero() || !e.At.Before(q.Since)) &&
		(q.Until.IsZero() || !e.At.After(q.Until)) &&
		(q.Subject == "" || q.Subject == e.Subject) &&
		(q.Client == "" || q.Client == e.Client) &&
		(q.Result == "" || q.Result == e.Result) &&
		(q.Name == "" || q.Name == e.Name || q.Name == family)
}

// EventHead is a place in the audit log and the seal of all up to it.
type EventHead struct {
	Sequence uint64
	Seal     Hash
}

// Audit is the audit log. Every other change of the store records itself in it,
// in the same transaction. Records are chained by seals: each covers the one
// before, so that one that was changed, taken out or put in between shows.
type Audit interface {
	// RecordEvents appends events that no change of the store goes with, in
	// order; what has no time gets the present one.
	RecordEvents(ctx context.Context, events []Event) error
	// Events are those that a query selects, in order. One call looks at so
	// many records only: next is where the next one begins, more tells whether
	// there is something to look at.
	Events(ctx context.Context, q EventQuery) (found []Event, next uint64, more bool, err error)
	// VerifyEvents checks at most limit seals behind a place, from the oldest
	// record that is kept where the place is zero, and returns the place it
	// came to. ErrTampered: a seal does not hold.
	VerifyEvents(ctx context.Context, after EventHead, limit int) (head EventHead, more bool, err error)
}
