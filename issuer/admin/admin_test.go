package admin

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	"gatehouse.dev/gatehouse/internal/serve"
	"gatehouse.dev/gatehouse/issuer/keys"
	"gatehouse.dev/gatehouse/issuer/password"
	"gatehouse.dev/gatehouse/issuer/store"
	"gatehouse.dev/gatehouse/issuer/store/bolt"
	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
)

// fixture is a service on a database of its own.
type fixture struct {
	adminv1.AdminClient
	service *Service
	db      *bolt.DB
}

func newFixture(t *testing.T) fixture {
	t.Helper()
	dir := t.TempDir()
	db, err := bolt.Open(filepath.Join(dir, "issuer.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	ring := newRing(t, dir, db)
	hasher, err := password.NewHasher(2)
	if err != nil {
		t.Fatal(err)
	}
	service, err := New(Config{Algorithms: []string{"ES256"}, AccessTokenLifetime: 10 * time.Minute, Scopes: []string{"read:orders", "write:orders"}, Roles: []string{"customer", "approver"}},
		Deps{Store: db, Keys: ring, Passwords: hasher, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return fixture{AdminClient: Local(service), service: service, db: db}
}

func newRing(t *testing.T, dir string, db store.Keys) *keys.Ring {
	t.Helper()
	path := filepath.Join(dir, "kek")
	if _, err := keys.EnsureKEK(path); err != nil {
		t.Fatal(err)
	}
	kek, err := keys.LoadKEK(path)
	if err != nil {
		t.Fatal(err)
	}
	ring, err := keys.New(keys.Config{PublishLead: time.Minute, RotateEvery: time.Hour, Retention: time.Minute},
		keys.Deps{Store: db, KEK: kek, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := ring.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	return ring
}

// wants fails unless an error has a code and a message with all of these.
func wants(t *testing.T, what string, err error, code codes.Code, parts ...string) {
	t.Helper()
	if status.Code(err) != code {
		t.Errorf("%s: %v, want %v", what, err, code)
		return
	}
	for _, part := range parts {
		if !strings.Contains(status.Convert(err).Message(), part) {
			t.Errorf("%s: %q does not say %q", what, status.Convert(err).Message(), part)
		}
	}
}

func TestKeyLife(t *testing.T) {
	f := newFixture(t)
	list := func() []*adminv1.Key {
		t.Helper()
		response, err := f.ListKeys(t.Context(), &adminv1.ListKeysRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return response.GetKeys()
	}
	first := list()[0]
	if first.GetState() != adminv1.KeyState_KEY_STATE_ACTIVE || first.GetAlgorithm() != "ES256" || !first.GetActiveAt().IsValid() || !first.GetRetiresAt().IsValid() || !first.GetVerifiesUntil().IsValid() || first.GetRetiredAt() != nil {
		t.Errorf("the first key is %v", first)
	}
	rotated, err := f.RotateKeys(t.Context(), &adminv1.RotateKeysRequest{})
	if err != nil || len(rotated.GetNext()) != 1 || rotated.GetNext()[0].GetState() != adminv1.KeyState_KEY_STATE_NEXT || !rotated.GetNext()[0].GetActiveAt().AsTime().After(time.Now()) {
		t.Errorf("the next key is %v, %v", rotated, err)
	}
	if _, err := f.PurgeKey(t.Context(), &adminv1.PurgeKeyRequest{Id: first.GetId()}); err != nil {
		t.Fatal(err)
	}
	for _, k := range list() {
		if k.GetId() == first.GetId() && (k.GetState() != adminv1.KeyState_KEY_STATE_PURGED || k.GetActiveAt() != nil) {
			t.Errorf("the purged key is %v", k)
		}
		if k.GetId() == rotated.GetNext()[0].GetId() && k.GetState() != adminv1.KeyState_KEY_STATE_ACTIVE {
			t.Errorf("its replacement is %v", k)
		}
	}
	_, err = f.PurgeKey(t.Context(), &adminv1.PurgeKeyRequest{Id: "none"})
	wants(t, "an unknown key", err, codes.NotFound, "gatehouse keys list")
	_, err = f.RotateKeys(t.Context(), &adminv1.RotateKeysRequest{Algorithm: "ES384"})
	wants(t, "an unknown algorithm", err, codes.NotFound, "ES384")
}

// Over the socket everything is as it is in process.
func TestServedOverASocket(t *testing.T) {
	f := newFixture(t)
	address := "unix:" + filepath.Join(t.TempDir(), "admin")
	listener, err := serve.Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	adminv1.RegisterAdminServer(server, f.service)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- serve.GRPC(ctx, listener, server) }()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	remote := adminv1.NewAdminClient(conn)
	if _, err := remote.CreateClient(t.Context(), &adminv1.CreateClientRequest{Client: robot()}); err != nil {
		t.Error(err)
	}
	for name, client := range map[string]adminv1.AdminClient{"socket": remote, "local": f} {
		list, err := client.ListClients(t.Context(), &adminv1.ListClientsRequest{})
		if err != nil || len(list.GetClients()) != 1 {
			t.Errorf("%s: %v, %v", name, list, err)
		}
		_, err = client.DeleteClient(t.Context(), &adminv1.DeleteClientRequest{Id: "none"})
		wants(t, name, err, codes.NotFound)
		stopped, stop := context.WithCancel(t.Context())
		stop()
		_, err = client.ListClients(stopped, &adminv1.ListClientsRequest{})
		if code := status.Code(err); code != codes.Canceled {
			t.Errorf("%s: a cancelled call: %v", name, err)
		}
	}
	conn.Close()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// What Local returns is a copy, as from a wire.
func TestLocalShares(t *testing.T) {
	f := newFixture(t)
	request := &adminv1.CreateClientRequest{Client: robot()}
	if _, err := f.CreateClient(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(robot(), request.GetClient(), protocmp.Transform()); diff != "" {
		t.Errorf("the request was changed: %s", diff)
	}
	if err := (local{f.service}).Invoke(t.Context(), "/gatehouse.admin.v1.Admin/Nothing", request, request); status.Code(err) != codes.Unimplemented {
		t.Errorf("an unknown method: %v", err)
	}
}
