package ca

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/internal/workload"
)

// workloadRig is a workload that enrols with the rig's CA.
type workloadRig struct {
	*rig
	config workload.Enrolment
	log    *journal
}

func newWorkload(t *testing.T, r *rig) *workloadRig {
	t.Helper()
	dir := t.TempDir()
	return &workloadRig{rig: r, log: &journal{}, config: workload.Enrolment{
		Address: r.config.Enrolment, Server: envoy.ControlPlaneIdentity(domain), ID: orders,
		TokenFile: filepath.Join(dir, "token"), Folder: filepath.Join(dir, "state"),
	}}
}

func (w *workloadRig) giveToken(token workload.JoinToken) {
	w.t.Helper()
	if err := os.WriteFile(w.config.TokenFile, []byte(token.Encode()+"\n"), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *workloadRig) deps() workload.Deps {
	return workload.Deps{Logger: slog.New(slog.NewTextHandler(w.log, nil)), Now: w.now}
}

// start runs the source until stop.
func (w *workloadRig) start() (source *workload.Source, stop func()) {
	w.t.Helper()
	source, err := workload.NewEnrolled(w.config, w.deps())
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- source.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
	w.t.Cleanup(stop)
	return source, stop
}

// next waits for a certificate other than the old one.
func (w *workloadRig) next(source *workload.Source, old *workload.State) *workload.State {
	w.t.Helper()
	late := time.After(20 * time.Second)
	for {
		state, changed := source.Current()
		if state != nil && (old == nil || !state.Pair.Leaf.Equal(old.Pair.Leaf)) {
			return state
		}
		select {
		case <-changed:
		case <-late:
			w.t.Fatalf("no certificate came; its log:\n%s\nthe CA's:\n%s", w.log, w.rig.log)
		}
	}
}

func (w *workloadRig) awaitLog(log *journal, text string) {
	w.t.Helper()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	late := time.After(20 * time.Second)
	for !strings.Contains(log.String(), text) {
		select {
		case <-look.C:
		case <-late:
			w.t.Fatalf("%q was not logged:\n%s", text, log)
		}
	}
}

// Enrolled once, a workload starts without a token, and renews with a new key.
func TestSourceEnrolsOnceAndRenews(t *testing.T) {
	w := newWorkload(t, newRig(t))
	w.giveToken(w.token(orders))
	source, stop := w.start()
	first := w.next(source, nil)
	if first.ID != orders || len(source.Missing()) > 0 {
		t.Errorf("enrolled as %s, lacks %v", first.ID, source.Missing())
	}
	stop()

	w.config.TokenFile = ""
	source, stop = w.start()
	if again, _ := source.Current(); again == nil || !again.Pair.Leaf.Equal(first.Pair.Leaf) {
		t.Error("a second start does not take up its certificate at once")
	}
	stop()

	w.advance(35 * time.Minute)
	source, stop = w.start()
	second := w.next(source, first)
	if first.Pair.PrivateKey.(*ecdsa.PrivateKey).Equal(second.Pair.PrivateKey) {
		t.Error("it was renewed with the old key")
	}
	stop()
	w.keepsSecrets(first, second)
}

// keepsSecrets looks for what must not be in the log or readable by others.
func (w *workloadRig) keepsSecrets(states ...*workload.State) {
	w.t.Helper()
	log := w.log.String() + w.rig.log.String()
	for _, secret := range []string{"PRIVATE KEY", "ghj1."} {
		if strings.Contains(log, secret) {
			w.t.Errorf("%q is in the log", secret)
		}
	}
	files := 0
	filepath.WalkDir(w.config.Folder, func(path string, entry fs.DirEntry, _ error) error {
		info, err := entry.Info()
		if err != nil || info.Mode().Perm()&0o077 != 0 {
			w.t.Errorf("%s has mode %v (%v)", path, info.Mode(), err)
		}
		if !entry.IsDir() {
			files++
		}
		return nil
	})
	if files != 2 {
		w.t.Errorf("the folder has %d files, not the identity and the roots alone", files)
	}
}

// An outage that outlasts the certificate heals by itself within a day; after
// that a new join token is needed, and does.
func TestSourceRenewsAfterItsEnd(t *testing.T) {
	w := newWorkload(t, newRig(t))
	w.giveToken(w.token(orders))
	source, stop := w.start()
	first := w.next(source, nil)
	stop()

	w.advance(first.Pair.Leaf.NotAfter.Sub(w.now()) + 24*time.Hour - time.Minute)
	source, stop = w.start()
	if lacks := source.Missing(); len(lacks) == 0 {
		t.Error("it is ready with a certificate that ended")
	}
	second := w.next(source, first)
	stop()

	w.advance(second.Pair.Leaf.NotAfter.Sub(w.now()) + 24*time.Hour + time.Minute)
	w.rig.log.reset()
	source, stop = w.start()
	w.awaitLog(w.log, "PermissionDenied")
	if state, _ := source.Current(); !state.Pair.Leaf.Equal(second.Pair.Leaf) {
		t.Fatal("it was renewed a day after its end")
	}
	w.giveToken(w.token(orders))
	w.next(source, second)
	stop()
}

// Where the fingerprint is another's, nothing is sent, and the token is still
// good.
func TestSourceTrustsOnlyTheTokensCA(t *testing.T) {
	w := newWorkload(t, newRig(t))
	good := w.token(orders)
	bad := good
	bad.Roots = slices.Clone(good.Roots)
	bad.Roots[0][0] ^= 1
	w.giveToken(bad)
	source, _ := w.start()
	w.awaitLog(w.log, "another fingerprint")
	if heard := w.rig.log.String(); strings.Contains(heard, "enrolment") {
		t.Errorf("something was sent to another's CA: %s", heard)
	}
	w.giveToken(good)
	w.next(source, nil)
}

// Join tokens that cannot do are found out before anything is sent, and say
// what to do.
func TestSourceRefusesTokens(t *testing.T) {
	w := newWorkload(t, newRig(t))
	ended := w.token(orders)
	ended.ExpiresAt = w.now().Add(-time.Second)
	for name, row := range map[string]struct {
		text, want string
	}{
		"of another service": {w.token(other).Encode(), "get one for this workload"},
		"ended":              {ended.Encode(), "get a new one"},
		"cut":                {ended.Encode()[:40], "copy all of it"},
		"no token":           {"hello", "gatehouse workload token"},
	} {
		t.Run(name, func(t *testing.T) {
			w.log.reset()
			w.rig.log.reset()
			if err := os.WriteFile(w.config.TokenFile, []byte(row.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, stop := w.start()
			defer stop()
			w.awaitLog(w.log, row.want)
			if heard := w.rig.log.String(); strings.Contains(heard, "enrolment") || bytes.Contains([]byte(w.log.String()), []byte(row.text[:min(len(row.text), 20)])) && row.text != "hello" {
				t.Errorf("the CA heard of it, or the log shows it: %s %s", heard, w.log)
			}
		})
	}
	w.giveToken(w.token(orders))
	source, stop := w.start()
	w.next(source, nil)
	stop()
	// The same folder for another workload would be another's key.
	w.config.ID = other
	if _, err := workload.NewEnrolled(w.config, w.deps()); err == nil || !strings.Contains(err.Error(), "belongs to "+orders) {
		t.Errorf("another workload's folder: %v", err)
	}
	w.config.ID = orders
	if err := os.Chmod(w.config.Folder, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := workload.NewEnrolled(w.config, w.deps()); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("a folder that is open to others: %v", err)
	}
}
