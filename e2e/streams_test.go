package e2e

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/e2e/harness"
)

// streamLife is how long access tokens live here.
const streamLife = 6 * time.Second

// streams is a service that goes on: /events with a line ten times a second,
// /socket with whatever comes back.
func streams(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") == "websocket" {
		echo(w)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := fmt.Fprint(w, "data: tick\n\n"); err != nil {
			return
		}
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
		}
	}
}

func echo(w http.ResponseWriter) {
	conn, buffered, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
	io.Copy(conn, buffered)
}

func streaming(t *testing.T) (*harness.System, string) {
	t.Helper()
	service := httptest.NewServer(http.HandlerFunc(streams))
	t.Cleanup(service.Close)
	s := harness.Start(t, harness.Options{Configure: func(_ *harness.System, c harness.Config) {
		c.Set("issuer.access_token_lifetime", streamLife.String())
		c.Set("gateway.services.streams", map[string]any{"url": service.URL})
		guarded := harness.Route{"service": "streams", "audience": harness.OrdersAPI, "scopes": []string{"read:orders"}}
		route := func(id string, more harness.Route) harness.Route {
			r := harness.Route{"id": id, "path": "/" + id}
			for _, m := range []harness.Route{guarded, more} {
				for k, v := range m {
					r[k] = v
				}
			}
			return r
		}
		c.AddRoute(
			route("events", harness.Route{"stream": "1h"}),
			route("short", harness.Route{"stream": "1s"}),
			route("socket", harness.Route{"stream": "1h", "websocket": true}),
		)
	}})
	client := harness.Client{ID: "robot", Secret: s.AddClient(t, "robot", "read:orders")}
	return s, s.Token(t, client, "read:orders")
}

// follow reads a stream to its end, and says how long that took.
func follow(t *testing.T, s *harness.System, path, token string) (time.Duration, int) {
	t.Helper()
	request, err := http.NewRequest(http.MethodGet, s.URL(path), nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	// What a client says of it counts for nothing.
	request.Header.Set("X-Envoy-Upstream-Stream-Duration-Ms", "3600000")
	began := time.Now()
	response, err := s.HTTP().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := 0
	for scanner := bufio.NewScanner(response.Body); scanner.Scan(); {
		lines++
	}
	return time.Since(began), lines
}

// A stream ends with its token, at the latest, and with its route's lease.
func TestStreamsEndWithTheirToken(t *testing.T) {
	s, token := streaming(t)
	if took, lines := follow(t, s, "/events", token); took > streamLife+time.Second || took < streamLife/2 || lines < 20 {
		t.Errorf("the stream went on for %v, its token lives %v (%d lines)", took, streamLife, lines)
	}
	s, token = streaming(t)
	if took, lines := follow(t, s, "/short", token); took > 3*time.Second || lines < 4 {
		t.Errorf("the stream went on for %v, its lease is 1s (%d lines)", took, lines)
	}
}

func TestWebSocketEndsWithItsToken(t *testing.T) {
	s, token := streaming(t)
	began := time.Now()
	conn, status := upgrade(t, s, "/socket", token)
	defer conn.Close()
	if status != "HTTP/1.1 101 Switching Protocols\r\n" {
		t.Fatalf("the gate answers %q", status)
	}
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	heard := make([]byte, 5)
	if _, err := io.ReadFull(conn.reader, heard); err != nil || string(heard) != "hello" {
		t.Fatalf("heard %q: %v", heard, err)
	}
	io.Copy(io.Discard, conn.reader) // until the gate ends it
	if took := time.Since(began); took > streamLife+time.Second || took < streamLife/2 {
		t.Errorf("the connection went on for %v, its token lives %v", took, streamLife)
	}
	for path, token := range map[string]string{"/events": token, "/socket": "none"} {
		if refused, status := upgrade(t, s, path, token); status == "HTTP/1.1 101 Switching Protocols\r\n" {
			t.Errorf("%s was upgraded", path)
		} else {
			refused.Close()
		}
	}
}

// upgraded is a connection after the answer's head.
type upgraded struct {
	*tls.Conn
	reader *bufio.Reader
}

func upgrade(t *testing.T, s *harness.System, path, token string) (upgraded, string) {
	t.Helper()
	config := s.TLS(t).Clone()
	config.NextProtos = []string{"http/1.1"}
	conn, err := tls.Dial("tcp", s.Gateway(), config)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n", path, token)
	reader := bufio.NewReader(conn)
	status, err := reader.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	for line := status; line != "\r\n"; {
		if line, err = reader.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	return upgraded{conn, reader}, status
}
