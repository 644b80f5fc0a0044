package bolt

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse.dev/gatehouse/issuer/store"
)

// crashKind is something else that is done until the process dies: do returns
// what identifies it, once all of it was acknowledged; verify asks the file,
// once.
type crashKind struct {
	name   string
	do     func(t *testing.T, db *DB) (string, error)
	verify func(t *testing.T, db *DB, id string) error
}

var errAgain = errors.New("what was used up can be used again")

// crashKinds are all that may be used once, besides codes and refresh tokens,
// and all that must not get lost.
var crashKinds = []crashKind{
	{"device", crashDevice, func(t *testing.T, db *DB, id string) error {
		_, err := db.PollDevice(t.Context(), crashPoll(id))
		return wantError(err, store.ErrConsumed)
	}},
	{"pushed", func(t *testing.T, db *DB) (string, error) {
		id := store.NewToken("ghp_")
		push := db.PushRequest(t.Context(), store.PushedRequest{Hash: store.HashOf(id), ClientID: "app", Parameters: "a=b", ExpiresAt: crashLater()})
		_, take := db.TakeRequest(t.Context(), store.HashOf(id), "app")
		return id, errors.Join(push, take)
	}, func(t *testing.T, db *DB, id string) error {
		_, err := db.TakeRequest(t.Context(), store.HashOf(id), "app")
		return wantError(err, store.ErrNotFound)
	}},
	{"waiting", func(t *testing.T, db *DB) (string, error) {
		id := store.NewToken("ghp_")
		return id, db.PushRequest(t.Context(), store.PushedRequest{Hash: store.HashOf(id), ClientID: "app", Parameters: "a=b", ExpiresAt: crashLater()})
	}, func(t *testing.T, db *DB, id string) error {
		_, err := db.TakeRequest(t.Context(), store.HashOf(id), "app")
		return err
	}},
	{"once", func(t *testing.T, db *DB) (string, error) {
		id := store.NewToken("jti_")
		return id, db.UseOnce(t.Context(), store.HashOf(id), crashLater())
	}, func(t *testing.T, db *DB, id string) error {
		return wantError(db.UseOnce(t.Context(), store.HashOf(id), crashLater()), store.ErrConsumed)
	}},
	{"registration", crashRegistration, func(t *testing.T, db *DB, id string) error {
		_, err := db.Client(t.Context(), "dyn_"+id)
		again := db.RegisterClient(t.Context(), registeredAs("dyn_again"+id), store.HashOf(id))
		return errors.Join(err, wantError(again, store.ErrNotFound))
	}},
	{"logout", crashLogout, func(t *testing.T, db *DB, id string) error {
		due, err := db.DueLogouts(t.Context(), 1<<20)
		if err == nil && !slices.ContainsFunc(due, func(l store.Logout) bool { return l.SessionID == id }) {
			err = errors.New("a notice of a logout is lost")
		}
		return err
	}},
}

func wantError(err, want error) error {
	switch {
	case errors.Is(err, want):
		return nil
	case err == nil:
		return errAgain
	default:
		return err
	}
}

func crashLater() time.Time { return time.Now().Add(time.Hour) }

func crashPoll(id string) store.Poll {
	return store.Poll{
		Device: store.HashOf(id), ClientID: "app", GrantID: store.NewID("gnt_"), Step: time.Second, Longest: time.Minute,
		Decide: func(store.Device) (store.Terms, error) { return store.Terms{ExpiresAt: crashLater()}, nil },
	}
}

// crashSession is a login of the one user.
func crashSession(t *testing.T, db *DB) (store.Session, error) {
	return db.CreateSession(t.Context(), store.Session{
		ID: store.NewID("ses_"), Cookie: store.HashOf(store.NewToken("")), UserID: "usr_1", AuthTime: time.Now(), ExpiresAt: crashLater(),
	})
}

