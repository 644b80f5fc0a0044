package app

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
)

// When told to stop, what faces clients ends while the parts behind still
// answer; then they end.
func TestTheFrontDrainsFirst(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	var order []string
	behindRuns := false
	s := &site{
		logger: slog.New(slog.DiscardHandler),
		behind: []process{{"part", func(ctx context.Context) error {
			behindRuns = true
			stop()
			<-ctx.Done()
			order = append(order, "part")
			return nil
		}}},
	}
	s.front = []process{{"envoy", func(front context.Context) error {
		<-front.Done()
		order = append(order, "envoy")
		return nil
	}}}
	if err := s.run(ctx); err != nil || !behindRuns || strings.Join(order, " ") != "envoy part" {
		t.Errorf("ended in the order %v: %v", order, err)
	}
}

func TestAFailingPartEndsEverythingAndIsNamed(t *testing.T) {
	broken := errors.New("broken")
	wait := func(ctx context.Context) error { <-ctx.Done(); return nil }
	fail := func(context.Context) error { return broken }
	for name, s := range map[string]*site{
		"behind": {behind: []process{{"one", fail}, {"two", wait}}, front: []process{{"envoy", wait}}},
		"front":  {behind: []process{{"two", wait}}, front: []process{{"one", fail}, {"envoy", wait}}},
	} {
		s.logger = slog.New(slog.DiscardHandler)
		if err := s.run(t.Context()); !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "one: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAnAddressInUseIsOneClearSentence(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	address := taken.Addr().String()
	err = checkFree(listener{"gateway.redirect_listen", ""}, listener{"gateway.listen", address})
	want := "gateway.listen: " + address + " is in use by another process: stop that, or choose another address"
	if err == nil || err.Error() != want {
		t.Errorf("%v", err)
	}
	taken.Close()
	if err := checkFree(listener{"gateway.listen", address}); err != nil {
		t.Error(err)
	}
}

func TestShownPathsWorkInAShell(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for path, want := range map[string]string{
		dir + "/data/ca.crt": "data/ca.crt",
		"my gate/x":          "'my gate/x'",
		"it's":               `'it'\''s'`,
		"/elsewhere/ca.crt":  "/elsewhere/ca.crt",
	} {
		if got := shown(path); got != want {
			t.Errorf("%s is shown as %s, want %s", path, got, want)
		}
	}
}

func TestBanner(t *testing.T) {
	t.Chdir(t.TempDir())
	writeText(t, "gatehouse.yaml", small)
	s := &site{config: load(t, "gatehouse.yaml"), options: Options{Sample: true}}
	var out bytes.Buffer
	if err := s.printBanner(&out); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		"Gatehouse is ready at https://localhost:8443",
		"-c gatehouse.yaml --client robot --secret-file data/sample/robot.secret",
		"--cacert data/ca/ca.crt", "cat data/sample/alice.password",
	} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("the banner lacks %q:\n%s", part, out.String())
		}
	}
}
