package authz

import (
	"testing"
	"time"

	"google.golang.org/grpc/health/grpc_health_v1"

	revocationv1 "gatehouse.dev/gatehouse/proto/gatehouse/revocation/v1"
	rulev1 "gatehouse.dev/gatehouse/proto/gatehouse/rule/v1"
)

// TestRevokedTokens: every kind, of a token that was seen and of a new one, is
// refused within a second.
func TestRevokedTokens(t *testing.T) {
	for kind := revocationv1.Kind_KIND_TOKEN; kind <= revocationv1.Kind_KIND_CLIENT; kind++ {
		t.Run(kind.String(), func(t *testing.T) {
			w := startWorld(t)
			claims := personClaims(w.now())
			id := map[revocationv1.Kind]string{
				revocationv1.Kind_KIND_TOKEN: claims["jti"].(string), revocationv1.Kind_KIND_SESSION: "sid-1",
				revocationv1.Kind_KIND_GRANT: "grant-1", revocationv1.Kind_KIND_KEY: kidOf(w.key),
				revocationv1.Kind_KIND_SUBJECT: "usr_ada", revocationv1.Kind_KIND_CLIENT: "shop",
			}[kind]
			token := mint(t, w.key, claims)
			w.expect(checkOf(w.rule(), token), 200, ReasonAllowed)
			started := time.Now()
			w.feed.revoke(kind, id, claims["iat"].(int64))
			w.eventually("refused", func() bool {
				code, _ := w.verdict(checkOf(w.rule(), token))
				return code == 401
			})
			if took := time.Since(started); took > time.Second {
				t.Errorf("it took %s", took)
			}
			if kind != revocationv1.Kind_KIND_KEY { // whose tokens have no key any more
				w.expect(checkOf(w.rule(), token), 401, ReasonRevoked)
			}
			if code, _ := w.verdict(checkOf(w.rule(), mint(t, w.key, claims))); code != 401 {
				t.Errorf("a new token of the same claims: %d", code)
			}
			if kind == revocationv1.Kind_KIND_KEY {
				return // nothing of that key is left to compare with
			}
			other := claims.with("jti", "other").with("sid", "other").with("grant_id", "other").
				with("sub", "usr_other").with("client_id", "other").with("iat", claims["iat"].(int64)+1)
			w.expect(checkOf(w.rule(), mint(t, w.key, other)), 200, ReasonAllowed)
		})
	}
}

// TestPurgedKey: the key and what was verified with it are gone as soon as the
// feed says so, whether or not anybody asks.
func TestPurgedKey(t *testing.T) {
	w := startWorld(t)
	w.expect(checkOf(w.rule(), w.person()), 200, ReasonAllowed)
	w.feed.revoke(revocationv1.Kind_KIND_KEY, kidOf(w.key), 0)
	w.eventually("forgotten", func() bool {
		_, known := w.server.issuers.all[0].remote.Keys().Lookup(kidOf(w.key))
		return !known && w.server.issuers.cache.Len() == 0
	})
}

// TestStaleRevocations: when the issuer goes, each route goes on for as long as
// its own revocation_max_age, and all are back within a second of its return.
func TestStaleRevocations(t *testing.T) {
	w := startWorld(t)
	token := w.person()
	short := w.rule(func(r *rulev1.Rule) { r.RevocationMaxAgeMs = 500 })
	w.expect(checkOf(short, token), 200, ReasonAllowed)
	w.feed.stop()
	w.eventually("stale", func() bool {
		_, reason := w.verdict(checkOf(short, token))
		return reason == ReasonRevocationStale
	})
	w.expect(checkOf(short, token), 503, ReasonRevocationStale)
	w.expect(checkOf(w.rule(), token), 200, ReasonAllowed)
	if got := w.health(); got != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("health is %s: other routes go on", got)
	}
	// What was revoked meanwhile counts as soon as the feed is back.
	w.feed.revoke(revocationv1.Kind_KIND_TOKEN, "elsewhere", 0)
	w.feed.start(w)
	started := time.Now()
	w.eventually("current", func() bool {
		code, _ := w.verdict(checkOf(short, token))
		return code == 200
	})
	if took := time.Since(started); took > time.Second {
		t.Errorf("recovery took %s", took)
	}
	requests := w.feed.requests()
	if last := requests[len(requests)-1]; last.GetEpoch() != "epoch-1" || last.GetAfterSequence() != 0 {
		t.Errorf("resumed with %v", last)
	}
}

