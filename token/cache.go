package token

import (
	"crypto/sha256"
	"fmt"
)

// MinCacheBytes is the least that a Cache is worth having for.
const MinCacheBytes = 1 << 20

// shards keep requests of different tokens off each other's locks.
const shards = 16

// Cache remembers the Claims of tokens that were verified, by the SHA-256 of the
// token, in a bounded number of bytes. Only what does not depend on the route
// is in it. It is safe for concurrent use.
type Cache struct {
	shards [shards]shard
}

// NewCache makes a cache that holds at most so many bytes, its own bookkeeping
// included; at least MinCacheBytes.
func NewCache(bytes int64) (*Cache, error) {
	if bytes < MinCacheBytes {
		return nil, fmt.Errorf("a token cache of %d bytes is smaller than %d", bytes, MinCacheBytes)
	}
	c := &Cache{}
	for i := range c.shards {
		c.shards[i].init(bytes / shards)
	}
	return c, nil
}

// Get returns the claims of a token that was verified before, if its issuer's
// verifier would accept it now: under the same configuration, by a key that
// the issuer still has, in time. Otherwise the token has to be verified, which
// also tells why it is refused. verifier finds an issuer's verifier; nil if it
// has none.
func (c *Cache) Get(token string, verifier func(issuer string) *Verifier) (*Claims, bool) {
	if len(token) > MaxSize {
		return nil, false
	}
	hash := sha256.Sum256([]byte(token))
	s := c.shard(hash)
	claims := s.get(hash)
	if claims == nil {
		return nil, false
	}
	v := verifier(claims.issuer)
	if v == nil {
		return nil, false
	}
	if err := v.Recheck(claims); err != nil {
		// Without keys nothing can be said of the token: it is kept.
		if ReasonOf(err) != ReasonKeysUnavailable {
			s.drop(hash)
		}
		return nil, false
	}
	return claims, true
}

// Put remembers claims that the verifier made. Any others, and those that the
// verifier would no longer accept, are not taken.
func (c *Cache) Put(v *Verifier, claims *Claims) {
	if v == nil || claims == nil || v.Recheck(claims) != nil {
		return
	}
	c.shard(claims.hash).put(claims, v.config.Now().UnixMicro())
}

// DropKey forgets what was verified with a key, given its thumbprint or its
// kid. It returns how many tokens that were.
func (c *Cache) DropKey(key string) (dropped int) {
	for i := range c.shards {
		dropped += c.shards[i].dropKey(key)
	}
	return dropped
}

// Len is the number of tokens in the cache.
func (c *Cache) Len() (n int) {
	for i := range c.shards {
		entries, _ := c.shards[i].usage()
		n += entries
	}
	return n
}

// Bytes is what the cache holds, as it accounts for it.
func (c *Cache) Bytes() (n int64) {
	for i := range c.shards {
		_, bytes := c.shards[i].usage()
		n += bytes
	}
	return n
}

// shard is chosen by a part of the hash, which nobody can steer cheaply and
// which would cost only speed.
func (c *Cache) shard(hash digest) *shard {
	return &c.shards[hash[0]%shards]
}
