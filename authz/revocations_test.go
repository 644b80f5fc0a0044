package authz

import (
	"slices"
	"testing"
	"time"

	revocationv1 "gatehouse.dev/gatehouse/proto/gatehouse/revocation/v1"
)

// testRevocations has a clock that the test moves.
type testRevocations struct {
	*revocations
	clock    time.Time
	purges   []string
	restores int
}

func newTestRevocations() *testRevocations {
	r := &testRevocations{clock: issuedAt}
	r.revocations = &revocations{
		now:    func() time.Time { return r.clock },
		purged: func(kid string) { r.purges = append(r.purges, kid) }, restored: func() { r.restores++ },
	}
	return r
}

// feedAll applies messages until one is refused.
func (r *testRevocations) feedAll(messages ...*revocationv1.WatchResponse) error {
	for _, message := range messages {
		if _, err := r.apply(message); err != nil {
			return err
		}
	}
	return nil
}

func numbered(sequence uint64, kind revocationv1.Kind, id string) *revocationv1.Revocation {
	e := entry(kind, id, issuedAt.Unix())
	e.Sequence = sequence
	return e
}

const day = 24 * time.Hour

func TestRevocationsNeedACompleteSnapshotAndAHeartbeat(t *testing.T) {
	r := newTestRevocations()
	for _, step := range []struct {
		name    string
		message *revocationv1.WatchResponse
		want    Reason
	}{
		{"a heartbeat first", heartbeatMessage("e", 0, issuedAt), ReasonRevocationMissing},
		{"a part", snapshotMessage("e", 7, false, numbered(3, revocationv1.Kind_KIND_TOKEN, "x")), ReasonRevocationMissing},
		{"a heartbeat between parts", heartbeatMessage("e", 7, issuedAt), ReasonRevocationMissing},
		{"the last part", snapshotMessage("e", 7, true, numbered(5, revocationv1.Kind_KIND_TOKEN, "y")), ReasonRevocationMissing},
		{"a heartbeat ahead of it", heartbeatMessage("e", 8, issuedAt), ReasonRevocationMissing},
		{"a heartbeat that fits", heartbeatMessage("e", 7, issuedAt), ""},
	} {
		if err := r.feedAll(step.message); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if _, err := r.check(personToken(), day); reasonOf(err) != step.want {
			t.Errorf("%s: got %v, want %q", step.name, err, step.want)
		}
		if err := r.lack(); reasonOf(err) != step.want {
			t.Errorf("%s: lacks %v, want %q", step.name, err, step.want)
		}
	}
	for _, id := range []string{"x", "y"} {
		if _, err := r.check(fakeToken{id: id}, day); reasonOf(err) != ReasonRevoked {
			t.Errorf("%s of the snapshot: %v", id, err)
		}
	}
}

