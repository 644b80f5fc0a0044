package bolt

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/issuer/store"
)

const (
	crashRounds  = 5
	crashWriters = 8
	crashVar     = "GATEHOUSE_CRASH_DATABASE"
)

// TestCrash kills a process under load with SIGKILL, again and again, and then
// asks the file: whatever was acknowledged is there, what was consumed stays so
// (codes, refresh tokens, devices, pushed requests, assertions, initial access
// tokens), the log has no gap, and the audit log tells neither more nor less
// than what was done.
func TestCrash(t *testing.T) {
	if path := os.Getenv(crashVar); path != "" {
		crashChild(t, path)
		return
	}
	path := filepath.Join(t.TempDir(), "issuer.db")
	seedCrash(t, path)
	for round := range crashRounds {
		acknowledged := crashRound(t, path, 40*(round+1))
		if len(acknowledged) == 0 {
			t.Fatal("the child acknowledged nothing")
		}
		verifyCrash(t, path, acknowledged)
	}
}

func seedCrash(t *testing.T, path string) {
	t.Helper()
	db := openAt(t, path, Options{})
	defer db.Close()
	if err := errors.Join(
		db.CreateClient(t.Context(), store.Client{ID: "app", Type: store.Public, Scopes: []string{"openid"}}),
		db.CreateClient(t.Context(), store.Client{ID: "told", Type: store.Public, BackchannelLogoutURI: "https://told.example/"}),
		db.CreateUser(t.Context(), store.User{ID: "usr_1", Login: "alice"}),
	); err != nil {
		t.Fatal(err)
	}
}

// crashRound runs the child until it has acknowledged so many lines, and kills
// it in the middle of whatever it does.
func crashRound(t *testing.T, path string, lines int) (acknowledged []string) {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^TestCrash$")
	child.Env = append(os.Environ(), crashVar+"="+path)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	scanner := bufio.NewScanner(out)
	for len(acknowledged) < lines && scanner.Scan() {
		acknowledged = append(acknowledged, scanner.Text())
	}
	child.Process.Kill()
	for scanner.Scan() { // what it said before it died counts as well
		acknowledged = append(acknowledged, scanner.Text())
	}
	child.Wait()
	return acknowledged
}

// crashChild redeems codes and rotates their refresh tokens until it is killed,
// and says so after each is done, in lines "code grant token next"; in between
// it does the crashKinds.
func crashChild(t *testing.T, path string) {
	db, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for writer := range crashWriters {
		go func() {
			for n := writer; ; n++ {
				line, err := crashFlow(t, db)
				if n%2 == 0 {
					line, err = crashLine(t, db, n/2)
				}
				if err != nil {
					fmt.Fprintf(os.Stderr, "writer %d: %v\n", writer, err)
					continue
				}
				io.WriteString(os.Stdout, line)
			}
		}()
	}
	<-t.Context().Done()
}

func crashFlow(t *testing.T, db *DB) (string, error) {
	code, grant, token := store.NewToken("ghc_"), store.NewID("gnt_"), store.NewToken(store.RefreshPrefix)
	next := store.Successor([]byte("key"), token)
	later := time.Now().Add(time.Hour)
	_, create := db.CreateCode(t.Context(), store.Code{Hash: store.HashOf(code), ClientID: "app", UserID: "usr_1", ExpiresAt: later})
	_, redeem := db.RedeemCode(t.Context(), store.Redemption{
		Code: store.HashOf(code), ClientID: "app", GrantID: grant,
		Decide: func(store.Code) (store.Terms, error) {
			return store.Terms{ExpiresAt: later, Refresh: store.HashOf(token)}, nil
		},
	})
	_, rotate := db.RotateRefresh(t.Context(), store.Rotation{
		Token: store.HashOf(token), Successor: store.HashOf(next), ClientID: "app",
	})
	revoke := db.RevokeToken(t.Context(), grant, later)
	return fmt.Sprintln(code, grant, token, next), errors.Join(create, redeem, rotate, revoke)
}

func verifyCrash(t *testing.T, path string, acknowledged []string) {
	t.Helper()
	db := openAt(t, path, Options{})
	defer db.Close()
	verifyRecords(t, db)
	kinds := map[string]int{}
	for _, line := range acknowledged {
		part := strings.Fields(line)
		if len(part) == 2 {
			verifyKind(t, db, part[0], part[1])
			kinds[part[0]]++
		}
		if len(part) != 4 {
			continue // the line that the child died in
		}
		code, grant, token, next := part[0], part[1], part[2], part[3]
		if _, found, err := db.RefreshToken(t.Context(), store.HashOf(next)); err != nil || found.ID != grant {
			t.Fatalf("an acknowledged refresh token is lost: %v", err)
		}
		if used, _, err := db.RefreshToken(t.Context(), store.HashOf(token)); err != nil || used.UsedAt.IsZero() {
			t.Fatalf("a used refresh token can be used again: %v", err)
		}
		if alive, err := db.Alive(t.Context(), store.TokenRefs{ID: grant, IssuedAt: time.Now().Add(time.Hour)}); err != nil || alive {
			t.Fatalf("an acknowledged revocation is lost: %v", err)
		}
		if _, err := db.RedeemCode(t.Context(), store.Redemption{
			Code: store.HashOf(code), ClientID: "app", GrantID: "again",
			Decide: func(store.Code) (store.Terms, error) { return store.Terms{ExpiresAt: time.Now().Add(time.Hour)}, nil },
		}); !errors.Is(err, store.ErrConsumed) {
			t.Fatalf("a consumed code can be redeemed again: %v", err)
		}
	}
	verifyLog(t, db)
	for _, kind := range crashKinds {
		if kinds[kind.name] == 0 {
			t.Errorf("nothing of kind %q was acknowledged: it proves nothing", kind.name)
		}
	}
}

func verifyLog(t *testing.T, db *DB) {
	t.Helper()
	last, err := db.LastSequence(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	entries, err := db.Log(t.Context(), 0, int(last)+1)
	if err != nil || uint64(len(entries)) != last {
		t.Fatalf("the log has %d entries and ends at %d: %v", len(entries), last, err)
	}
	for i, r := range entries {
		if r.Sequence != uint64(i)+1 {
			t.Fatalf("entry %d has sequence %d", i, r.Sequence)
		}
	}
}