func crashDevice(t *testing.T, db *DB) (string, error) {
	id, user := store.NewToken("ghd_"), store.HashOf(store.NewToken(""))
	session, login := crashSession(t, db)
	create := db.CreateDevice(t.Context(), store.Device{
		Hash: store.HashOf(id), UserCode: user, ClientID: "app", Scopes: []string{"openid"}, Interval: time.Second, ExpiresAt: crashLater(),
	}, 1<<20)
	decide := db.DecideDevice(t.Context(), store.Decision{UserCode: user, Allowed: true, Session: session, Scopes: []string{"openid"}})
	_, poll := db.PollDevice(t.Context(), crashPoll(id))
	return id, errors.Join(login, create, decide, poll)
}

func registeredAs(id string) store.Client {
	return store.Client{ID: id, Type: store.Confidential, Registration: &store.Registration{Token: store.HashOf("m" + id)}}
}

// crashRegistration uses up an initial access token.
func crashRegistration(t *testing.T, db *DB) (string, error) {
	id := store.NewID("rgt_")
	token := db.CreateRegistrationToken(t.Context(), store.RegistrationToken{ID: id, Hash: store.HashOf(id), UsesLeft: 1, ExpiresAt: crashLater()})
	return id, errors.Join(token, db.RegisterClient(t.Context(), registeredAs("dyn_"+id), store.HashOf(id)))
}

// crashLogout ends a session of which a client is to be told.
func crashLogout(t *testing.T, db *DB) (string, error) {
	session, login := crashSession(t, db)
	code := store.NewToken("ghc_")
	_, create := db.CreateCode(t.Context(), store.Code{Hash: store.HashOf(code), ClientID: "told", UserID: "usr_1", SessionID: session.ID, ExpiresAt: crashLater()})
	_, redeem := db.RedeemCode(t.Context(), store.Redemption{
		Code: store.HashOf(code), ClientID: "told", GrantID: store.NewID("gnt_"),
		Decide: func(store.Code) (store.Terms, error) { return store.Terms{ExpiresAt: crashLater()}, nil },
	})
	return session.ID, errors.Join(login, create, redeem, db.RevokeSession(t.Context(), session.ID))
}

// verifyRecords holds the audit log against what it tells of, one to one: no
// client was made and no token revoked without its record, and no record stands
// without them.
func verifyRecords(t *testing.T, db *DB) {
	t.Helper()
	if _, more, err := db.VerifyEvents(t.Context(), store.EventHead{}, 1<<20); err != nil || more {
		t.Fatalf("the seals of the audit log: %v (more %v)", err, more)
	}
	var told, done []string
	for after, more := uint64(0), true; more; {
		var events []store.Event
		var err error
		if events, after, more, err = db.Events(t.Context(), store.EventQuery{After: after, Limit: 1 << 20}); err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			switch e.Name {
			case store.EventClientCreate, store.EventClientRegister:
				told = append(told, "client "+e.Client)
			case store.EventTokenRevoke:
				told = append(told, "token "+e.Detail)
			}
		}
	}
	clients, err := db.ListClients(t.Context(), "", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range clients {
		done = append(done, "client "+c.ID)
	}
	entries, err := db.Log(t.Context(), 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range entries {
		if r.Kind == store.KindToken {
			done = append(done, "token "+r.ID)
		}
	}
	slices.Sort(told)
	slices.Sort(done)
	if diff := cmp.Diff(done, told); diff != "" || len(told) == 0 {
		t.Fatalf("what was done, and what the audit log tells (-done +told):\n%s", diff)
	}
}

// crashLine does one of the kinds, and says so.
func crashLine(t *testing.T, db *DB, n int) (string, error) {
	kind := crashKinds[n%len(crashKinds)]
	id, err := kind.do(t, db)
	return fmt.Sprintln(kind.name, id), err
}

// verifyKind checks a line of crashLine.
func verifyKind(t *testing.T, db *DB, name, id string) {
	t.Helper()
	for _, kind := range crashKinds {
		if kind.name == name {
			if err := kind.verify(t, db, id); err != nil {
				t.Fatalf("%s %s: %v", name, id, err)
			}
		}
	}
}
