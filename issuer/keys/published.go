package keys

import (
	"sync/atomic"

	"gatehouse.dev/gatehouse/token"
)

// publishedKeys parses the published key set once for each snapshot.
type publishedKeys struct{ last atomic.Pointer[parsedKeys] }

type parsedKeys struct {
	of  *snapshot
	set *token.KeySet
}

// of is the key set of a snapshot; nil where it does not parse, which no
// verifier accepts.
func (p *publishedKeys) of(s *snapshot) *token.KeySet {
	if s == nil {
		return nil
	}
	if last := p.last.Load(); last != nil && last.of == s {
		return last.set
	}
	set, err := token.ParseKeySet(s.jwks, everyAlgorithm())
	if err != nil {
		set = nil
	}
	p.last.Store(&parsedKeys{of: s, set: set})
	return set
}
