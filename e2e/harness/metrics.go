package harness

import (
	"bufio"
	"strconv"
	"strings"
	"testing"
)

// Metric is a sample of a part's /metrics, such as `name{label="value"}` with
// its labels in alphabetical order; 0 where there is none.
func (s *System) Metric(t testing.TB, name, sample string) float64 {
	t.Helper()
	_, text := s.Telemetry(t, name, "/metrics")
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		if value, found := strings.CutPrefix(lines.Text(), sample+" "); found {
			number, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatal(err)
			}
			return number
		}
	}
	return 0
}
