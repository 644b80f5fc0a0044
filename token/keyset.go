package token

import (
	"errors"
	"fmt"
	"slices"
)

// Bounds on a JWK Set: bytes of its text, and keys.
const (
	MaxKeySetSize = 256 << 10
	MaxKeys       = 100
)

// ErrNoKeys is in the error of a JWK Set that is well formed and has no key
// that we can use: its issuer can sign nothing that verifies.
var ErrNoKeys = errors.New("no usable key")

// KeySet are the keys of one issuer. It is immutable.
type KeySet struct {
	byID  map[string]*Key
	notes []string
	texts [][]byte // the JWKs, of assertion keys alone
}

// ParseKeySet reads a JWK Set (RFC 7517 §5). Keys that cannot verify a token
// with one of the algorithms are left out, with a note each; a set in which a
// kid or a key stands twice is refused whole, for it is not known which of the
// two is meant (RFC 7517 §4.5).
func ParseKeySet(jwks []byte, allowed []Algorithm) (*KeySet, error) {
	if err := checkAlgorithms(allowed); err != nil {
		return nil, err
	}
	if len(jwks) > MaxKeySetSize {
		return nil, fmt.Errorf("the JWK Set has %d bytes, more than %d", len(jwks), MaxKeySetSize)
	}
	keys, err := scanKeySet(string(jwks))
	if err != nil {
		return nil, fmt.Errorf("reading the JWK Set: %w", err)
	}
	ks := &KeySet{byID: map[string]*Key{}}
	if err := ks.add(keys, allowed); err != nil {
		return nil, err
	}
	if len(ks.byID) == 0 {
		return nil, fmt.Errorf("the JWK Set has %w: %q", ErrNoKeys, ks.notes)
	}
	return ks, nil
}

func checkAlgorithms(algs []Algorithm) error {
	if len(algs) == 0 {
		return fmt.Errorf("no algorithm is allowed; allow some of %v", Algorithms())
	}
	for _, alg := range algs {
		if !supported(alg) {
			return fmt.Errorf("the algorithm %q is not supported; use some of %v", alg, Algorithms())
		}
	}
	return nil
}

// scanKeySet reads the member "keys", which must be there.
func scanKeySet(text string) (keys []jwk, err error) {
	found := false
	err = scanObject(text, func(s *scanner, name string) error {
		if name != "keys" {
			return s.skip()
		}
		found = true
		return s.array(func(s *scanner) error {
			if len(keys) >= MaxKeys {
				return s.fault(fmt.Sprintf("more than %d keys", MaxKeys))
			}
			keys = append(keys, jwk{})
			return s.object(keys[len(keys)-1].member)
		})
	})
	if err == nil && !found {
		err = fmt.Errorf("it has no member \"keys\"")
	}
	return keys, err
}

func (ks *KeySet) add(keys []jwk, allowed []Algorithm) error {
	ids, thumbprints := map[string]bool{}, map[string]bool{}
	for i, k := range keys {
		if k.kid != "" && ids[k.kid] {
			return fmt.Errorf("the kid %s stands twice in the JWK Set", quoted(k.kid))
		}
		ids[k.kid] = true
		key, err := k.key(allowed)
		if err != nil {
			ks.notes = append(ks.notes, fmt.Sprintf("key %d (kid %s) is left out: %v", i, quoted(k.kid), err))
			continue
		}
		if thumbprints[key.thumbprint] {
			return fmt.Errorf("the key with kid %s stands twice in the JWK Set", quoted(k.kid))
		}
		thumbprints[key.thumbprint] = true
		ks.byID[key.id] = key
	}
	return nil
}

// Lookup finds a key by its kid.
func (ks *KeySet) Lookup(kid string) (*Key, bool) {
	if ks == nil {
		return nil, false
	}
	key, ok := ks.byID[kid]
	return key, ok
}

// Len is the number of keys.
func (ks *KeySet) Len() int {
	if ks == nil {
		return 0
	}
	return len(ks.byID)
}

// IDs are the keys' kids, sorted.
func (ks *KeySet) IDs() []string {
	if ks == nil {
		return nil
	}
	ids := make([]string, 0, len(ks.byID))
	for id := range ks.byID {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// Notes say which keys were left out of the set and why, for operators.
func (ks *KeySet) Notes() []string { return slices.Clone(ks.notes) }

// without is the set less the keys that match.
func (ks *KeySet) without(drop func(*Key) bool) *KeySet {
	rest := &KeySet{byID: map[string]*Key{}, notes: ks.notes}
	for id, key := range ks.byID {
		if !drop(key) {
			rest.byID[id] = key
		}
	}
	return rest
}
