package journal

import (
	"container/list"
	"strings"
	"sync"
	"time"

	"gatehouse.dev/gatehouse/issuer/store"
)

// Kinds of anomalies.
const (
	// KindAccount: logins to one account fail again and again.
	KindAccount = "account_failures"
	// KindAddress: logins from one address fail again and again.
	KindAddress = "address_failures"
	// KindRefusals: a client is refused much more than it used to be.
	KindRefusals = "client_refusals"
	// KindReplay: a used code or refresh token came again.
	KindReplay = "replay"
)

var kinds = []string{KindAccount, KindAddress, KindRefusals, KindReplay}

// EventLogin is an attempt to log in.
const EventLogin = "login"

const (
	accountFailures = 10
	addressFailures = 50
	failureWindow   = 10 * time.Minute
	clientRefusals  = 30
	refusalWindow   = time.Minute
	// surge is how many times more than in the window before is sudden.
	surge = 5
	// replayWindow is how often a client's replays are told of.
	replayWindow = time.Minute
	// maxCounts bounds what is remembered of each kind; the least recently seen
	// is forgotten first.
	maxCounts = 10_000
)

// anomaly is something to look at, with the event that made it one.
type anomaly struct {
	kind   string
	event  store.Event
	count  int
	within time.Duration
}

// watch counts what fails.
type watch struct {
	accounts, addresses, refusals, replays *counts
}

func newWatch() *watch {
	return &watch{
		accounts:  newCounts(accountFailures, failureWindow, 0),
		addresses: newCounts(addressFailures, failureWindow, 0),
		refusals:  newCounts(clientRefusals, refusalWindow, surge),
		replays:   newCounts(1, replayWindow, 0),
	}
}

// look is what an event makes unusual.
func (w *watch) look(e store.Event) (found []anomaly) {
	add := func(kind, key string, c *counts) {
		if n := c.add(key, e.At); n > 0 {
			found = append(found, anomaly{kind, e, n, c.window})
		}
	}
	switch {
	case e.Name == store.EventReplay:
		add(KindReplay, e.Client, w.replays)
	case e.Name == EventLogin && e.Result != store.Success:
		if e.Subject != "" {
			add(KindAccount, e.Subject, w.accounts)
		}
		if e.Address != "" {
			add(KindAddress, e.Address, w.addresses)
		}
	case strings.HasSuffix(e.Name, ".refuse") && e.Client != "":
		add(KindRefusals, e.Client, w.refusals)
	}
	return found
}

// counts counts by key in windows of time.
type counts struct {
	limit  int
	window time.Duration
	// surge: the limit alone is not unusual where the window before had nearly
	// as many; 0: it is.
	surge int

	mu     sync.Mutex
	byKey  map[string]*list.Element
	recent *list.List // of *count, the most recently seen first
}

type count struct {
	key         string
	began       time.Time
	now, before int
	told        bool
}

func newCounts(limit int, window time.Duration, surge int) *counts {
	return &counts{limit: limit, window: window, surge: surge, byKey: map[string]*list.Element{}, recent: list.New()}
}

// add counts one and is the count where it became unusual with it, once a
// window; else 0.
func (c *counts) add(key string, at time.Time) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.of(key, at)
	switch since := at.Sub(k.began); {
	case since >= 2*c.window:
		k.began, k.before, k.now, k.told = at, 0, 0, false
	case since >= c.window:
		k.began, k.before, k.now, k.told = k.began.Add(c.window), k.now, 0, false
	}
	k.now++
	if k.told || k.now < max(c.limit, c.surge*k.before) {
		return 0
	}
	k.told = true
	return k.now
}

func (c *counts) of(key string, at time.Time) *count {
	if element, ok := c.byKey[key]; ok {
		c.recent.MoveToFront(element)
		return element.Value.(*count)
	}
	if c.recent.Len() >= maxCounts {
		oldest := c.recent.Back()
		c.recent.Remove(oldest)
		delete(c.byKey, oldest.Value.(*count).key)
	}
	k := &count{key: key, began: at}
	c.byKey[key] = c.recent.PushFront(k)
	return k
}
