package envoy

import (
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
)

// An end that was asked for warns of nothing; an error is one at all times.
func TestForwardLogWhileEnding(t *testing.T) {
	const lines = "warning\tmain\tcaught ENVOY_SIGTERM\nerror\tmain\tfault\ninfo\tmain\texiting\n"
	for name, row := range map[string]struct {
		ending bool
		want   []string
	}{
		"running": {false, []string{"caught", "fault"}},
		"ending":  {true, []string{"fault"}},
	} {
		var log strings.Builder
		var ending atomic.Bool
		ending.Store(row.ending)
		forwardLog(strings.NewReader(lines), slog.New(slog.NewTextHandler(&log, nil)), &ending)
		said := strings.Split(strings.TrimSpace(log.String()), "\n")
		if len(said) != len(row.want) {
			t.Fatalf("%s: %d lines, want %d:\n%s", name, len(said), len(row.want), log.String())
		}
		for i, want := range row.want {
			if !strings.Contains(said[i], want) {
				t.Errorf("%s: %s, want %q", name, said[i], want)
			}
		}
	}
}
