package login

import (
	"time"

	"gatehouse.dev/gatehouse/issuer/budget"
)

// throttle slows down guessing. Failures count per account and address, so
// whoever guesses cannot lock the person out, who comes from elsewhere; and per
// address over all accounts.
type throttle struct {
	now   func() time.Time
	pairs *budget.Buckets
	// addresses allow more: behind one may sit an office.
	addresses *budget.Buckets
}

func newThrottle(now func() time.Time) *throttle {
	return &throttle{
		now:       now,
		pairs:     budget.New(5, 30*time.Second),
		addresses: budget.New(50, 5*time.Second),
	}
}

// take counts an attempt before it is tried, so that parallel ones cannot slip
// through; wait > 0 tells to come again later. An attempt that succeeds is
// forgiven by calling forgive.
func (t *throttle) take(account, address string) (forgive func(), wait time.Duration) {
	now := t.now()
	pair, from := budget.KeyOf(account, address), budget.KeyOf(address)
	if wait = t.addresses.Take(from, now); wait > 0 {
		return nil, wait
	}
	if wait = t.pairs.Take(pair, now); wait > 0 {
		t.addresses.Give(from)
		return nil, wait
	}
	return func() { t.pairs.Forget(pair); t.addresses.Give(from) }, 0
}
