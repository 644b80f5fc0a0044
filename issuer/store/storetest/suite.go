// Package storetest is what every backend of the store must pass.
package storetest

import (
	"context"
	"sync"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/issuer/store"
)

// Retention is how long the stores under test keep revocations.
const Retention = 15 * time.Minute

// Backend makes stores of one kind.
type Backend struct {
	// Open makes an empty store that uses this clock and Retention, and closes
	// it when the test ends.
	Open func(t *testing.T, now func() time.Time) store.Store
	// Reopen closes a store that Open made and opens it again.
	Reopen func(t *testing.T, s store.Store, now func() time.Time) store.Store
}

// Run runs the whole suite.
func Run(t *testing.T, b Backend) {
	for name, test := range map[string]func(*testing.T, *env){
		"Clients":             testClients,
		"DeletedClientIsGone": testDeletedClientIsGone,
		"Users":               testUsers,
		"Subjects":            testSubjectsAreDisjoint,
		"Sessions":            testSessions,
		"SessionReplacement":  testSessionReplacement,
		"SessionRevocation":   testSessionRevocation,
		"Consents":            testConsents,
		"Logouts":             testLogouts,
		"LogoutsOfUsers":      testLogoutsOfUsers,
		"LogoutRetries":       testLogoutRetries,
		"Codes":               testCodes,
		"CodeRefusals":        testCodeRefusals,
		"CodeReplay":          testCodeReplay,
		"CodeRace":            testCodeRace,
		"Rotation":            testRotation,
		"RotationGrace":       testRotationGrace,
		"RotationRefusals":    testRotationRefusals,
		"RotationReuse":       testRotationReuse,
		"RotationRace":        testRotationRace,
		"RotationRaceNoGrace": testRotationRaceWithoutGrace,
		"GrantRevocation":     testGrantRevocation,
		"NotBefore":           testNotBefore,
		"Devices":             testDevices,
		"DevicePace":          testDevicePace,
		"DeviceRefusals":      testDeviceRefusals,
		"DeviceRevocation":    testDeviceRevocation,
		"DeviceRace":          testDeviceRace,
		"DeviceBounds":        testDeviceBounds,
		"Keys":                testKeys,
		"KeyPurge":            testKeyPurge,
		"Log":                 testLog,
		"LogGapless":          testLogIsGapless,
		"State":               testState,
		"Alive":               testAlive,
		"Changed":             testChanged,
		"Sweep":               testSweep,
		"SweepKeepsReplays":   testSweepKeepsReplays,
		"Onces":               testOnces,
		"OnceRace":            testOnceRace,
		"PushedRequests":      testPushedRequests,
		"PushedRace":          testPushedRace,
		"Reopen":              testReopen,
		"Pages":               testPages,
		"Groups":              testGroups,
		"GroupRoles":          testGroupRoles,
		"UserUpdates":         testUserUpdates,
		"ClientUpdates":       testClientUpdates,
		"Disabling":           testDisabling,
		"SessionList":         testSessionList,
		"ConsentList":         testConsentList,
		"RegistrationTokens":  testRegistrationTokens,
		"RegistrationRace":    testRegistrationRace,
		"Registrations":       testRegistrations,
		"Audit":               testAudit,
		"AuditOfChanges":      testAuditOfChanges,
		"AuditSweep":          testAuditSweep,
		"CancelledContext":    testCancelledContext,
	} {
		t.Run(name, func(t *testing.T) {
			clock := &clock{at: time.Date(2030, 1, 2, 3, 4, 5, 600_000_000, time.UTC)}
			test(t, &env{t: t, Store: b.Open(t, clock.now), ctx: t.Context(), clock: clock, backend: b})
		})
	}
}

// clock is a clock that only a test moves.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// env is a store under test with what a test needs beside it.
type env struct {
	store.Store
	t       *testing.T
	ctx     context.Context
	clock   *clock
	backend Backend
}

