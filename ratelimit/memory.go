package ratelimit

import (
	"container/list"
	"context"
	"strings"
	"sync"
	"time"

	"gatehouse.dev/gatehouse/envoy"
)

// Memory keeps counters in this process, at most a number of callers' and as
// many of addresses: the one that was unused for longest is forgotten first.
// Callers are those that were let in, so whoever makes up tokens makes nobody
// forgotten; nor does whoever has many addresses, which are counted on public
// paths, too.
type Memory struct {
	max int

	mu        sync.Mutex
	entries   map[string]*list.Element
	callers   *list.List // the last used first
	addresses *list.List
	evicted   int64
}

// NewMemory keeps at most max counters.
func NewMemory(max int) *Memory {
	return &Memory{max: max, entries: map[string]*list.Element{}, callers: list.New(), addresses: list.New()}
}

// order is the list that a counter is in.
func (m *Memory) order(key string) *list.List {
	if strings.HasPrefix(key, envoy.ByAddress+"/") {
		return m.addresses
	}
	return m.callers
}

// Take implements Counters; it never fails.
func (m *Memory) Take(_ context.Context, now time.Time, demands []Demand) ([]Outcome, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	outcomes := make([]Outcome, len(demands))
	for i := range demands {
		outcomes[i] = m.outcome(&demands[i], now)
	}
	if !fits(outcomes) {
		return outcomes, nil
	}
	for i := range demands {
		d := &demands[i]
		m.count(d, now)
		outcomes[i] = m.outcome(d, now)
		outcomes[i].Fits, outcomes[i].Retry = true, 0
	}
	return outcomes, nil
}

func (m *Memory) outcome(d *Demand, now time.Time) Outcome {
	stored := m.stored(d.Key)
	if d.isQuota() {
		return d.quota(stored.A, now)
	}
	return d.bucket(d.level(stored, now.UnixMicro()))
}

func (m *Memory) stored(key string) Stored {
	if e, ok := m.entries[key]; ok {
		return *e.Value.(*Stored)
	}
	return Stored{}
}

func (m *Memory) count(d *Demand, now time.Time) {
	e, ok := m.entries[d.Key]
	order := m.order(d.Key)
	if !ok {
		m.forget(order)
		e = order.PushFront(&Stored{Key: d.Key})
		m.entries[d.Key] = e
	}
	order.MoveToFront(e)
	stored := e.Value.(*Stored)
	if d.isQuota() {
		stored.A, stored.B = stored.A+1, d.Limit
		return
	}
	at := now.UnixMicro()
	stored.A, stored.B = d.level(*stored, at)+d.cost(), max(stored.B, at)
}

// forget makes room for one more.
func (m *Memory) forget(order *list.List) {
	for order.Len() >= m.max {
		last := order.Back()
		order.Remove(last)
		delete(m.entries, last.Value.(*Stored).Key)
		m.evicted++
	}
}

// List implements Counters.
func (m *Memory) List(_ context.Context, _ time.Time, prefix string, max int) (found []Stored, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, order := range []*list.List{m.callers, m.addresses} {
		for e := order.Front(); e != nil && len(found) < max; e = e.Next() {
			if s := e.Value.(*Stored); strings.HasPrefix(s.Key, prefix) {
				found = append(found, *s)
			}
		}
	}
	return found, nil
}

// figures are how many counters there are, and how many were forgotten.
func (m *Memory) figures() (counters int, evicted int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.entries), m.evicted
}
