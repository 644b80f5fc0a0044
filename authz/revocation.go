package authz

import (
	"crypto/sha256"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	revocationv1 "gatehouse.dev/gatehouse/proto/gatehouse/revocation/v1"
	"gatehouse.dev/gatehouse/token"
)

// digest stands for one revoked thing: the first 16 bytes of the SHA-256 of its
// id. Two ids with one digest would make the gate refuse a token that is not
// revoked, and never admit one that is. To do that to somebody else's token
// takes a second preimage, 2^128 tries; by chance, a million entries hit a
// given id with probability 2^-108.
type digest [16]byte

func digestOf(id string) digest {
	sum := sha256.Sum256([]byte(id))
	return digest(sum[:16])
}

// second is a Unix time in seconds, good until 2106; 4 bytes, as there may be
// millions.
type second uint32

func secondOf(unix int64) second {
	return second(min(max(unix, 0), math.MaxUint32))
}

// limit says that tokens issued up to notBefore are refused.
type limit struct {
	notBefore second
	expires   second
}

// revocationSet holds what one issuer has revoked. An entry is a 20 or 24 byte
// slot of a Go map, which at its emptiest, right after it grew, is seven
// sixteenths full: less than 60 bytes an entry, whatever its id's length.
type revocationSet struct {
	tokens, sessions, grants, keys map[digest]second
	subjects, clients              map[digest]limit
}

func newRevocationSet() *revocationSet {
	return &revocationSet{
		tokens: map[digest]second{}, sessions: map[digest]second{}, grants: map[digest]second{}, keys: map[digest]second{},
		subjects: map[digest]limit{}, clients: map[digest]limit{},
	}
}

// add enters one revocation; one without a known kind or an id is an error, for
// the feed then says something that would go unheeded.
func (s *revocationSet) add(r *revocationv1.Revocation) error {
	if r.GetId() == "" {
		return fmt.Errorf("revocation %d has no id", r.GetSequence())
	}
	id, expires := digestOf(r.GetId()), expiryOf(r)
	switch r.GetKind() {
	case revocationv1.Kind_KIND_TOKEN:
		s.tokens[id] = max(s.tokens[id], expires)
	case revocationv1.Kind_KIND_SESSION:
		s.sessions[id] = max(s.sessions[id], expires)
	case revocationv1.Kind_KIND_GRANT:
		s.grants[id] = max(s.grants[id], expires)
	case revocationv1.Kind_KIND_KEY:
		s.keys[id] = max(s.keys[id], expires)
	case revocationv1.Kind_KIND_SUBJECT:
		s.subjects[id] = s.subjects[id].raise(secondOf(r.GetNotBefore()), expires)
	case revocationv1.Kind_KIND_CLIENT:
		s.clients[id] = s.clients[id].raise(secondOf(r.GetNotBefore()), expires)
	default:
		return fmt.Errorf("revocation %d has the kind %d, which this version does not know", r.GetSequence(), r.GetKind())
	}
	return nil
}

// raise joins two limits for one id: the later of each bound.
func (l limit) raise(notBefore, expires second) limit {
	return limit{notBefore: max(l.notBefore, notBefore), expires: max(l.expires, expires)}
}

// expiryOf is when an entry may be forgotten; one that does not say is kept for
// good.
func expiryOf(r *revocationv1.Revocation) second {
	if r.GetExpiresAt() <= 0 {
		return math.MaxUint32
	}
	return secondOf(r.GetExpiresAt())
}

// subject is what a token says of itself that can be revoked.
type subject interface {
	ID() string
	SessionID() string
	GrantID() string
	KeyID() string
	Subject() string
	ClientID() string
	IssuedAt() time.Time
	Ancestors() []token.Ancestor
}

// match is the kind of revocation that concerns a token; KIND_UNSPECIFIED:
// none does.
func (s *revocationSet) match(t subject) revocationv1.Kind {
	switch {
	case has(s.tokens, t.ID()):
		return revocationv1.Kind_KIND_TOKEN
	case has(s.sessions, t.SessionID()):
		return revocationv1.Kind_KIND_SESSION
	case has(s.grants, t.GrantID()):
		return revocationv1.Kind_KIND_GRANT
	case has(s.keys, t.KeyID()):
		return revocationv1.Kind_KIND_KEY
	case reaches(s.subjects, t.Subject(), t.IssuedAt()):
		return revocationv1.Kind_KIND_SUBJECT
	case reaches(s.clients, t.ClientID(), t.IssuedAt()):
		return revocationv1.Kind_KIND_CLIENT
	}
	return s.matchAncestors(t.Ancestors())
}

// matchAncestors is the kind of revocation that concerns a token which another
// was made from (RFC 8693); the rest of what it hangs on, both share.
func (s *revocationSet) matchAncestors(ancestors []token.Ancestor) revocationv1.Kind {
	for _, a := range ancestors {
		switch {
		case has(s.tokens, a.ID):
			return revocationv1.Kind_KIND_TOKEN
		case has(s.keys, a.KeyID):
			return revocationv1.Kind_KIND_KEY
		case reaches(s.clients, a.ClientID, a.IssuedAt):
			return revocationv1.Kind_KIND_CLIENT
		}
	}
	return revocationv1.Kind_KIND_UNSPECIFIED
}

// has spares the hash where nothing of a kind is revoked, which is usual.
func has(set map[digest]second, id string) bool {
	if len(set) == 0 || id == "" {
		return false
	}
	_, found := set[digestOf(id)]
	return found
}

func reaches(set map[digest]limit, id string, issued time.Time) bool {
	if len(set) == 0 || id == "" {
		return false
	}
	l, found := set[digestOf(id)]
	return found && issued.Unix() <= int64(l.notBefore)
}

// sweepStep is how many entries are forgotten under one hold of the lock.
const sweepStep = 1000

// sweep forgets what expired before a time. It looks without the lock, which
// only its caller, the one writer, may do, and holds it for short steps alone:
// a pass over a million entries in one hold would be felt by requests.
func (s *revocationSet) sweep(lock sync.Locker, before time.Time) {
	at := secondOf(before.Unix())
	for _, set := range []map[digest]second{s.tokens, s.sessions, s.grants, s.keys} {
		sweepMap(lock, set, func(expires second) bool { return expires < at })
	}
	for _, set := range []map[digest]limit{s.subjects, s.clients} {
		sweepMap(lock, set, func(l limit) bool { return l.expires < at })
	}
}

func sweepMap[V any](lock sync.Locker, set map[digest]V, gone func(V) bool) {
	var expired []digest
	for id, value := range set {
		if gone(value) {
			expired = append(expired, id)
		}
	}
	for step := range slices.Chunk(expired, sweepStep) {
		lock.Lock()
		for _, id := range step {
			delete(set, id)
		}
		lock.Unlock()
	}
}

func (s *revocationSet) len() int {
	return len(s.tokens) + len(s.sessions) + len(s.grants) + len(s.keys) + len(s.subjects) + len(s.clients)
}
