package controlplane

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"
)

// load asks for a path over and over and never retries: each request that is
// sent counts, and each that is not answered with 200 is lost.
type load struct {
	cancel context.CancelFunc
	group  sync.WaitGroup

	mu   sync.Mutex
	sent int
	lost []string
}

func startLoad(t *testing.T, r *rig, path string) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l, url := &load{cancel: cancel}, r.url(path)
	for range 4 {
		client := edgeClient(t, false)
		l.group.Go(func() {
			defer client.CloseIdleConnections()
			tick := time.NewTicker(2 * time.Millisecond)
			defer tick.Stop()
			for {
				l.once(client, url)
				select {
				case <-tick.C:
				case <-ctx.Done():
					return
				}
			}
		})
	}
	return l
}

func (l *load) once(client *http.Client, url string) {
	problem := ask(client, url)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent++
	if problem != "" {
		l.lost = append(l.lost, problem)
	}
}

func ask(client *http.Client, url string) (problem string) {
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return err.Error()
	}
	request.Header.Set("Authorization", bearer)
	response, err := client.Do(request)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err.Error()
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Sprintf("%d %s", response.StatusCode, body)
	}
	return ""
}

// more waits until another n requests were answered.
func (l *load) more(t *testing.T, n int) {
	t.Helper()
	goal := l.count() + n
	await(t, "requests", func() error {
		if got := l.count(); got < goal {
			return fmt.Errorf("%d of %d", got, goal)
		}
		return nil
	})
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sent
}

// stop ends the load and tells what was lost of how many.
func (l *load) stop() (lost []string, sent int) {
	l.cancel()
	l.group.Wait()
	return l.lost, l.sent
}

// renaming is a gateway whose service, and so whose cluster, has a new name in
// each edit; only the name differs.
func renaming(url string, i int) string {
	return fmt.Sprintf(`
services: {orders-%d: {url: %s}}
routes:
  - {id: orders, path: /orders, service: orders-%d, audience: a, scopes: ["edit:%d"]}
`, i, url, i, i)
}

// Edits under load lose nothing: a service renamed, moved to another address,
// found by name, and routes in front.
func TestEditsLoseNothing(t *testing.T) {
	one, two := startService(t, "one"), startService(t, "two")
	r := newRig(t, renaming(one.URL, 0))
	l := startLoad(t, r, "/orders")
	l.more(t, 100)
	for i := 1; i <= 3; i++ {
		r.apply(t, r.parse(t, renaming(one.URL, i)))
	}
	moved := r.parse(t, renaming(two.URL, 3))
	r.apply(t, moved)
	named := r.parse(t, renaming(byName(two), 4))
	r.apply(t, named)
	named.Routes = append([]Route{{ID: "first", Path: "/orders/{id}", Service: "orders-4", Audience: "a", Timeout: time.Second}}, named.Routes...)
	r.apply(t, named)
	l.more(t, 100)
	if lost, sent := l.stop(); len(lost) > 0 {
		t.Errorf("%d of %d requests were lost: %s", len(lost), sent, lost[0])
	}
	if one.last() == nil || two.last() == nil {
		t.Error("the load did not move from one service to the other")
	}
}

// The same edits at once lose requests: the test above would notice.
func TestEditsAtOnceLoseRequests(t *testing.T) {
	one := startService(t, "one")
	r := newRig(t, renaming(one.URL, 0), func(r *rig, _ *envoyConfig) { r.atOnce = true })
	l := startLoad(t, r, "/orders")
	l.more(t, 100)
	for i := 1; i <= 8; i++ {
		r.apply(t, r.parse(t, renaming(byName(one), i)))
		l.more(t, 20)
	}
	lost, sent := l.stop()
	if len(lost) == 0 {
		t.Errorf("none of %d requests was lost", sent)
	}
	t.Logf("%d of %d lost", len(lost), sent)
}

// A control plane that goes away, and one that comes back with another
// configuration, lose nothing.
func TestControlPlaneRestartLosesNothing(t *testing.T) {
	one := startService(t, "one")
	r := newRig(t, renaming(one.URL, 0))
	l := startLoad(t, r, "/orders")
	l.more(t, 100)
	for i := range 2 {
		r.stop()
		l.more(t, 100)
		r.gateway = r.parse(t, renaming(one.URL, i))
		r.startControlPlane(t)
		await(t, "Envoy to come back", r.taken)
	}
	l.more(t, 100)
	if lost, sent := l.stop(); len(lost) > 0 {
		t.Errorf("%d of %d requests were lost: %s", len(lost), sent, lost[0])
	}
}
