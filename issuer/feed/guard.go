package feed

import (
	"sync"
	"time"
)

// guard notices a message that is not taken in time.
type guard struct {
	timer   *time.Timer
	limit   time.Duration
	expired chan struct{}
	once    sync.Once
}

// newGuard makes a guard that is not armed.
func newGuard(limit time.Duration) *guard {
	g := &guard{limit: limit, expired: make(chan struct{})}
	g.timer = time.AfterFunc(limit, func() { g.once.Do(func() { close(g.expired) }) })
	g.timer.Stop()
	return g
}

func (g *guard) arm()    { g.timer.Reset(g.limit) }
func (g *guard) disarm() { g.timer.Stop() }
