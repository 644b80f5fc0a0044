package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// tokenServer is a contestant that answers token requests.
type tokenServer struct {
	pid  int
	http *http.Client
	// request is a round's worker: it sends one request after the other.
	worker func(kind issuance, n int) func(context.Context) error
}

// tokenRound is what one round showed.
type tokenRound struct{ rate, cpu, p50, p99 float64 } // per second, ms, ms, ms

// round gets so many tokens, parallel at once.
func (s *tokenServer) round(ctx context.Context, kind issuance, parallel, tokens int) (r tokenRound, err error) {
	before, err := cpuTime(s.pid)
	if err != nil {
		return r, err
	}
	var left atomic.Int64
	left.Store(int64(tokens))
	took := make([][]time.Duration, parallel)
	started := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for n := range parallel {
		send := s.worker(kind, n)
		group.Go(func() error {
			for left.Add(-1) >= 0 {
				at := time.Now()
				if err := send(ctx); err != nil {
					return err
				}
				took[n] = append(took[n], time.Since(at))
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return r, err
	}
	elapsed := time.Since(started)
	after, err := cpuTime(s.pid)
	if err != nil {
		return r, err
	}
	all := slices.Concat(took...)
	slices.Sort(all)
	milli := func(d time.Duration) float64 { return micro(d) / 1000 }
	return tokenRound{
		rate: float64(tokens) / elapsed.Seconds(), cpu: milli(after-before) / float64(tokens),
		p50: milli(all[len(all)/2]), p99: milli(all[len(all)*99/100]),
	}, nil
}

// post sends a form and decodes the answer, which must be 200.
func (s *tokenServer) post(ctx context.Context, address, client, secret string, form url.Values) (answer struct {
	Refresh string `json:"refresh_token"`
}, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		return answer, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.SetBasicAuth(client, secret)
	response, err := s.http.Do(request)
	if err != nil {
		return answer, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return answer, err
	}
	if response.StatusCode != http.StatusOK {
		return answer, fmt.Errorf("%s answered %d: %s", address, response.StatusCode, text)
	}
	return answer, json.Unmarshal(text, &answer)
}
