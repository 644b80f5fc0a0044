package ratelimit

import (
	"container/list"
	"context"
	"strings"
	"sync"
	"time"
)

// Memory keeps counters in this process, at most a number of them: the one that
// was unused for longest is forgotten first. Only requests that were let in
// reach it, so whoever makes up tokens makes nobody forgotten.
type Memory struct {
	max int

	mu      sync.Mutex
	entries map[string]*list.Element
	order   *list.List // the last used first
	evicted int64
}

// NewMemory keeps at most max counters.
func NewMemory(max int) *Memory {
	return &Memory{max: max, entries: map[string]*list.Element{}, order: list.New()}
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
	if !ok {
		m.forget()
		e = m.order.PushFront(&Stored{Key: d.Key})
		m.entries[d.Key] = e
	}
	m.order.MoveToFront(e)
	stored := e.Value.(*Stored)
	if d.isQuota() {
		stored.A, stored.B = stored.A+1, d.Limit
		return
	}
	at := now.UnixMicro()
	stored.A, stored.B = d.level(*stored, at)+d.cost(), max(stored.B, at)
}

// forget makes room for one more.
func (m *Memory) forget() {
	for len(m.entries) >= m.max {
		last := m.order.Back()
		m.order.Remove(last)
		delete(m.entries, last.Value.(*Stored).Key)
		m.evicted++
	}
}

// List implements Counters.
func (m *Memory) List(_ context.Context, _ time.Time, prefix string, max int) (found []Stored, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for e := m.order.Front(); e != nil && len(found) < max; e = e.Next() {
		if s := e.Value.(*Stored); strings.HasPrefix(s.Key, prefix) {
			found = append(found, *s)
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
