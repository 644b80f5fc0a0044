package e2e

import (
	"crypto/tls"
	"encoding/hex"
	"sync"
)

// witness is what came into use, as those saw it who have to do with it: of each
// kind, everything different.
type witness struct {
	mu   sync.Mutex
	seen map[string]map[string]bool
}

// Kinds beside the leaves of each part.
const (
	roots         = "roots"
	intermediates = "intermediates"
	assertionKeys = "assertion keys"
)

func leavesOf(part string) string { return "leaves of " + part }

func (w *witness) note(kind, what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seen == nil {
		w.seen = map[string]map[string]bool{}
	}
	if w.seen[kind] == nil {
		w.seen[kind] = map[string]bool{}
	}
	w.seen[kind][what] = true
}

func (w *witness) count(kind string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.seen[kind])
}

// chain notes what a part showed and its peer has verified: its leaf, the
// intermediate that signed it, and the root's key that signed that.
func (w *witness) chain(part string, state tls.ConnectionState) {
	leaf, intermediate := state.PeerCertificates[0], state.PeerCertificates[1]
	w.note(leavesOf(part), leaf.SerialNumber.String())
	w.note(intermediates, intermediate.SerialNumber.String())
	w.note(roots, hex.EncodeToString(intermediate.AuthorityKeyId))
}
