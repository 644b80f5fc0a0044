package issuer

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"gatehouse.dev/gatehouse/issuer/admin"
	"gatehouse.dev/gatehouse/issuer/keys"
	"gatehouse.dev/gatehouse/issuer/store"
	"gatehouse.dev/gatehouse/issuer/store/bolt"
	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
)

// administer does what administrators do.
func (s *walkSite) administer() (secrets []string) {
	s.Helper()
	a, ctx := s.administration(), s.Context()
	ok := func(err error) {
		s.Helper()
		if err != nil {
			s.Fatal(err)
		}
	}
	mask := func(path string) *fieldmaskpb.FieldMask { return &fieldmaskpb.FieldMask{Paths: []string{path}} }
	const chosen = "a password that somebody chose"
	c, err := a.CreateClient(ctx, &adminv1.CreateClientRequest{Client: &adminv1.Client{Id: "made", Type: adminv1.ClientType_CLIENT_TYPE_CONFIDENTIAL}})
	ok(err)
	_, err = a.UpdateClient(ctx, &adminv1.UpdateClientRequest{Client: &adminv1.Client{Id: "made", Name: "Made"}, UpdateMask: mask("name")})
	ok(err)
	rotated, err := a.RotateClientSecret(ctx, &adminv1.RotateClientSecretRequest{Id: "made"})
	ok(err)
	_, err = a.CreateGroup(ctx, &adminv1.CreateGroupRequest{Group: &adminv1.Group{Name: "staff"}})
	ok(err)
	_, err = a.UpdateGroup(ctx, &adminv1.UpdateGroupRequest{Name: "staff", Group: &adminv1.Group{Roles: []string{"reader"}}, UpdateMask: mask("roles")})
	ok(err)
	_, err = a.CreateUser(ctx, &adminv1.CreateUserRequest{User: &adminv1.User{Login: "eve"}, Password: chosen})
	ok(err)
	_, err = a.UpdateUser(ctx, &adminv1.UpdateUserRequest{Login: "eve", User: &adminv1.User{Name: "Eve"}, UpdateMask: mask("name")})
	ok(err)
	_, err = a.SetUserPassword(ctx, &adminv1.SetUserPasswordRequest{Login: "eve", Password: chosen + " anew"})
	ok(err)
	_, err = a.SetConsent(ctx, &adminv1.SetConsentRequest{Login: "eve", ClientId: "made", Scopes: []string{"openid"}})
	ok(err)
	_, err = a.RevokeConsent(ctx, &adminv1.RevokeConsentRequest{Login: "eve", ClientId: "made"})
	ok(err)
	sessions, err := a.ListSessions(ctx, &adminv1.ListSessionsRequest{Login: "ada"})
	ok(err)
	for _, session := range sessions.GetSessions() {
		_, err = a.RevokeSession(ctx, &adminv1.RevokeSessionRequest{Id: session.GetId()})
		ok(err)
	}
	token, err := a.CreateRegistrationToken(ctx, &adminv1.CreateRegistrationTokenRequest{
		Token: &adminv1.RegistrationToken{GrantTypes: []string{grantClientCredentials}, UsesLeft: 1}, Lifetime: durationpb.New(time.Hour),
	})
	ok(err)
	_, err = a.DeleteRegistrationToken(ctx, &adminv1.DeleteRegistrationTokenRequest{Id: token.GetToken().GetId()})
	ok(err)
	_, err = a.RotateKeys(ctx, &adminv1.RotateKeysRequest{})
	ok(err)
	for range 2 { // it signs, and what signed before is gone
		s.clock.advance(time.Hour)
		ok(s.server.keys.Load(ctx))
	}
	keys, err := a.ListKeys(ctx, &adminv1.ListKeysRequest{})
	ok(err)
	_, err = a.PurgeKey(ctx, &adminv1.PurgeKeyRequest{Id: keys.GetKeys()[0].GetId()})
	ok(err)
	_, err = a.RevokeClient(ctx, &adminv1.RevokeClientRequest{Id: "made"})
	ok(err)
	_, err = a.RevokeUser(ctx, &adminv1.RevokeUserRequest{Login: "eve"})
	ok(err)
	_, err = a.DeleteClient(ctx, &adminv1.DeleteClientRequest{Id: "made"})
	ok(err)
	_, err = a.DeleteUser(ctx, &adminv1.DeleteUserRequest{Login: "eve"})
	ok(err)
	_, err = a.DeleteGroup(ctx, &adminv1.DeleteGroupRequest{Name: "staff"})
	ok(err)
	s.entered[adminv1.Admin_Backup_FullMethodName] = s.backUp(a)
	return []string{c.GetSecret(), rotated.GetSecret(), token.GetSecret(), chosen}
}

// backUp takes a backup, restores it elsewhere and brings it under another key:
// what that enters counts as entered here.
func (s *walkSite) backUp(a adminv1.AdminClient) (entered bool) {
	s.Helper()
	before := len(s.all())
	stream, err := a.Backup(s.Context(), &adminv1.BackupRequest{})
	var copied []byte
	for err == nil {
		var part *adminv1.BackupResponse
		part, err = stream.Recv()
		copied = append(copied, part.GetChunk()...)
	}
	if !errors.Is(err, io.EOF) {
		s.Fatal(err)
	}
	entered = len(s.all()) > before
	dir := s.TempDir()
	backup, path := filepath.Join(dir, "backup.db"), filepath.Join(dir, "issuer.db")
	if err := os.WriteFile(backup, copied, 0o600); err != nil {
		s.Fatal(err)
	}
	options := bolt.Options{Now: s.clock.now, OpenAuditKey: func(key []byte) ([]byte, error) { return key, nil }}
	sealing := store.Resealing{AuditKey: []byte("another"), Keep: func(key []byte) []byte { return key }, Key: func(k store.Key) ([]byte, error) { return k.Sealed, nil }}
	kek, err := keys.LoadKEK(string(s.server.config.KeyEncryptionKey))
	if err != nil {
		s.Fatal(err)
	}
	options.AuditKey = kek.AuditKey()
	ctx := admin.Offline(s.Context())
	if err := errors.Join(bolt.Restore(ctx, backup, path, options), bolt.Reseal(ctx, path, options, sealing)); err != nil {
		s.Fatal(err)
	}
	options.AuditKey = sealing.AuditKey
	db, err := bolt.Open(path, options)
	if err != nil {
		s.Fatal(err)
	}
	defer db.Close()
	for _, name := range []string{store.EventRestore, store.EventKeyReseal} {
		found, _, _, err := db.Events(s.Context(), store.EventQuery{Name: name, Limit: 1})
		if err != nil || len(found) != 1 || found[0].Actor == "" {
			s.Fatalf("%s is entered as %v, %v", name, found, err)
		}
		if err := s.server.store.RecordEvents(s.Context(), found); err != nil {
			s.Fatal(err)
		}
	}
	return entered
}
