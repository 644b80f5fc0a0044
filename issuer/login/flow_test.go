package login

import (
	"testing"
	"time"

	"gatehouse.dev/gatehouse/issuer/store"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// What comes next in a flow: one row, one clause.
func TestNext(t *testing.T) {
	age := func(seconds int64) *int64 { return &seconds }
	before := &store.Session{ID: "s", UserID: "usr_a", AuthTime: start.Add(-time.Hour)}
	since := &store.Session{ID: "s", UserID: "usr_a", AuthTime: start.Add(time.Second)}
	all := []string{"openid", "read"}
	for _, row := range []struct {
		clause string
		flow   Flow
		s      standing
		want   step
		code   string
	}{
		{"nobody is logged in", Flow{}, standing{}, stepLogin, ""},
		{"Core §3.1.2.1 prompt=none without a login", Flow{Silent: true}, standing{}, stepRefuse, "login_required"},
		{"Core §3.1.2.1 prompt=none without consent", Flow{Silent: true}, standing{session: before, grantable: all}, stepRefuse, "consent_required"},
		{"Core §3.1.2.1 prompt=none with both", Flow{Silent: true}, standing{session: before, grantable: all, consented: all}, stepConclude, ""},
		{"Core §3.1.2.1 prompt=none and a login too old", Flow{Silent: true, MaxAge: age(60)}, standing{session: before, grantable: all, consented: all}, stepRefuse, "login_required"},
		{"Core §3.1.2.1 prompt=none and another subject", Flow{Silent: true, Subject: "usr_b"}, standing{session: before, grantable: all, consented: all}, stepRefuse, "login_required"},
		{"Core §3.1.2.1 prompt=login with an old login", Flow{Reauthenticate: true}, standing{session: before, grantable: all, consented: all}, stepLogin, ""},
		{"Core §3.1.2.1 prompt=login after the login", Flow{Reauthenticate: true}, standing{session: since, grantable: all, consented: all}, stepConclude, ""},
		{"Core §3.1.2.1 prompt=consent though remembered", Flow{AskConsent: true}, standing{session: before, grantable: all, consented: all}, stepConsent, ""},
		{"Core §3.1.2.1 prompt=consent answered", Flow{AskConsent: true}, standing{session: before, grantable: all, answered: true}, stepConclude, ""},
		{"Core §3.1.2.1 max_age reached", Flow{MaxAge: age(3599)}, standing{session: before, grantable: all, consented: all}, stepLogin, ""},
		{"Core §3.1.2.1 max_age not reached", Flow{MaxAge: age(3600)}, standing{session: before, grantable: all, consented: all}, stepConclude, ""},
		{"Core §3.1.2.1 max_age=0 with an old login", Flow{MaxAge: age(0)}, standing{session: before, grantable: all, consented: all}, stepLogin, ""},
		{"Core §3.1.2.1 max_age=0 after the login", Flow{MaxAge: age(0)}, standing{session: since, grantable: all, consented: all}, stepConclude, ""},
		{"Core §3.1.2.1 id_token_hint of somebody else", Flow{Subject: "usr_b"}, standing{session: before, grantable: all, consented: all}, stepLogin, ""},
		{"Core §3.1.2.1 somebody else logged in for it", Flow{Subject: "usr_b"}, standing{session: since, grantable: all, consented: all}, stepRefuse, "login_required"},
		{"Core §3.1.2.1 id_token_hint matches", Flow{Subject: "usr_a"}, standing{session: before, grantable: all, consented: all}, stepConclude, ""},
		{"the person's roles cover nothing", Flow{}, standing{session: before}, stepRefuse, "access_denied"},
		{"nothing to give is not helped by an answer", Flow{}, standing{session: before, answered: true}, stepRefuse, "access_denied"},
		{"no consent yet", Flow{}, standing{session: before, grantable: all}, stepConsent, ""},
		{"consent to less", Flow{}, standing{session: before, grantable: all, consented: all[:1]}, stepConsent, ""},
		{"consent to more", Flow{}, standing{session: before, grantable: all[:1], consented: all}, stepConclude, ""},
		{"an answer without a login is none", Flow{}, standing{answered: true, grantable: all}, stepLogin, ""},
	} {
		t.Run(row.clause, func(t *testing.T) {
			row.flow.StartedAt, row.s.now = start, start
			got, code := next(&row.flow, row.s)
			if got != row.want || code != row.code {
				t.Errorf("next = %d %q, want %d %q", got, code, row.want, row.code)
			}
		})
	}
}

func TestFlowExpires(t *testing.T) {
	f := Flow{StartedAt: start}
	for at, want := range map[time.Duration]bool{
		0: false, flowLifetime - 1: false, flowLifetime: true, time.Hour: true,
		-30 * time.Second: false, -time.Hour: true, // a clock set back does not make flows last
	} {
		if f.expired(start.Add(at)) != want {
			t.Errorf("after %s: expired = %t", at, !want)
		}
	}
}
