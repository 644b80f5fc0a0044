package authz

import (
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	revocationv1 "gatehouse.dev/gatehouse/proto/gatehouse/revocation/v1"
	"gatehouse.dev/gatehouse/token"
)

// fakeToken is a token with everything that can be revoked.
type fakeToken struct {
	id, session, grant, key, subject, client string
	issued                                   time.Time
	ancestors                                []token.Ancestor
}

func (f fakeToken) ID() string          { return f.id }
func (f fakeToken) SessionID() string   { return f.session }
func (f fakeToken) GrantID() string     { return f.grant }
func (f fakeToken) KeyID() string       { return f.key }
func (f fakeToken) Subject() string     { return f.subject }
func (f fakeToken) ClientID() string    { return f.client }
func (f fakeToken) IssuedAt() time.Time { return f.issued }

func (f fakeToken) Ancestors() []token.Ancestor { return f.ancestors }

var issuedAt = time.Unix(1_800_000_000, 0)

func personToken() fakeToken {
	return fakeToken{
		id: "j", session: "s", grant: "g", key: "k", subject: "usr_a", client: "c", issued: issuedAt,
		ancestors: []token.Ancestor{
			{ID: "j1", ClientID: "c1", KeyID: "k1", IssuedAt: issuedAt.Add(-time.Minute)},
			{ID: "j2", ClientID: "c2", KeyID: "k2", IssuedAt: issuedAt.Add(-2 * time.Minute)},
		},
	}
}

func entry(kind revocationv1.Kind, id string, notBefore int64) *revocationv1.Revocation {
	return &revocationv1.Revocation{Kind: kind, Id: id, NotBefore: notBefore, ExpiresAt: issuedAt.Add(time.Hour).Unix()}
}

func TestRevocationMatches(t *testing.T) {
	const (
		jti     = revocationv1.Kind_KIND_TOKEN
		session = revocationv1.Kind_KIND_SESSION
		grant   = revocationv1.Kind_KIND_GRANT
		key     = revocationv1.Kind_KIND_KEY
		subject = revocationv1.Kind_KIND_SUBJECT
		client  = revocationv1.Kind_KIND_CLIENT
	)
	at := issuedAt.Unix()
	for _, c := range []struct {
		name      string
		kind      revocationv1.Kind
		id        string
		notBefore int64
		refused   bool
	}{
		{"its jti", jti, "j", 0, true},
		{"another jti", jti, "J", 0, false},
		{"its session", session, "s", 0, true},
		{"its grant", grant, "g", 0, true},
		{"its key", key, "k", 0, true},
		{"the id of another kind", grant, "s", 0, false},
		{"its subject, issued before", subject, "usr_a", at + 1, true},
		{"its subject, issued at not_before", subject, "usr_a", at, true},
		{"its subject, issued after", subject, "usr_a", at - 1, false},
		{"another subject", subject, "usr_b", at, false},
		{"its client, issued at not_before", client, "c", at, true},
		{"its client, issued after", client, "c", at - 1, false},
		{"a subject of the client's name", subject, "c", at, false},
		{"its parent's jti", jti, "j1", 0, true},
		{"its grandparent's jti", jti, "j2", 0, true},
		{"its parent's key", key, "k1", 0, true},
		{"its grandparent's key", key, "k2", 0, true},
		{"its parent's client, the parent issued at not_before", client, "c1", at - 60, true},
		{"its parent's client, the parent issued after", client, "c1", at - 61, false},
		{"its grandparent's client, that one issued at not_before", client, "c2", at - 120, true},
		{"its grandparent's client, that one issued after", client, "c2", at - 121, false},
		{"a session of its parent's name", session, "j1", 0, false},
		{"not_before beyond all", client, "c", 1 << 62, true},
		{"not_before below all", client, "c", -1 << 62, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			set := newRevocationSet()
			if err := set.add(entry(c.kind, c.id, c.notBefore)); err != nil {
				t.Fatal(err)
			}
			if got := set.match(personToken()); (got == c.kind) != c.refused {
				t.Errorf("matched %s", got)
			}
		})
	}
}

func TestRevocationWithoutSessionIsNotMatchedByEmptyIDs(t *testing.T) {
	set := newRevocationSet()
	set.sessions[digestOf("")] = second(1)
	if got := set.match(fakeToken{id: "j"}); got != revocationv1.Kind_KIND_UNSPECIFIED {
		t.Errorf("matched %s", got)
	}
}

func TestRevocationUnknown(t *testing.T) {
	for number := int32(-1); number < 10; number++ {
		kind := revocationv1.Kind(number)
		_, known := revocationv1.Kind_name[number]
		known = known && kind != revocationv1.Kind_KIND_UNSPECIFIED
		if err := newRevocationSet().add(entry(kind, "x", 1)); (err == nil) != known {
			t.Errorf("kind %d: %v", number, err)
		}
	}
	if err := newRevocationSet().add(entry(revocationv1.Kind_KIND_TOKEN, "", 1)); err == nil {
		t.Error("a revocation without id was taken")
	}
}

// TestRevocationsJoin: of two for one id, the stricter bound counts whichever
// came last.
func TestRevocationsJoin(t *testing.T) {
	set := newRevocationSet()
	for _, notBefore := range []int64{issuedAt.Unix(), issuedAt.Unix() - 100} {
		if err := set.add(entry(revocationv1.Kind_KIND_SUBJECT, "usr_a", notBefore)); err != nil {
			t.Fatal(err)
		}
	}
	if set.match(personToken()) != revocationv1.Kind_KIND_SUBJECT {
		t.Error("a later, weaker bound took the place of the stricter")
	}
}

func TestRevocationSweep(t *testing.T) {
	set := newRevocationSet()
	for kind := revocationv1.Kind_KIND_TOKEN; kind <= revocationv1.Kind_KIND_CLIENT; kind++ {
		for i, expires := range []int64{issuedAt.Unix() - 1, issuedAt.Unix(), 0} {
			if err := set.add(&revocationv1.Revocation{Kind: kind, Id: strconv.Itoa(i), ExpiresAt: expires}); err != nil {
				t.Fatal(err)
			}
		}
	}
	set.sweep(&sync.Mutex{}, issuedAt)
	if set.len() != 6*2 {
		t.Errorf("%d are left, want those that expire now and those that do not say when", set.len())
	}
	if has(set.tokens, "0") || !has(set.tokens, "1") || !has(set.tokens, "2") {
		t.Error("the wrong ones are left")
	}
}

// TestRevocationMemory holds a million and reckons the bytes of each.
func TestRevocationMemory(t *testing.T) {
	const entries = 1_000_000
	set := newRevocationSet()
	before := heap()
	for i := range entries {
		if err := set.add(entry(revocationv1.Kind_KIND_TOKEN, strconv.Itoa(i), 0)); err != nil {
			t.Fatal(err)
		}
	}
	if each := (heap() - before) / entries; each > 64 {
		t.Errorf("a revocation takes %d bytes, more than 64", each)
	}
	runtime.KeepAlive(set)
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
