package workload

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// lines is a log to look through while it is written.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Parts start in any order: a control plane that is not there yet is nothing to
// warn of, one that stays away is, once.
func TestTrustWarnsOfWhoStaysAway(t *testing.T) {
	var mu sync.Mutex
	now, asked := time.Now(), 0
	clock := func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		asked++
		return now
	}
	log := &lines{}
	trust, err := NewTrust(TrustServer{Address: "unix:" + filepath.Join(shortDir(t), "none")}, nil, Deps{Logger: slog.New(slog.NewTextHandler(log, nil)), Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	defer inBackground(t, trust.Run)()
	attempts := func(more int) {
		t.Helper()
		mu.Lock()
		until := asked + more
		mu.Unlock()
		await(t, "attempts", func() error {
			mu.Lock()
			defer mu.Unlock()
			if asked < until {
				return fmt.Errorf("%d of %d", asked, until)
			}
			return nil
		})
	}
	attempts(4)
	if said := log.String(); said != "" {
		t.Errorf("warned at the start:\n%s", said)
	}
	mu.Lock()
	now = now.Add(settling)
	mu.Unlock()
	await(t, "the warning", func() error {
		if !strings.Contains(log.String(), "trust cannot be heard of") {
			return errors.New(log.String())
		}
		return nil
	})
	attempts(2)
	if n := strings.Count(log.String(), "\n"); n != 1 {
		t.Errorf("%d lines:\n%s", n, log)
	}
}
