package app

import (
	"bytes"
	"context"
	"os"
	"testing"

	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
)

// A second start finds the accounts and their secrets; a lost file is replaced
// by a new secret.
func TestSampleAccountsAreFoundAgain(t *testing.T) {
	path := write(t, small+`
    - {audience: https://orders.example, scopes: [read:orders, write:orders]}
    - {audience: https://profile.example, scopes: [read:profile]}
  roles: {customer: [read:orders], approver: [read:orders]}
`)
	c := load(t, path)
	files := []string{string(c.sampleSecret("robot.secret")), string(c.sampleSecret("alice.password"))}
	start := func() (found [][]byte) {
		t.Helper()
		if err := sampleAccounts(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			info, err := os.Stat(file)
			if err != nil {
				t.Fatal(err)
			}
			if mode := info.Mode().Perm(); mode != 0o600 {
				t.Errorf("%s has mode %o", file, mode)
			}
			found = append(found, readFile(file))
		}
		return found
	}
	first, second := start(), start()
	for i, file := range files {
		if len(first[i]) == 0 || !bytes.Equal(first[i], second[i]) {
			t.Errorf("%s changed at the second start", file)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	for i, content := range start() {
		if len(content) == 0 || bytes.Equal(content, first[i]) {
			t.Errorf("%s was lost and not made anew", files[i])
		}
	}
	err := Administer(t.Context(), c, func(ctx context.Context, admin adminv1.AdminClient) error {
		clients, err := admin.ListClients(ctx, &adminv1.ListClientsRequest{})
		if len(clients.GetClients()) != len(sampleClients) {
			t.Errorf("%d clients", len(clients.GetClients()))
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
