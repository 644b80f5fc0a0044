package ca

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func (b *bench) reopenError() error {
	_, err := Open(b.dir, func() time.Time { return b.clock })
	return err
}

func (b *bench) issued(t *testing.T) []*x509.Certificate {
	t.Helper()
	id, err := ParseID(orders)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := b.issueTo(t.Context(), b.svid(id, time.Hour), newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	return chain
}

// The next intermediate comes at half life, and chains of the last one stay
// good: nothing outlives its intermediate.
func TestIntermediateIsRenewedWithOverlap(t *testing.T) {
	b := newBench(t)
	first := b.issued(t)
	b.clock = b.clock.Add(defaultIntermediateLife/2 - time.Minute)
	if err := b.Refresh(); err != nil {
		t.Fatal(err)
	}
	last := b.issued(t)
	if !last[1].Equal(first[1]) {
		t.Error("renewed before its half life")
	}
	b.clock = b.clock.Add(2 * time.Minute)
	if err := b.Refresh(); err != nil {
		t.Fatal(err)
	}
	next := b.issued(t)
	if next[1].Equal(first[1]) {
		t.Fatal("not renewed at its half life")
	}
	if err := verifyChain(last, b.Roots(), b.clock); err != nil {
		t.Errorf("a chain of the last intermediate: %v", err)
	}
	if next[1].MaxPathLen != 0 || !next[1].MaxPathLenZero {
		t.Error("an intermediate may have CAs below it")
	}
	if next[1].NotAfter.After(b.clock.Add(defaultIntermediateLife)) {
		t.Error("it lives too long")
	}
}

// With its key away, the root signs on request alone; an intermediate that
// ended issues nothing.
func TestOfflineRoot(t *testing.T) {
	b := newBench(t)
	if err := os.Rename(filepath.Join(b.dir, rootKeyFile), filepath.Join(t.TempDir(), rootKeyFile)); err != nil {
		t.Fatal(err)
	}
	before := b.issued(t)[1]
	b.clock = b.clock.Add(defaultIntermediateLife/2 + time.Hour)
	b.reopen(t)
	if !b.issued(t)[1].Equal(before) {
		t.Error("an intermediate was made without the root")
	}
	b.clock = b.clock.Add(defaultIntermediateLife / 2)
	if err := b.reopenError(); err == nil || !strings.Contains(err.Error(), "ca intermediate request") {
		t.Errorf("with an ended intermediate: %v", err)
	}
	if _, err := b.sign(t.Context(), b.leaf(time.Hour), must(requestFor(b.leaf(time.Hour), newKey(t)))); err == nil {
		t.Error("an ended intermediate issued")
	}
	if err := os.Remove(filepath.Join(b.dir, intermediateFile)); err != nil {
		t.Fatal(err)
	}
	if err := b.reopenError(); err == nil || !strings.Contains(err.Error(), "ca sign") {
		t.Errorf("without root and intermediate: %v", err)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// The root signs intermediates that this program asked for, and nothing else.
func TestRootSignsOnlyIntermediates(t *testing.T) {
	root := must(newRoot(time.Now()))
	leaf := must(requestFor(must(Open(t.TempDir(), time.Now)).leaf(time.Hour), newKey(t)))
	if _, err := root.Sign(leaf, time.Now(), time.Hour); err == nil {
		t.Error("a leaf's request became an intermediate")
	}
	_, request, err := newRequest()
	if err != nil {
		t.Fatal(err)
	}
	request.Signature = slices.Clone(request.Signature)
	request.Signature[len(request.Signature)-1] ^= 1
	if _, err := root.Sign(request, time.Now(), time.Hour); err == nil {
		t.Error("a request that its key did not sign became an intermediate")
	}
}

func TestAnEarlierRootIsRefused(t *testing.T) {
	b := newBench(t)
	root := must(newRoot(b.clock))
	template := *root.certificate
	template.MaxPathLen, template.MaxPathLenZero = 0, true
	old := must(create(&template, &template, root.key.Public(), root.key))
	f := folder(t.TempDir())
	if err := errors.Join(writeKey(f.path(rootKeyFile), root.key), f.saveRoots([]*x509.Certificate{old})); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(string(f), time.Now); err == nil || !strings.Contains(err.Error(), "move the folder away") {
		t.Errorf("%v", err)
	}
}

// Whoever follows the bundle verifies every certificate in use through a whole
// replacement of the root; done in another order, the steps are refused.
func TestRootIsReplaced(t *testing.T) {
	b := newBench(t)
	var log strings.Builder
	b.logger = slog.New(slog.NewTextHandler(&log, nil))
	old, oldRoot := b.issued(t), b.Certificate()
	if err := UseRoot(b.dir, nil, b.clock, time.Hour); err == nil {
		t.Error("a root issued that was not added")
	}
	if _, err := AddRoot(b.dir, nil, b.clock); err != nil {
		t.Fatal(err)
	}
	if _, err := AddRoot(b.dir, nil, b.clock); err == nil {
		t.Error("a third root was added")
	}
	if err := DropRoot(b.dir); err == nil {
		t.Error("the root was dropped that issues")
	}
	refresh := func() {
		t.Helper()
		if err := b.Refresh(); err != nil {
			t.Fatal(err)
		}
	}
	refresh()
	if chain := b.issued(t); chain[1].CheckSignatureFrom(oldRoot) != nil {
		t.Error("the new root issues before everybody trusts it")
	}
	if err := UseRoot(b.dir, nil, b.clock, defaultIntermediateLife); err != nil {
		t.Fatal(err)
	}
	refresh()
	next := b.issued(t)
	if next[1].CheckSignatureFrom(oldRoot) == nil {
		t.Error("the old root issues still")
	}
	for _, chain := range [][]*x509.Certificate{old, next} {
		if err := verifyChain(chain, b.Roots(), b.clock); err != nil {
			t.Error(err)
		}
	}
	if err := DropRoot(b.dir); err != nil {
		t.Fatal(err)
	}
	refresh()
	if verifyChain(old, b.Roots(), b.clock) == nil || verifyChain(next, b.Roots(), b.clock) != nil || len(b.Roots()) != 1 {
		t.Error("the old root is trusted still, or the new one is not")
	}
	if _, err := os.Stat(filepath.Join(b.dir, nextKeyFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the new root's key lies about twice")
	}
	refresh()
	if n := strings.Count(log.String(), "the CA's roots changed"); n != 3 {
		t.Errorf("three steps are in the log %d times:\n%s", n, log.String())
	}
}

// TestSignerHelper is the external signer of the tests below, a process of its
// own: this program again.
func TestSignerHelper(t *testing.T) {
	dir := os.Getenv("SIGNER_DIR")
	if dir == "" {
		return
	}
	os.Exit(signAsHelper(dir, os.Getenv("SIGNER_FAULT")))
}

// external is an authority whose signer is another process, with its root in a
// folder that the authority does not see.
func external(t *testing.T, fault string) (*Authority, error) {
	t.Helper()
	far := must(Open(t.TempDir(), time.Now))
	t.Setenv("SIGNER_DIR", far.dir)
	t.Setenv("SIGNER_FAULT", fault)
	c := Config{Dir: filepath.Join(t.TempDir(), "ca"), SignerCommand: []string{os.Args[0], "-test.run=^TestSignerHelper$"}}
	c.SetDefaults(t.TempDir())
	if err := Init(c.Dir, []*x509.Certificate{far.Certificate()}); err != nil {
		t.Fatal(err)
	}
	return OpenConfigured(c, time.Now, slog.New(slog.DiscardHandler))
}

func TestExternalSigner(t *testing.T) {
	a, err := external(t, "")
	if err != nil {
		t.Fatal(err)
	}
	h := &holder{id: orders, key: newKey(t)}
	if leaf := issueWith(t, a, h); leaf.URIs[0].String() != orders {
		t.Errorf("it names %v", leaf.URIs)
	}
	for _, file := range []string{rootKeyFile, intermediateFile} {
		if folder(a.dir).has(file) {
			t.Errorf("%s was made beside an external signer", file)
		}
	}
	if renewed, err := a.Keep(filepath.Join(a.dir, "x.crt"), filepath.Join(a.dir, "x.key"), Subject{SPIFFE: orders}); err != nil || !renewed {
		t.Errorf("a certificate in a file: %v, %v", renewed, err)
	}
}

// Whatever a signer answers that is not what was asked for does not leave.
func TestExternalSignerIsVerified(t *testing.T) {
	for fault, reason := range map[string]string{
		"another id":   "it names",
		"another key":  "for another key",
		"a second SAN": "it names",
		"too long":     "longer than",
		"a CA":         "may do more than sign",
		"no client":    "extended usages",
		"another root": "unknown authority",
		"nothing":      "no PEM certificate",
		"a key too":    "PEM block",
		"a flood":      "more than 65536 bytes",
		"an error":     "the disk is full",
	} {
		t.Run(fault, func(t *testing.T) {
			a, err := external(t, fault)
			if err != nil {
				t.Fatal(err)
			}
			id := must(ParseID(orders))
			chain, err := a.issueTo(t.Context(), a.svid(id, time.Hour), newKey(t))
			if err == nil || !strings.Contains(err.Error(), reason) {
				t.Errorf("%v, want %q", err, reason)
			}
			if chain != nil {
				t.Error("something was returned")
			}
		})
	}
}

func TestParseID(t *testing.T) {
	for text, good := range map[string]bool{
		"spiffe://gatehouse.local/service/orders":               true,
		"spiffe://a-b_c.9/X.Y-z_0":                              true,
		"spiffe://gatehouse.local":                              false, // names no workload
		"spiffe://gatehouse.local/":                             false,
		"spiffe://gatehouse.local/a/":                           false,
		"spiffe://gatehouse.local//a":                           false,
		"spiffe://gatehouse.local/a/../b":                       false,
		"spiffe://gatehouse.local/./b":                          false,
		"spiffe://gatehouse.local/a%2fb":                        false,
		"spiffe://gatehouse.local/a?b":                          false,
		"spiffe://gatehouse.local/a#b":                          false,
		"spiffe://user@gatehouse.local/a":                       false,
		"spiffe://gatehouse.local:443/a":                        false,
		"spiffe://Gatehouse.local/a":                            false,
		"SPIFFE://gatehouse.local/a":                            false,
		"https://gatehouse.local/a":                             false,
		"spiffe:///a":                                           false,
		"spiffe://gatehouse.local/ä":                            false,
		"spiffe://gatehouse.local/" + strings.Repeat("a", 2048): false,
	} {
		id, err := ParseID(text)
		if (err == nil) != good {
			t.Errorf("%.60s: %v", text, err)
		}
		if good && (id.String() != text || id.url().String() != text) {
			t.Errorf("%s became %s and %s", text, id, id.url())
		}
	}
}

// The published bundle is what SPIFFE Trust Domain and Bundle §4 says.
func TestBundleJSON(t *testing.T) {
	r := newRig(t)
	state, _ := r.State()
	var document struct {
		Keys []struct {
			Use, Kty, Crv, X, Y string
			X5c                 [][]byte
			Kid                 *string
		}
		Sequence uint64 `json:"spiffe_sequence"`
		Refresh  int    `json:"spiffe_refresh_hint"`
	}
	if err := json.Unmarshal(must(BundleJSON(state.GetBundle())), &document); err != nil {
		t.Fatal(err)
	}
	if len(document.Keys) != 1 || document.Sequence != 1 || document.Refresh != 300 {
		t.Fatalf("%+v", document)
	}
	k := document.Keys[0]
	if k.Use != "x509-svid" || k.Kty != "EC" || k.Crv != "P-256" || k.X == "" || k.Y == "" || k.Kid != nil {
		t.Errorf("%+v", k)
	}
	if len(k.X5c) != 1 || !slices.Equal(k.X5c[0], r.Roots()[0].Raw) {
		t.Error("x5c is not the root")
	}
}