// current is a state at sequence 2 of epoch e.
func current(t *testing.T) *testRevocations {
	t.Helper()
	r := newTestRevocations()
	if err := r.feedAll(snapshotMessage("e", 2, true, numbered(2, revocationv1.Kind_KIND_SESSION, "old")), heartbeatMessage("e", 2, issuedAt)); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRevocationsRefuseABrokenFeed(t *testing.T) {
	token := func(sequence uint64) *revocationv1.Revocation {
		return numbered(sequence, revocationv1.Kind_KIND_TOKEN, "x")
	}
	for name, messages := range map[string][]*revocationv1.WatchResponse{
		"a gap":                          {changesMessage("e", token(4))},
		"a gap within":                   {changesMessage("e", token(3), token(5))},
		"a repetition":                   {changesMessage("e", token(2))},
		"no sequence":                    {changesMessage("e", token(0))},
		"changes of another epoch":       {changesMessage("f", token(3))},
		"changes without an epoch":       {changesMessage("", token(3))},
		"a heartbeat of another epoch":   {heartbeatMessage("f", 2, issuedAt)},
		"a heartbeat without a time":     {{Message: &revocationv1.WatchResponse_Heartbeat{Heartbeat: &revocationv1.Heartbeat{Epoch: "e", Sequence: 2}}}},
		"KIND_UNSPECIFIED":               {changesMessage("e", numbered(3, revocationv1.Kind_KIND_UNSPECIFIED, "x"))},
		"an unknown kind":                {changesMessage("e", numbered(3, 99, "x"))},
		"an empty message":               {{}},
		"a snapshot without an epoch":    {snapshotMessage("", 2, true)},
		"parts of two epochs":            {snapshotMessage("f", 9, false), snapshotMessage("g", 9, true)},
		"parts of two sequences":         {snapshotMessage("f", 9, false), snapshotMessage("f", 10, true)},
		"changes within a snapshot":      {snapshotMessage("e", 9, false), changesMessage("e", token(3))},
		"KIND_UNSPECIFIED in a snapshot": {snapshotMessage("f", 9, true, numbered(1, revocationv1.Kind_KIND_UNSPECIFIED, "x"))},
	} {
		t.Run(name, func(t *testing.T) {
			r := current(t)
			if err := r.feedAll(messages...); err == nil {
				t.Fatal("the feed went on")
			}
			// What was known stays in force and ages.
			r.clock = issuedAt.Add(time.Minute)
			if _, err := r.check(fakeToken{session: "old"}, day); reasonOf(err) != ReasonRevoked {
				t.Errorf("what was revoked: %v", err)
			}
			if _, err := r.check(personToken(), 59*time.Second); reasonOf(err) != ReasonRevocationStale {
				t.Errorf("what was not: %v", err)
			}
		})
	}
}

func TestRevocationsStartOver(t *testing.T) {
	r := current(t)
	if epoch, sequence := r.position(); epoch != "e" || sequence != 2 {
		t.Errorf("resumes at %q %d", epoch, sequence)
	}
	r.startOver()
	if epoch, sequence := r.position(); epoch != "" || sequence != 0 {
		t.Errorf("starts over at %q %d", epoch, sequence)
	}
	if err := r.feedAll(heartbeatMessage("e", 0, issuedAt)); err == nil {
		t.Error("a heartbeat made a forgotten position current")
	}
	r.begin()
	if err := r.feedAll(snapshotMessage("f", 1, true), heartbeatMessage("f", 1, issuedAt)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.check(fakeToken{session: "old"}, day); err != nil {
		t.Errorf("the old epoch's revocations are still there: %v", err)
	}
}

func TestRevocationsForgetPartsOfABrokenStream(t *testing.T) {
	r := newTestRevocations()
	if err := r.feedAll(snapshotMessage("e", 5, false, numbered(1, revocationv1.Kind_KIND_TOKEN, "half"))); err != nil {
		t.Fatal(err)
	}
	r.begin()
	if err := r.feedAll(snapshotMessage("e", 6, true), heartbeatMessage("e", 6, issuedAt)); err != nil {
		t.Fatalf("the parts of two streams were mixed: %v", err)
	}
	if entries, _ := r.figures(); entries != 0 {
		t.Errorf("%d entries of the broken stream are left", entries)
	}
}

func TestRevocationsAge(t *testing.T) {
	r := current(t)
	check := func(after time.Duration, want Reason) {
		t.Helper()
		r.clock = issuedAt.Add(after)
		state, err := r.check(personToken(), 2*time.Second)
		if reasonOf(err) != want || state.sequence != 2 && want == "" {
			t.Errorf("after %s: got %v at %d, want %q", after, err, state.sequence, want)
		}
	}
	check(2*time.Second, "")
	check(2*time.Second+1, ReasonRevocationStale)
	check(-time.Second, ReasonRevocationStale) // a clock that went back
	r.clock = issuedAt.Add(3 * time.Second)
	// A log that ends before or after what was applied makes nothing current.
	for _, sequence := range []uint64{1, 3} {
		if err := r.feedAll(heartbeatMessage("e", sequence, r.clock)); err != nil {
			t.Fatal(err)
		}
		check(3*time.Second, ReasonRevocationStale)
	}
	if err := r.feedAll(heartbeatMessage("e", 2, r.clock)); err != nil {
		t.Fatal(err)
	}
	check(3*time.Second, "")
}

func TestRevocationsClock(t *testing.T) {
	for drift, want := range map[time.Duration]Reason{
		0: "", maxDrift: "", -maxDrift: "", maxDrift + 1: ReasonClock, -maxDrift - 1: ReasonClock,
	} {
		r := current(t)
		if err := r.feedAll(heartbeatMessage("e", 2, issuedAt.Add(-drift))); err != nil {
			t.Fatal(err)
		}
		if _, err := r.check(personToken(), day); reasonOf(err) != want {
			t.Errorf("clock off by %s: %v", drift, err)
		}
	}
}

func TestRevocationsPurgeKeys(t *testing.T) {
	r := current(t)
	if err := r.feedAll(
		changesMessage("e", numbered(3, revocationv1.Kind_KIND_KEY, "k3"), numbered(4, revocationv1.Kind_KIND_TOKEN, "t")),
		snapshotMessage("e", 9, false, numbered(9, revocationv1.Kind_KIND_KEY, "k9")),
	); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(r.purges, []string{"k3"}) {
		t.Errorf("purged %v before the snapshot was complete", r.purges)
	}
	if err := r.feedAll(snapshotMessage("e", 9, true)); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(r.purges, []string{"k3", "k9"}) {
		t.Errorf("purged %v", r.purges)
	}
}

func TestRevocationsSweep(t *testing.T) {
	for after, want := range map[time.Duration]int{time.Hour + time.Minute: 1, time.Hour + time.Minute + time.Second: 0} {
		r := current(t)
		r.keep = time.Minute
		r.clock = issuedAt.Add(after)
		r.sweep()
		if entries, _ := r.figures(); entries != want {
			t.Errorf("%s on: %d entries, want %d", after, entries, want)
		}
	}
}

// TestRevocationsOfARestoredIssuer: a new epoch is told once, before its state
// is in force, and not where a snapshot of the same one comes again.
func TestRevocationsOfARestoredIssuer(t *testing.T) {
	r := newTestRevocations()
	for _, step := range []struct {
		epoch string
		want  int
	}{{"e", 0}, {"e", 0}, {"f", 1}, {"f", 1}, {"e", 2}} {
		inForce := r.last
		r.restored = func() {
			if r.restores++; r.last != inForce {
				t.Error("the new state was in force before it was told")
			}
		}
		r.startOver()
		r.begin()
		if err := r.feedAll(snapshotMessage(step.epoch, 1, true, numbered(1, revocationv1.Kind_KIND_TOKEN, "x"))); err != nil {
			t.Fatal(err)
		}
		if r.restores != step.want {
			t.Errorf("in epoch %s: told %d times, want %d", step.epoch, r.restores, step.want)
		}
	}
}
