package feed

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	revocationv1 "gatehouse.dev/gatehouse/proto/gatehouse/revocation/v1"
)

// Heartbeats come at once and then four times a second, with the time at which
// the log was read, and never before what they vouch for.
func TestHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newStore(t)
		s := newServer(t, db, nil)
		began := time.Now()
		var beats []*revocationv1.Heartbeat
		sent := uint64(0)
		w := &watcher{server: s, guard: newGuard(time.Hour), send: func(m *revocationv1.WatchResponse) error {
			sent = max(sent, m.GetSnapshot().GetSequence())
			for _, r := range m.GetChanges().GetRevocations() {
				sent = r.GetSequence()
			}
			if beat := m.GetHeartbeat(); beat != nil {
				if beat.GetSequence() != sent {
					t.Errorf("a heartbeat vouches for %d, sent was %d", beat.GetSequence(), sent)
				}
				beats = append(beats, beat)
			}
			return nil
		}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.run(ctx, &revocationv1.WatchRequest{Issuer: issuer}) }()
		for second := range 4 {
			revoke(t, db, string(rune('a'+second)))
			timer := time.NewTimer(time.Second)
			<-timer.C
		}
		cancel()
		<-done
		if len(beats) < 16 || len(beats) > 17 || sent != 4 {
			t.Fatalf("%d heartbeats in 4 s, %d entries", len(beats), sent)
		}
		for i, beat := range beats {
			if at := beat.GetTime().AsTime().Sub(began); at != time.Duration(i)*heartbeatEvery {
				t.Errorf("heartbeat %d is of %s", i, at)
			}
		}
	})
}
