package controlplane

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"
)

// A request ends though its body does not, and though the answer to it does not:
// neither is watched, nor ends with the token.
func TestRequestWithoutEndIsBounded(t *testing.T) {
	was := requestTimeout
	t.Cleanup(func() { requestTimeout = was })
	requestTimeout = time.Second
	ended := make(chan error, 1)
	url := startGRPC(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		err := errors.Join(http.NewResponseController(w).Flush(), drained(r.Body))
		for err == nil && r.Method == http.MethodGet {
			_, err = io.Copy(w, io.LimitReader(trickle{r.Context()}, 1))
			err = errors.Join(err, http.NewResponseController(w).Flush())
		}
		ended <- err
	}))
	r := newRig(t, `
services: {orders: {url: "`+url+`"}}
routes: [{id: orders, path: /orders, service: orders, public: true, timeout: 1s}]
`)
	for _, method := range []string{http.MethodPost, http.MethodGet} {
		t.Run(method, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
			defer cancel()
			var body io.Reader
			if method == http.MethodPost {
				body = trickle{ctx}
			}
			request, err := http.NewRequestWithContext(ctx, method, r.url("/orders"), body)
			if err != nil {
				t.Fatal(err)
			}
			response, err := r.client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if response.StatusCode != http.StatusOK || response.ProtoMajor != 2 {
				t.Fatalf("the answer began with %s %s", response.Proto, response.Status)
			}
			if err := drained(response.Body); err == nil || ctx.Err() != nil {
				t.Fatalf("the client may go on: %v, %v", err, ctx.Err())
			}
			if err := <-ended; err == nil {
				t.Error("the service hears an end that the client did not send")
			}
		})
	}
}

func drained(body io.Reader) error {
	_, err := io.Copy(io.Discard, body)
	return err
}

// trickle is a body with another byte ten times a second, until its context ends.
type trickle struct{ ctx context.Context }

func (b trickle) Read(p []byte) (int, error) {
	select {
	case <-b.ctx.Done():
		return 0, b.ctx.Err()
	case <-time.After(100 * time.Millisecond):
		return copy(p, "."), nil
	}
}
