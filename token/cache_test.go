package token_test

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/token"
	"gatehouse.dev/gatehouse/token/tokentest"
)

// site is a verifier whose clock and keys tests change, and its cache.
type site struct {
	clock *clock
	keys  *token.KeySet
	v     *token.Verifier
	cache *token.Cache
}

func newSite(t testing.TB, bytes int64, keys ...*tokentest.Key) *site {
	t.Helper()
	s := &site{clock: newClock(), keys: keySet(t, keys...), cache: newCache(t, bytes)}
	c := config(t, keys...)
	c.Now, c.Keys = s.clock.now, func() *token.KeySet { return s.keys }
	s.v = verifierOf(t, c)
	return s
}

func (s *site) find(issuer string) *token.Verifier {
	if issuer == testIssuer {
		return s.v
	}
	return nil
}

func (s *site) has(text string) bool {
	claims, ok := s.cache.Get(text, s.find)
	if ok != (claims != nil) {
		panic("claims and verdict differ")
	}
	return ok
}

// learn verifies and remembers a token.
func (s *site) learn(t testing.TB, text string) *token.Claims {
	t.Helper()
	claims := mustVerify(t, s.v, text)
	s.cache.Put(s.v, claims)
	return claims
}

func TestCacheRemembers(t *testing.T) {
	f := newForger("ES256")
	s := newSite(t, token.MinCacheBytes, f.key)
	text, other := f.good(), f.claim("jti", "another")
	if s.has(text) {
		t.Fatal("a token that was never seen is there")
	}
	want := s.learn(t, text)
	got, ok := s.cache.Get(text, s.find)
	if !ok || got != want {
		t.Errorf("got %v, %v; want the claims that were put", got, ok)
	}
	if s.has(other) || s.has(text+"A") || s.has(text[:len(text)-1]) || s.has("") || s.has(strings.Repeat("x", token.MaxSize+1)) {
		t.Error("another string is taken for the token")
	}
	if s.cache.Len() != 1 {
		t.Errorf("%d tokens, want 1", s.cache.Len())
	}
	before := s.cache.Bytes()
	s.learn(t, text)
	if s.cache.Len() != 1 || s.cache.Bytes() != before {
		t.Errorf("%d tokens in %d bytes after the same again, want 1 in %d", s.cache.Len(), s.cache.Bytes(), before)
	}
}

// TestCacheForgets has what ends an entry: each would be refused by Verify.
func TestCacheForgets(t *testing.T) {
	f := newForger("ES256")
	other := tokentest.NewKey("ES256")
	for name, row := range map[string]struct {
		change func(t *testing.T, s *site)
		kept   bool // because it may be good again
	}{
		"the token expired":    {func(_ *testing.T, s *site) { s.clock.advance(5*time.Minute + testSkew) }, false},
		"the clock went back":  {func(_ *testing.T, s *site) { s.clock.advance(-testSkew - time.Second) }, false},
		"the key went":         {func(t *testing.T, s *site) { s.keys = keySet(t, other) }, false},
		"the kid is another's": {func(t *testing.T, s *site) { s.keys = keySet(t, other.WithID(f.key.ID())) }, false},
		"the keys are unknown": {func(_ *testing.T, s *site) { s.keys = nil }, true},
		"the issuer went":      {func(_ *testing.T, s *site) { s.v = nil }, true},
		"the key was dropped":  {func(_ *testing.T, s *site) { s.cache.DropKey(f.key.ID()) }, false},
		"the configuration changed": {func(t *testing.T, s *site) {
			c := config(t, f.key)
			c.MaxLifetime = time.Hour
			s.v = verifierOf(t, c)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			text := f.good()
			s := newSite(t, token.MinCacheBytes, f.key)
			s.learn(t, text)
			if !s.has(text) {
				t.Fatal("the token is not there to begin with")
			}
			row.change(t, s)
			if s.has(text) {
				t.Error("the token is still taken")
			}
			if got := s.cache.Len() == 1; got != row.kept {
				t.Errorf("the entry is kept: %v, want %v", got, row.kept)
			}
		})
	}
}

// TestCacheTakesOnlyVerified: whatever did not come out of this verifier stays
// out.
func TestCacheTakesOnlyVerified(t *testing.T) {
	f := newForger("ES256")
	s := newSite(t, token.MinCacheBytes, f.key)
	elsewhere := config(t, f.key)
	elsewhere.Issuer = "https://other.example"
	stricter := config(t, f.key)
	stricter.Skew = 0
	claims := mustVerify(t, s.v, f.good())
	s.cache.Put(s.v, nil)
	s.cache.Put(nil, claims)
	s.cache.Put(s.v, new(token.Claims))
	s.cache.Put(verifierOf(t, elsewhere), claims)
	s.cache.Put(verifierOf(t, stricter), claims)
	s.clock.advance(time.Hour)
	s.cache.Put(s.v, claims)
	if s.cache.Len() != 0 || s.cache.Bytes() != 0 {
		t.Errorf("%d tokens in %d bytes, want none", s.cache.Len(), s.cache.Bytes())
	}
}

