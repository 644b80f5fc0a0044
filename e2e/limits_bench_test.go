package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/e2e/harness"
)

// BenchmarkLimits measures what Envoy's own CPU costs a request on routes that
// differ in one thing, in alternated short rounds: `go test ./e2e -run '^$'
// -bench Limits -benchtime 1x`. docs/limits.md has the figures.
func BenchmarkLimits(b *testing.B) {
	paths := []string{"none", "ten", "many", "local", "shared"}
	s := harness.Start(b, harness.Options{Configure: func(s *harness.System, c harness.Config) {
		for name, n := range map[string]int{"ten": 10, "many": 10_000} {
			var list strings.Builder
			for i := range n {
				// No two of them are neighbours, so none can be joined.
				fmt.Fprintf(&list, "10.%d.%d.0/24\n", i/100, i%100*2)
			}
			if err := os.WriteFile(filepath.Join(s.Dir, name+".txt"), []byte(list.String()), 0o600); err != nil {
				b.Fatal(err)
			}
			c.Set("gateway.ip_lists."+name, map[string]any{"file": name + ".txt"})
		}
		wide := func(more ...any) []any {
			return []any{limit("address", 1_000_000, append(more, "per", "1s")...)}
		}
		extras := map[string]harness.Route{
			"ten":   {"networks": map[string]any{"deny": []string{"ten"}}},
			"many":  {"networks": map[string]any{"deny": []string{"many"}}},
			"local": {"limits": wide()}, "shared": {"limits": wide("shared", true)},
		}
		for _, name := range paths {
			route := harness.Route{"id": name, "path": "/" + name, "service": "profile", "public": true}
			for key, value := range extras[name] {
				route[key] = value
			}
			c.AddRoute(route)
		}
		c.Set("ratelimit.telemetry", harness.FreeAddress(b))
	}})
	client := s.HTTP()
	costs := map[string][]float64{}
	const rounds, requests = 15, 1500
	for round := range rounds + 1 {
		for _, path := range paths {
			before := envoyCPU(b, s)
			sendAll(b, client, s.URL("/"+path), requests)
			if round > 0 { // the first warms up
				costs[path] = append(costs[path], float64(envoyCPU(b, s)-before)/float64(time.Microsecond)/requests)
			}
		}
	}
	for _, path := range paths {
		ratios := make([]float64, rounds)
		for i := range ratios {
			ratios[i] = costs[path][i] / costs["none"][i]
		}
		b.ReportMetric(median(costs[path]), path+"-µs")
		b.ReportMetric(median(ratios), path+"-ratio")
	}
	many := make([]float64, rounds)
	for i := range many {
		many[i] = costs["many"][i] / costs["ten"][i]
	}
	b.ReportMetric(median(many), "many/ten")
}

func sendAll(b *testing.B, client *http.Client, url string, requests int) {
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range requests / 4 {
				request, err := http.NewRequest(http.MethodGet, url, nil)
				if err != nil {
					b.Error(err)
					return
				}
				if answer, err := harness.Read(client, request); err != nil || answer.Status != http.StatusOK {
					b.Errorf("%s %v", answer, err)
					return
				}
			}
		})
	}
	group.Wait()
}

// envoyCPU is what all threads of the Envoy have used.
func envoyCPU(b *testing.B, s *harness.System) (total time.Duration) {
	b.Helper()
	children, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", s.Process(harness.Envoy).Command.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	for _, file := range children {
		text, _ := os.ReadFile(file)
		for _, pid := range strings.Fields(string(text)) {
			threads, _ := filepath.Glob("/proc/" + pid + "/task/*/schedstat")
			for _, thread := range threads {
				var used int64
				text, _ := os.ReadFile(thread)
				fmt.Sscan(string(text), &used)
				total += time.Duration(used)
			}
		}
	}
	if total == 0 {
		b.Fatal("there is no Envoy to measure")
	}
	return total
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
