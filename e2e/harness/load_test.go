package harness

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

func plainLoad(t *testing.T, url string) Load {
	return Load{Address: url[len("http://"):], Workers: 2, Next: func(int, int) *http.Request {
		request, err := http.NewRequest(http.MethodGet, url+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		return request
	}}
}

// A server that loses one request in a hundred, in each way that counts, is
// found out; one that loses none is not accused.
func TestLoadNoticesWhatIsLost(t *testing.T) {
	for name, lose := range map[string]func(w http.ResponseWriter){
		"nothing":        nil,
		"a 503":          func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) },
		"a redirect":     func(w http.ResponseWriter) { w.WriteHeader(http.StatusFound) },
		"a broken body":  func(w http.ResponseWriter) { w.Header().Set("Content-Length", "100"); fmt.Fprint(w, "half") },
		"the connection": func(w http.ResponseWriter) { panic(http.ErrAbortHandler) },
		"a closed one":   func(w http.ResponseWriter) { closeNow(w) },
	} {
		t.Run(name, func(t *testing.T) {
			var arrived atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if arrived.Add(1)%100 == 0 && lose != nil {
					lose(w)
					return
				}
				fmt.Fprint(w, "well")
			}))
			defer server.Close()
			running := plainLoad(t, server.URL).Start(t)
			running.AwaitMore(t, 500)
			results := running.Stop()
			if int(arrived.Load()) != len(results) {
				t.Errorf("%d requests arrived of %d: something was sent twice", arrived.Load(), len(results))
			}
			if lost := len(Lost(results)); lose == nil && lost != 0 || lose != nil && lost != len(results)/100 {
				t.Errorf("%d of %d requests count as lost", lost, len(results))
			}
		})
	}
}

func closeNow(w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		conn.Close()
	}
}

// A server that says that a connection ends loses nothing: the next request
// takes another one.
func TestLoadFollowsConnectionClose(t *testing.T) {
	var connections atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	running := plainLoad(t, server.URL).Start(t)
	running.AwaitMore(t, 100)
	results := running.Stop()
	ExpectNoneLost(t, results, 100)
	if int(connections.Load()) != len(results) {
		t.Errorf("%d connections for %d requests", connections.Load(), len(results))
	}
}

// Only what failed while the machine stood still is excused.
func TestStallsExcuseNothingElse(t *testing.T) {
	at := func(ms int) time.Time { return time.Unix(1000, 0).Add(time.Duration(ms) * time.Millisecond) }
	stall := []Stall{{at(1000), at(3000)}}
	for name, row := range map[string]struct {
		result  Result
		excused int
	}{
		"503 across it":       {Result{Start: at(900), End: at(3100), Status: 503}, 1},
		"503 begun within":    {Result{Start: at(2900), End: at(3100), Status: 503}, 1},
		"broken across it":    {Result{Start: at(900), End: at(3100), Err: net.ErrClosed}, 1},
		"503 before":          {Result{Start: at(900), End: at(999), Status: 503}, 0},
		"503 after":           {Result{Start: at(3001), End: at(3100), Status: 503}, 0},
		"answered across it":  {Result{Start: at(900), End: at(3100), Status: 200}, 0},
		"denied across it":    {Result{Start: at(900), End: at(3100), Status: 403}, 0},
		"not found across it": {Result{Start: at(900), End: at(3100), Status: 404}, 0},
	} {
		if kept, excused := excuse([]Result{row.result}, stall); excused != row.excused || len(kept) != 1-row.excused {
			t.Errorf("%s: %d excused, %d kept", name, excused, len(kept))
		}
	}
}