// TestFeedFaults: after a gap or in a new epoch the state is fetched anew, and
// nothing that was revoked is missed.
func TestFeedFaults(t *testing.T) {
	for name, fault := range map[string]func(*feedServer){
		"a gap": func(f *feedServer) {
			f.change(func() { f.skip = 1 })
			f.revoke(revocationv1.Kind_KIND_TOKEN, "first", 0)
			f.change(func() {
				f.log = append(f.log,
					numbered(uint64(len(f.log)+1), revocationv1.Kind_KIND_TOKEN, "lost"),
					numbered(uint64(len(f.log)+2), revocationv1.Kind_KIND_SESSION, "sid-1"))
				f.log[len(f.log)-1].ExpiresAt = 0
			})
		},
		"another epoch": func(f *feedServer) {
			f.change(func() { f.epoch = "epoch-2"; f.log = nil })
			f.revoke(revocationv1.Kind_KIND_SESSION, "sid-1", 0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := startWorld(t)
			token := w.person()
			w.expect(checkOf(w.rule(), token), 200, ReasonAllowed)
			fault(w.feed)
			w.eventually("refused", func() bool {
				_, reason := w.verdict(checkOf(w.rule(), token))
				return reason == ReasonRevoked
			})
			requests := w.feed.requests()
			if last := requests[len(requests)-1]; len(requests) < 2 || last.GetEpoch() != "" {
				t.Errorf("it did not start over: %v", requests)
			}
		})
	}
}

// TestRestoredIssuer: what a key signed that the restored issuer does not know
// is refused as soon as the new epoch is in force, though the key set would be
// good for an hour and the token is cached; while there are no keys nothing
// passes.
func TestRestoredIssuer(t *testing.T) {
	w := newWorld(t)
	w.config.Issuers[0].JWKSInterval = time.Hour // it is not fetched by itself
	w.start()
	w.waitReady()
	lost := w.person()
	w.expect(checkOf(w.rule(), lost), 200, ReasonAllowed)
	w.keys.mu.Lock()
	clear(w.keys.keys)
	w.keys.down = true
	w.keys.mu.Unlock()
	fresh := w.keys.newKey(t)
	w.feed.change(func() { w.feed.epoch = "epoch-2" })
	w.eventually("without keys", func() bool {
		code, _ := w.verdict(checkOf(w.rule(), lost))
		return code != 200
	})
	w.expect(checkOf(w.rule(), lost), 503, ReasonKeysMissing)
	w.keys.mu.Lock()
	w.keys.down = false
	w.keys.mu.Unlock()
	token := mint(t, fresh, personClaims(w.now()))
	w.eventually("taken", func() bool {
		code, _ := w.verdict(checkOf(w.rule(), token))
		return code == 200
	})
	w.expect(checkOf(w.rule(), lost), 401, ReasonUnknownKey)
}

// TestNewKey: a key that is not known yet is refused, asked for, and taken.
func TestNewKey(t *testing.T) {
	w := newWorld(t)
	w.config.Issuers[0].JWKSInterval = time.Hour // it is not fetched by itself
	w.start()
	w.waitReady()
	fetches := w.keys.fetches.Load()
	token := mint(t, w.keys.newKey(t), personClaims(w.now()))
	w.expect(checkOf(w.rule(), token), 401, ReasonUnknownKey)
	w.eventually("taken", func() bool {
		code, _ := w.verdict(checkOf(w.rule(), token))
		return code == 200
	})
	if w.keys.fetches.Load() == fetches {
		t.Error("no key set was fetched")
	}
	w.expect(checkOf(w.rule(), w.person()), 200, ReasonAllowed)
}
