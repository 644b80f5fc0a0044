package app

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"testing"

	"google.golang.org/grpc/grpclog"
)

// What gRPC logs by itself is a line of JSON like all others, without gRPC's own
// time and level in it; what is no error is not logged.
func TestLibraryLogIsJSON(t *testing.T) {
	var log bytes.Buffer
	library := grpclog.NewLoggerV2(io.Discard, io.Discard, libraryLog{slog.New(slog.NewJSONHandler(&log, nil))})
	library.Info("subchannel")
	library.Warning("retrying")
	library.Errorf("[transport] got %q", "too_many_pings")
	var line map[string]any
	if err := json.Unmarshal(log.Bytes(), &line); err != nil {
		t.Fatalf("%v: %q", err, log.String())
	}
	if line["level"] != "WARN" || line["error"] != `[transport] got "too_many_pings"` {
		t.Errorf("logged %v", line)
	}
}
