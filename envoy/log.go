package envoy

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
)

// logFormat is level, logger and message, tab-separated, one line each.
const logFormat = "%l\t%n\t%j"

// maxLogLine bounds one line of Envoy's log, in bytes.
const maxLogLine = 256 << 10

// forwardLog passes Envoy's log on until it ends. What it warns of while it is
// ending, the signal and each stream that it closes, is how it should be.
func forwardLog(log io.Reader, logger *slog.Logger, ending *atomic.Bool) {
	lines := bufio.NewScanner(log)
	lines.Buffer(make([]byte, 0, 4096), maxLogLine)
	for lines.Scan() {
		level, name, message := parseLogLine(lines.Text())
		if level == slog.LevelWarn && ending.Load() {
			level = slog.LevelDebug
		}
		logger.Log(context.Background(), level, "envoy", "component", name, "message", message)
	}
	// A line that is too long must not block Envoy's writes.
	io.Copy(io.Discard, log)
}

func parseLogLine(line string) (level slog.Level, name, message string) {
	fields := strings.SplitN(line, "\t", 3)
	if len(fields) < 3 {
		return slog.LevelInfo, "", line
	}
	switch fields[0] {
	case "warning":
		level = slog.LevelWarn
	case "error", "critical":
		level = slog.LevelError
	default: // Envoy's info tells of each cluster it warms.
		level = slog.LevelDebug
	}
	return level, fields[1], fields[2]
}

// noneActive tells whether every "name: value" line of Envoy's statistics is 0.
func noneActive(stats string) bool {
	for _, line := range strings.Split(strings.TrimSpace(stats), "\n") {
		name, value, ok := strings.Cut(line, ": ")
		// The administration's own connection asks the question.
		if !ok || strings.HasPrefix(name, "http.admin.") {
			continue
		}
		if n, err := strconv.ParseUint(value, 10, 64); err == nil && n > 0 {
			return false
		}
	}
	return true
}
