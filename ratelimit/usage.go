package ratelimit

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/internal/serve"
)

// maxUsage bounds one answer of /usage.
const maxUsage = 1000

// Usage is one counter as /usage shows it.
type Usage struct {
	// By is whom it counts by: address, client, subject, token or route; Caller is
	// which one, of Issuer.
	By     string `json:"by"`
	Caller string `json:"caller"`
	Issuer string `json:"issuer,omitempty"`
	// Policy is day, month, or the route (or "plan NAME", or the gateway) whose
	// rate it is; Window is the day or month, or how much of a rate comes back in
	// which time.
	Policy string `json:"policy"`
	Window string `json:"window,omitempty"`
	// Used is how many requests count now, of Limit: the quota, or what of a rate
	// may come at once.
	Used  int64 `json:"used"`
	Limit int64 `json:"limit"`
}

// telemetry serves what every part does, what the service does without beside
// its readiness, and /usage?client=ID or ?subject=ID.
func (s *Server) telemetry() http.Handler {
	mux := serve.Telemetry(s.gatherer, s.Missing, s.degraded)
	mux.HandleFunc("GET /usage", func(w http.ResponseWriter, r *http.Request) {
		found, err := s.usage(r.Context(), r.URL.Query())
		if err != nil {
			s.logger.Error("usage cannot be read", "error", err)
			http.Error(w, "the counters cannot be read", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		encoder.Encode(found) // the reader may be gone: nobody is left to tell
	})
	return mux
}

func (s *Server) usage(ctx context.Context, query url.Values) ([]Usage, error) {
	prefix := ""
	for _, by := range []string{byClient, bySubject} {
		if value := query.Get(by); value != "" {
			prefix = by + "/" + url.PathEscape(value) + "/"
		}
	}
	now := s.now()
	stored, err := s.counters.List(ctx, now, prefix, maxUsage)
	if err != nil {
		return nil, err
	}
	found := []Usage{}
	for _, entry := range stored {
		if u, ok := entry.usage(now); ok {
			found = append(found, u)
		}
	}
	slices.SortFunc(found, func(a, b Usage) int {
		return strings.Compare(a.By+"/"+a.Caller+"/"+a.Issuer+"/"+a.Policy, b.By+"/"+b.Caller+"/"+b.Issuer+"/"+b.Policy)
	})
	return found, nil
}

// usage reads a counter's key; windows that are over and buckets that are empty
// are no usage.
func (s Stored) usage(now time.Time) (u Usage, ok bool) {
	parts := strings.Split(s.Key, "/")
	for i := range parts {
		parts[i], _ = url.PathUnescape(parts[i])
	}
	if len(parts) < 5 {
		return u, false
	}
	u = Usage{By: parts[0], Caller: parts[1], Issuer: parts[2], Policy: parts[3]}
	switch {
	case u.Policy == "day" && parts[4] == now.UTC().Format("2006-01-02"), u.Policy == "month" && parts[4] == now.UTC().Format("2006-01"):
		u.Window, u.Used, u.Limit = parts[4], s.A, s.B
		return u, true
	case u.Policy != "rate" || len(parts) != 8:
		return u, false
	}
	var numbers [3]int64
	for i, text := range parts[5:] {
		if numbers[i], _ = strconv.ParseInt(text, 10, 64); numbers[i] < 1 {
			return u, false
		}
	}
	d := Demand{Requests: numbers[0], Per: time.Duration(numbers[1]) * time.Microsecond, Limit: numbers[2]}
	u.Policy, u.Window, u.Limit = parts[4], fmt.Sprintf("%d in %s", d.Requests, brief(d.Per)), d.Limit
	u.Used = (d.level(s, now.UnixMicro()) + d.cost() - 1) / d.cost()
	return u, u.Used > 0
}

// brief is a duration as a configuration has it: 1h, not 1h0m0s.
func brief(d time.Duration) string {
	text := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-2]
		}
	}
	return text
}
