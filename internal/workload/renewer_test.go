package workload

import (
	"context"
	"crypto/x509"
	"slices"
	"testing"
	"time"
)

// A trust bundle that comes while a renewal is under way is not undone by the
// renewal's answer, which may be of before; a certificate that only the answer's
// roots verify shows that it is of after.
func TestABundleDuringARenewal(t *testing.T) {
	const id = "spiffe://example.org/service/orders"
	old, next := newAuthority(t), newAuthority(t)
	both := []*x509.Certificate{old.cert, next.cert}
	for name, row := range map[string]struct {
		present, answer *State
		pushed, want    []*x509.Certificate
		kept            bool
	}{
		"the answer is of before":                {old.state(id), old.state(id), both, both, true},
		"a root is dropped":                      {old.state(id, next.cert), next.state(id, old.cert), both[1:], both[1:], true},
		"nothing comes":                          {old.state(id), old.state(id, next.cert), nil, []*x509.Certificate{next.cert, old.cert}, false},
		"the answer is of after":                 {old.state(id, next.cert), next.state(id), both[:1], both[1:], false},
		"what comes is what is there: no change": {old.state(id), next.state(id), both[:1], both[1:], false},
	} {
		t.Run(name, func(t *testing.T) {
			var s *Source
			var written []*x509.Certificate
			s = newSource(func(context.Context, *State) (*State, error) {
				if err := s.Trust(row.pushed); err != nil {
					t.Error(err)
				}
				written = nil // as the answer's bundle is by now
				return row.answer, nil
			}, Deps{Logger: logger(t), Now: time.Now})
			s.renewer.keepRoots = func(roots []*x509.Certificate) error { written = roots; return nil }
			s.Set(row.present)
			if err := s.renewer.renew(t.Context(), row.present); err != nil {
				t.Fatal(err)
			}
			same := func(a, b *x509.Certificate) bool { return a.Equal(b) }
			state, _ := s.Current()
			if state.Pair != row.answer.Pair || !slices.EqualFunc(state.Roots, row.want, same) {
				t.Errorf("%d roots, not the %d that are wanted, or another certificate than the answer's", len(state.Roots), len(row.want))
			}
			if kept := slices.EqualFunc(written, row.want, same); kept != row.kept {
				t.Errorf("the bundle was written down: %v, want %v", kept, row.kept)
			}
		})
	}
}
