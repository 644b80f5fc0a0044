package harness

import (
	"net/http"
	"sync"
	"time"
)

// standstill is how long a machine has to stand still to be no witness of what
// was lost meanwhile: about as long as Envoy waits for a Check. A virtual
// machine is stopped now and then for longer; a busy one is not.
const standstill = 900 * time.Millisecond

// Stall is a time in which nothing ran on this machine, this process included.
type Stall struct{ From, To time.Time }

// watch notes stalls from its first call on.
var watch = sync.OnceValue(func() *stalls {
	s := &stalls{}
	go s.run()
	return s
})

type stalls struct {
	mu   sync.Mutex
	list []Stall
}

func (s *stalls) run() {
	last := time.Now()
	for now := range time.Tick(20 * time.Millisecond) {
		// The tick's own time may be from before the stall.
		if now = time.Now(); now.Sub(last) >= standstill {
			s.mu.Lock()
			s.list = append(s.list, Stall{last, now})
			s.mu.Unlock()
		}
		last = now
	}
}

func (s *stalls) since(begin time.Time) (list []Stall) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, stall := range s.list {
		if stall.To.After(begin) {
			list = append(list, stall)
		}
	}
	return list
}

// excuse takes out the results that failed and were under way in a stall; all
// others stay, good and bad.
func excuse(results []Result, list []Stall) (kept []Result, excused int) {
	for _, r := range results {
		if failed := r.Err != nil || r.Status == http.StatusServiceUnavailable; failed && underWay(r, list) {
			excused++
			continue
		}
		kept = append(kept, r)
	}
	return kept, excused
}

func underWay(r Result, list []Stall) bool {
	for _, stall := range list {
		if r.Start.Before(stall.To) && r.End.After(stall.From) {
			return true
		}
	}
	return false
}