func must[T any](t *testing.T) func(T, error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func (e *env) ok(err error) {
	e.t.Helper()
	if err != nil {
		e.t.Fatal(err)
	}
}

// last is the end of the revocation log.
func (e *env) last() uint64 {
	e.t.Helper()
	return must[uint64](e.t)(e.LastSequence(e.ctx))
}

// logged are the entries after a sequence.
func (e *env) logged(after uint64) []store.Revocation {
	e.t.Helper()
	return must[[]store.Revocation](e.t)(e.Log(e.ctx, after, 1000))
}

// inState tells whether a revocation is in force.
func (e *env) inState(kind store.Kind, id string) bool {
	e.t.Helper()
	for _, r := range e.state(100) {
		if r.Kind == kind && r.ID == id {
			return true
		}
	}
	return false
}

// state is everything in force, read in parts.
func (e *env) state(limit int) (all []store.Revocation) {
	e.t.Helper()
	var cursor []byte
	for {
		part, next, err := e.State(e.ctx, cursor, limit)
		e.ok(err)
		if len(part) > limit {
			e.t.Fatalf("a part has %d entries, the limit is %d", len(part), limit)
		}
		all = append(all, part...)
		if next == nil {
			return all
		}
		cursor = next
	}
}

func (e *env) client(id string) store.Client {
	e.t.Helper()
	e.ok(e.CreateClient(e.ctx, store.Client{
		ID: id, Type: store.Confidential, Secret: store.HashOf("secret of " + id), Scopes: []string{"read:orders"},
	}))
	return must[store.Client](e.t)(e.Client(e.ctx, id))
}

func (e *env) user(login string) store.User {
	e.t.Helper()
	id := store.NewID(store.UserIDPrefix)
	e.ok(e.CreateUser(e.ctx, store.User{ID: id, Login: store.Login(login), Roles: []string{"customer"}, Password: "$argon2id$"}))
	return must[store.User](e.t)(e.User(e.ctx, id))
}

func (e *env) session(u store.User) (store.Session, store.Hash) {
	e.t.Helper()
	cookie := store.HashOf(store.NewToken("ghs_"))
	s, err := e.CreateSession(e.ctx, store.Session{
		ID: store.NewID("sid_"), Cookie: cookie, UserID: u.ID,
		AuthTime: e.clock.now(), ExpiresAt: e.clock.now().Add(12 * time.Hour),
	})
	e.ok(err)
	return s, cookie
}

// flow is a person who logged in and let a client have a code.
type flow struct {
	client  store.Client
	user    store.User
	session store.Session
	code    store.Code
}

func (e *env) flow(clientID, login string) flow {
	e.t.Helper()
	f := flow{client: e.client(clientID), user: e.user(login)}
	f.session, _ = e.session(f.user)
	f.code = e.code(f)
	return f
}

func (e *env) code(f flow) store.Code {
	e.t.Helper()
	c, err := e.CreateCode(e.ctx, e.draft(f))
	e.ok(err)
	return c
}

func (e *env) draft(f flow) store.Code {
	return store.Code{
		Hash: store.HashOf(store.NewToken("ghc_")), ClientID: f.client.ID, UserID: f.user.ID, SessionID: f.session.ID,
		RedirectURI: "https://app.example/cb", Scopes: []string{"openid", "read:orders"},
		Audience: []string{"https://orders.example"}, Nonce: "n", Challenge: "c",
		AuthTime: f.session.AuthTime, ExpiresAt: e.clock.now().Add(time.Minute),
	}
}

// redemption of a flow's code, with a first refresh token.
func (e *env) redemption(f flow) (store.Redemption, string) {
	refresh := store.NewToken(store.RefreshPrefix)
	terms := store.Terms{ExpiresAt: e.clock.now().Add(720 * time.Hour), Refresh: store.HashOf(refresh)}
	return store.Redemption{
		Code: f.code.Hash, ClientID: f.client.ID, GrantID: store.NewID("gnt_"),
		Decide: func(store.Code) (store.Terms, error) { return terms, nil },
	}, refresh
}

// granted is a flow that was redeemed.
func (e *env) granted(clientID, login string) (flow, store.Grant, string) {
	e.t.Helper()
	f := e.flow(clientID, login)
	r, refresh := e.redemption(f)
	issued, err := e.RedeemCode(e.ctx, r)
	e.ok(err)
	return f, issued.Grant, refresh
}

var successorKey = []byte("a key of thirty-two bytes or so.")

// grace is what rotations in this suite allow.
const grace = 10 * time.Second

func rotation(clientID, token string) store.Rotation {
	return store.Rotation{
		Token: store.HashOf(token), Successor: store.HashOf(store.Successor(successorKey, token)),
		ClientID: clientID, Grace: grace,
	}
}