func TestCacheDropKey(t *testing.T) {
	a, b := newForger("ES256"), newForger("ES256")
	b.key = b.key.WithID("b")
	b.head = b.key.Header()
	s := newSite(t, 4<<20, a.key, b.key)
	var as, bs []string
	for i := range 50 {
		as = append(as, a.claim("jti", fmt.Sprint("a", i)))
		bs = append(bs, b.claim("jti", fmt.Sprint("b", i)))
		s.learn(t, as[i])
		s.learn(t, bs[i])
	}
	if got := s.cache.DropKey(b.key.Thumbprint()); got != 50 {
		t.Errorf("dropped %d by thumbprint, want 50", got)
	}
	for i := range as {
		if !s.has(as[i]) || s.has(bs[i]) {
			t.Fatal("the wrong tokens were dropped")
		}
	}
	if got := s.cache.DropKey(a.key.ID()); got != 50 || s.cache.Len() != 0 || s.cache.Bytes() != 0 {
		t.Errorf("dropped %d by kid, %d left in %d bytes", got, s.cache.Len(), s.cache.Bytes())
	}
}

// TestCacheIsBounded fills it several times over: the bound holds at every
// step, what was used last stays, what was not goes.
func TestCacheIsBounded(t *testing.T) {
	f := newForger("EdDSA")
	s := newSite(t, token.MinCacheBytes, f.key)
	favourite := f.claim("jti", "favourite")
	s.learn(t, favourite)
	first := f.claim("jti", "first")
	s.learn(t, first)
	for i := range 2000 {
		s.learn(t, f.claim("jti", fmt.Sprint(i)))
		if !s.has(favourite) {
			t.Fatalf("the token that is used all the time is gone after %d others", i)
		}
		if got := s.cache.Bytes(); got > token.MinCacheBytes {
			t.Fatalf("%d bytes, more than %d", got, token.MinCacheBytes)
		}
	}
	if s.has(first) {
		t.Error("the token that was not used again is still there")
	}
	if n := s.cache.Len(); n < 500 || n > 2000 {
		t.Errorf("%d tokens in a MiB", n)
	}
}

// TestCacheDropsExpired: dead tokens go while others come, long before the
// cache is full.
func TestCacheDropsExpired(t *testing.T) {
	f := newForger("EdDSA")
	s := newSite(t, 64<<20, f.key)
	for i := range 100 {
		s.learn(t, f.claim("jti", fmt.Sprint("old", i)))
	}
	s.clock.advance(testLifetime + testSkew)
	f.body = tokentest.UserClaims(testIssuer, testAudience, s.clock.now())
	// Many more than before, so that each part of the cache gets enough of them.
	for i := range 800 {
		s.learn(t, f.claim("jti", fmt.Sprint("new", i)))
	}
	if got := s.cache.Len(); got != 800 {
		t.Errorf("%d tokens, want the 800 that live", got)
	}
}

// TestCacheAccountsHonestly compares what the cache says with what the heap
// grows by, and with the bound of 1.5 KiB for a typical token.
func TestCacheAccountsHonestly(t *testing.T) {
	f := newForger("EdDSA")
	const n = 3_000
	s := newSite(t, n*4096, f.key)
	texts := make([]string, n)
	for i := range texts {
		texts[i] = f.claim("jti", tokentest.Encode(fmt.Appendf(nil, "%016d", i)))
	}
	before := heap()
	for _, text := range texts {
		s.learn(t, text)
	}
	grown, says := heap()-before, s.cache.Bytes()
	runtime.KeepAlive(texts)
	if s.cache.Len() != n {
		t.Fatalf("%d tokens, want %d", s.cache.Len(), n)
	}
	t.Logf("per token: the heap grew by %d bytes, the cache says %d; the token has %d", grown/n, says/n, len(texts[0]))
	if grown > says {
		t.Errorf("the heap grew by %d bytes, more than the %d accounted for", grown, says)
	}
	if says > grown*3/2 {
		t.Errorf("the cache accounts for %d bytes, far more than the %d it takes", says, grown)
	}
	if grown/n > 1536 {
		t.Errorf("%d bytes for a token, more than 1.5 KiB", grown/n)
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestCacheUnderConcurrency is for the race detector: everything at once, and
// no claims but a token's own come back.
func TestCacheUnderConcurrency(t *testing.T) {
	f := newForger("EdDSA")
	s := newSite(t, token.MinCacheBytes, f.key)
	texts := make([]string, 100)
	for i := range texts {
		texts[i] = f.claim("jti", fmt.Sprint(i))
	}
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			for i := range 200 {
				n := (i*7 + worker*13) % len(texts)
				if claims, ok := s.cache.Get(texts[n], s.find); ok && claims.ID() != fmt.Sprint(n) {
					t.Errorf("asked for %d, got %s", n, claims.ID())
				} else if !ok {
					claims, err := verify(s.v, texts[n])
					if err != nil {
						t.Error(err)
						return
					}
					s.cache.Put(s.v, claims)
				}
				if i%100 == 0 {
					s.cache.DropKey(f.key.ID())
					s.cache.Bytes()
				}
			}
		})
	}
	group.Wait()
}

func TestCacheSizeIsChecked(t *testing.T) {
	for _, bytes := range []int64{-1, 0, token.MinCacheBytes - 1} {
		if _, err := token.NewCache(bytes); err == nil {
			t.Errorf("a cache of %d bytes is made", bytes)
		}
	}
}
