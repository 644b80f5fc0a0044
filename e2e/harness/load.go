package harness

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Load is a stream of requests over a few connections. Nothing is ever sent
// twice: each worker writes its requests to its own connection by hand, for
// Go's client repeats a request whose connection breaks. A worker connects anew
// only where the answer said that the connection ends, or after a request that
// failed, which counts as a failure.
type Load struct {
	// Address is the host:port to connect to; TLS is nil for plain HTTP.
	Address string
	TLS     *tls.Config
	// Workers is the number of connections; 0: four.
	Workers int
	// Pause is between two requests of a worker.
	Pause time.Duration
	// Brief keeps nothing of good answers but that they were: for long loads.
	Brief bool
	// Next makes the request number n of a worker.
	Next func(worker, n int) *http.Request
}

// Result is one request of a load.
type Result struct {
	// Worker and N are those of Load.Next.
	Worker, N  int
	Path       string
	Start, End time.Time
	Status     int
	Header     http.Header
	Body       string
	// Err is set where no whole answer came.
	Err error
}

func (r Result) String() string {
	if r.Err != nil {
		return fmt.Sprintf("%s %s: %v", r.Start.Format("15:04:05.000"), r.Path, r.Err)
	}
	return fmt.Sprintf("%s %s: %d %q %s", r.Start.Format("15:04:05.000"), r.Path, r.Status, r.Header.Get("WWW-Authenticate"), strings.TrimSpace(r.Body))
}

// Running is a load under way.
type Running struct {
	t     testing.TB
	begin time.Time
	stop  context.CancelFunc
	all   sync.WaitGroup
	once  sync.Once

	mu      sync.Mutex
	results []Result
}

// Start begins the load; it ends at the latest with the test.
func (l Load) Start(t testing.TB) *Running {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	watch()
	r := &Running{t: t, begin: time.Now(), stop: stop}
	if l.Workers == 0 {
		l.Workers = 4
	}
	for worker := range l.Workers {
		r.all.Go(func() { l.work(ctx, r, worker) })
	}
	t.Cleanup(func() { r.Stop() })
	return r
}

// Stop ends the load, once the requests under way are answered, and returns
// what happened, in the order in which it was sent. What failed while the
// machine stood still is left out, and told.
func (r *Running) Stop() []Result {
	r.once.Do(func() {
		r.stop()
		r.all.Wait()
		slices.SortFunc(r.results, func(a, b Result) int { return a.Start.Compare(b.Start) })
		list := watch().since(r.begin)
		var excused int
		if r.results, excused = excuse(r.results, list); excused > 0 {
			r.t.Logf("%d requests do not count, for the machine stood still: %v", excused, list)
		}
	})
	return r.results
}

// Sent is how many requests were answered, or failed, so far.
func (r *Running) Sent() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.results)
}

// Last is the most recent result of a worker, the zero value for none.
func (r *Running) Last(worker int) Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := len(r.results) - 1; i >= 0; i-- {
		if r.results[i].Worker == worker {
			return r.results[i]
		}
	}
	return Result{}
}

// AwaitMore waits until the load has sent some more.
func (r *Running) AwaitMore(t testing.TB, n int) {
	t.Helper()
	before := r.Sent()
	Eventually(t, 20*time.Second, func() error {
		if sent := r.Sent() - before; sent < n {
			return fmt.Errorf("the load sent %d more requests, not %d", sent, n)
		}
		return nil
	})
}

// wire is a worker's connection.
type wire struct {
	conn   net.Conn
	reader *bufio.Reader
}

func (l Load) work(ctx context.Context, r *Running, worker int) {
	var w *wire
	defer func() {
		if w != nil {
			w.conn.Close()
		}
	}()
	for n := 0; ctx.Err() == nil; n++ {
		request := l.Next(worker, n)
		result := Result{Worker: worker, N: n, Path: request.Method + " " + request.URL.Path, Start: time.Now()}
		w = l.exchange(w, request, &result)
		result.End = time.Now()
		if l.Brief && result.good() {
			result.Header, result.Body = nil, ""
		}
		r.mu.Lock()
		r.results = append(r.results, result)
		r.mu.Unlock()
		pause(ctx, l.Pause)
	}
}

func pause(ctx context.Context, span time.Duration) {
	if span == 0 {
		return
	}
	timer := time.NewTimer(span)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// exchange sends one request, once, and returns the connection if it can be
// used again.
func (l Load) exchange(w *wire, request *http.Request, result *Result) *wire {
	if w == nil {
		conn, err := l.dial()
		if err != nil {
			result.Err = fmt.Errorf("connecting: %w", err)
			return nil
		}
		w = &wire{conn, bufio.NewReader(conn)}
	}
	again, err := w.exchange(request, result)
	if err != nil {
		result.Err = err
	}
	if err != nil || !again {
		w.conn.Close()
		return nil
	}
	return w
}

func (l Load) dial() (net.Conn, error) {
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	if l.TLS == nil {
		return dialer.Dial("tcp", l.Address)
	}
	return tls.DialWithDialer(dialer, "tcp", l.Address, l.TLS)
}

func (w *wire) exchange(request *http.Request, result *Result) (again bool, err error) {
	w.conn.SetDeadline(time.Now().Add(20 * time.Second))
	if err := request.Write(w.conn); err != nil {
		return false, fmt.Errorf("sending: %w", err)
	}
	response, err := http.ReadResponse(w.reader, request)
	if err != nil {
		return false, fmt.Errorf("receiving: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return false, fmt.Errorf("receiving the body: %w", err)
	}
	result.Status, result.Header, result.Body = response.StatusCode, response.Header, string(body)
	return !response.Close, nil
}

// Load sends requests to the gate: one path after the other, with one token.
func (s *System) Load(t testing.TB, token string, paths ...string) Load {
	t.Helper()
	return Load{
		Address: s.Gateway(), TLS: s.TLS(t), Pause: 2 * time.Millisecond,
		Next: func(_, n int) *http.Request { return s.Request(t, paths[n%len(paths)], token) },
	}
}

// Request is a GET to the gate with a Bearer token.
func (s *System) Request(t testing.TB, path, token string) *http.Request {
	request, err := http.NewRequest(http.MethodGet, s.URL(path), nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	return request
}

// good is what every request of an undisturbed load gets: an answer of the 2xx.
func (r Result) good() bool { return r.Err == nil && r.Status >= 200 && r.Status <= 299 }

// Lost are the results that are not good.
func Lost(results []Result) (lost []Result) {
	for _, r := range results {
		if !r.good() {
			lost = append(lost, r)
		}
	}
	return lost
}

// ExpectNoneLost fails unless everything sent was answered well, and enough was
// sent for that to mean something.
func ExpectNoneLost(t testing.TB, results []Result, atLeast int) {
	t.Helper()
	if len(results) < atLeast {
		t.Errorf("the load sent %d requests: fewer than %d prove nothing", len(results), atLeast)
	}
	Complain(t, Lost(results), len(results), "were lost")
}

// Complain fails the test where there are bad results, and shows some.
func Complain(t testing.TB, bad []Result, sent int, what string) {
	t.Helper()
	if len(bad) == 0 {
		return
	}
	var shown []string
	for _, r := range bad[:min(len(bad), 8)] {
		shown = append(shown, "  "+r.String())
	}
	t.Errorf("%d of %d requests %s:\n%s", len(bad), sent, what, strings.Join(shown, "\n"))
}
