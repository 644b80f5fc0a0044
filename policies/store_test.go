package policies

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// journal is a log that may be read while it is written.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) count(part string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Count(j.text.String(), part)
}

type storeUnderTest struct {
	*Store
	log      *journal
	registry *prometheus.Registry
}

// running starts a Store on dir; the test's end stops it.
func running(t *testing.T, dir string, adjust func(*Store)) storeUnderTest {
	t.Helper()
	u := storeUnderTest{log: &journal{}, registry: prometheus.NewRegistry()}
	var err error
	if u.Store, err = NewStore(dir, slog.New(slog.NewTextHandler(u.log, nil)), u.registry); err != nil {
		t.Fatal(err)
	}
	u.settle = 10 * time.Millisecond
	u.poll = time.Hour // the test waits for notifications, not for this
	if adjust != nil {
		adjust(u.Store)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- u.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return u
}

func (u storeUnderTest) metric(t *testing.T, name, label string) float64 {
	t.Helper()
	families, err := u.registry.Gather()
	must(t, err)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == name && m.GetLabel()[0].GetValue() == label {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return 0
}

func policyOf(answer string) string { return "package team.x\n\nallow := " + answer + "\n" }

func (u storeUnderTest) allows(t *testing.T) bool {
	t.Helper()
	verdict, err := u.Current().Decide(t.Context(), "team.x", request())
	if err != nil {
		t.Fatal(err)
	}
	return verdict.Allow
}

// replace writes as editors do: a new file beside, renamed over the old one.
func replace(t *testing.T, at, text string) {
	t.Helper()
	write(t, at+".tmp", text)
	must(t, os.Rename(at+".tmp", at))
}

func TestStoreStartsOnlyOnSoundPolicies(t *testing.T) {
	dir := files{"x.rego": "package"}.in(t)
	if _, err := NewStore(dir, slog.New(slog.DiscardHandler), nil); err == nil {
		t.Error("started on a broken policy")
	}
	if _, err := NewStore("", slog.New(slog.DiscardHandler), nil); err != nil {
		t.Errorf("without a folder or a registerer: %v", err)
	}
	if _, err := NewStore("", nil, nil); err == nil {
		t.Error("started without a logger")
	}
}

func TestStoreFollowsEdits(t *testing.T) {
	dir := files{"x.rego": policyOf("false")}.in(t)
	at := filepath.Join(dir, "x.rego")
	u := running(t, dir, nil)
	if u.allows(t) {
		t.Fatal("allowed before the edit")
	}
	before := u.Current().Revision()

	write(t, at, policyOf("true"))
	eventually(t, "the edit in place", func() bool { return u.allows(t) })
	replace(t, at, policyOf("false"))
	eventually(t, "the file replaced", func() bool { return !u.allows(t) })
	replace(t, at, policyOf("true"))
	eventually(t, "the file replaced again", func() bool { return u.allows(t) })

	write(t, filepath.Join(dir, "new", "deep", "y.rego"), "package team.y\n\nallow := true\n")
	eventually(t, "a file in a new folder", func() bool { return u.Current().Has("team.y") })
	write(t, filepath.Join(dir, "new", "deep", "z.rego"), "package team.z\n\nallow := true\n")
	eventually(t, "another file in that folder", func() bool { return u.Current().Has("team.z") })
	must(t, os.RemoveAll(filepath.Join(dir, "new")))
	eventually(t, "the folder removed", func() bool { return !u.Current().Has("team.y") })

	if u.metric(t, "gatehouse_policies_info", u.Current().Revision()) != 1 || u.metric(t, "gatehouse_policies_info", before) != 0 {
		t.Error("the metric does not show the revision in use alone")
	}
}

// A ConfigMap changes by one rename of a link that all its files lead through.
func TestStoreFollowsConfigMaps(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "..1", "x.rego"), policyOf("false"))
	must(t, os.Symlink("..1", filepath.Join(dir, "..data")))
	must(t, os.Symlink("..data/x.rego", filepath.Join(dir, "x.rego")))
	u := running(t, dir, nil)

	write(t, filepath.Join(dir, "..2", "x.rego"), policyOf("true"))
	must(t, os.Symlink("..2", filepath.Join(dir, "..data_tmp")))
	must(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	must(t, os.RemoveAll(filepath.Join(dir, "..1")))
	eventually(t, "the swapped ConfigMap", func() bool { return u.allows(t) })
}

// Where nothing tells of a change, the folder is read now and then anyway.
func TestStorePolls(t *testing.T) {
	parent := files{"one/x.rego": policyOf("false"), "two/x.rego": policyOf("true")}.in(t)
	link := filepath.Join(parent, "policies")
	must(t, os.Symlink("one", link))
	u := running(t, link, func(s *Store) { s.poll = 5 * time.Millisecond })
	// The folder itself is swapped: no watch inside it sees that.
	must(t, os.Symlink("two", link+"2"))
	must(t, os.Rename(link+"2", link))
	eventually(t, "the swapped folder", func() bool { return u.allows(t) })
}

func TestBrokenEditKeepsTheLastGood(t *testing.T) {
	dir := files{"x.rego": policyOf("true")}.in(t)
	at := filepath.Join(dir, "x.rego")
	// Polling shows that a failure that stays is not logged again and again.
	u := running(t, dir, func(s *Store) { s.poll = time.Millisecond })
	good := u.Current().Revision()
	if u.LastError() != nil {
		t.Fatal(u.LastError())
	}

	replace(t, at, "package team.x\n\nallow if http.send({}).ok\n")
	eventually(t, "the refusal", func() bool { return u.LastError() != nil })
	fault := Fault{File: at, Line: 3, Reason: "http.send may not be called from a policy: " + reasons["http."]}
	if u.LastError().Error() != fault.String() {
		t.Errorf("LastError: %v", u.LastError())
	}
	if !u.allows(t) || u.Current().Revision() != good {
		t.Error("the last good policy did not stay")
	}
	if u.metric(t, "gatehouse_policies_info", good) != 1 {
		t.Error("the metric does not show the revision in use")
	}

	replace(t, at, "package team.x\n\nallow if\n")
	eventually(t, "another refusal", func() bool { return u.log.count("policy refused") == 2 })
	must(t, os.Remove(at))
	must(t, os.Symlink("nowhere", at))
	eventually(t, "a file that cannot be read", func() bool { return u.log.count("no such file") == 1 })
	must(t, os.Remove(at))
	write(t, at, policyOf("true"))
	eventually(t, "the good state again", func() bool { return u.LastError() == nil })
	if got := u.log.count("policy refused"); got != 3 {
		t.Errorf("%d lines for 3 distinct failures", got)
	}
	if u.log.count("file="+at) != 3 || u.log.count("line=3") != 1 {
		t.Error("the log does not name file and line")
	}
	if got := u.metric(t, "gatehouse_policies_reload_total", "refused"); got != 3 {
		t.Errorf("refused %v times", got)
	}
}

// Removing the folder is no way to lose the team's policies.
func TestVanishedFolderKeepsTheLastGood(t *testing.T) {
	parent := files{"policies/x.rego": policyOf("true")}.in(t)
	dir := filepath.Join(parent, "policies")
	u := running(t, dir, func(s *Store) { s.poll = 5 * time.Millisecond })
	must(t, os.Rename(dir, dir+".away"))
	eventually(t, "the refusal", func() bool { return u.LastError() != nil })
	if !u.allows(t) {
		t.Error("the last good policy did not stay")
	}
	must(t, os.Rename(dir+".away", dir))
	write(t, filepath.Join(dir, "x.rego"), policyOf("false"))
	eventually(t, "the folder that is back", func() bool { return u.LastError() == nil && !u.allows(t) })
}

// While policies change, each decision is that of one revision, whole: in
// every revision the two rules agree, across any two they do not.
func TestReloadUnderDecisions(t *testing.T) {
	version := func(n string) string {
		return "package team.x\n\nallow if data.lib.half == \"" + n + "\"\n"
	}
	dir := files{"policies/x.rego": version("a"), "policies/lib.rego": "package lib\n\nhalf := \"a\"\n"}.in(t)
	link := filepath.Join(dir, "now")
	must(t, os.Symlink("policies", link))
	u := running(t, link, func(s *Store) { s.poll = time.Millisecond })
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for ctx.Err() == nil {
				verdict, err := u.Current().Decide(t.Context(), "team.x", request())
				if err != nil || !verdict.Allow {
					t.Errorf("a torn decision: %+v, %v", verdict, err)
					return
				}
			}
		})
	}
	for i := range 20 {
		name := string(rune('b' + i))
		before := u.Current().Revision()
		next := filepath.Join(dir, name)
		write(t, filepath.Join(next, "lib.rego"), "package lib\n\nhalf := \""+name+"\"\n")
		write(t, filepath.Join(next, "x.rego"), version(name))
		must(t, os.Symlink(name, link+".tmp"))
		must(t, os.Rename(link+".tmp", link))
		eventually(t, "the next revision", func() bool { return u.Current().Revision() != before })
	}
	stop()
	wg.Wait()
}
