package issuer

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"gatehouse.dev/gatehouse/issuer/admin"
	"gatehouse.dev/gatehouse/issuer/journal"
	"gatehouse.dev/gatehouse/issuer/password"
	"gatehouse.dev/gatehouse/issuer/store"
	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
	"gatehouse.dev/gatehouse/token/tokentest"
)

// importedUser can log in with rightWords, by a hash from elsewhere.
func (s *site) importedUser(login string) {
	s.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(rightWords), bcrypt.MinCost+6)
	if err != nil {
		s.Fatal(err)
	}
	if err := s.server.store.CreateUser(s.Context(), store.User{ID: store.UserIDPrefix + login, Login: store.Login(login), Roles: []string{"customer"}, Password: string(hash)}); err != nil {
		s.Fatal(err)
	}
}

// A login by an imported hash makes it one of ours, once, and the next login
// goes by that; a failed one changes nothing.
func TestImportedHashIsUpgradedAtLogin(t *testing.T) {
	s := newSite(t)
	s.importedUser("ada")
	hash := func() string {
		u, err := s.server.store.User(t.Context(), "usr_ada")
		if err != nil {
			t.Fatal(err)
		}
		return u.Password
	}
	imported := hash()
	b := s.browser()
	page := b.get(pathAuthorize + "?" + authorization().Encode())
	page = b.submit(page, "login", "ada", "password", "wrong words, all of them")
	if hash() != imported {
		t.Error("a failed login changed the hash")
	}
	for range 2 {
		if code := s.browser().allow("ada", authorization()).Query().Get("code"); code == "" {
			t.Fatal("no code")
		}
		if ours := hash(); !strings.HasPrefix(ours, "$argon2id$") || password.CheckHash(ours) != nil {
			t.Errorf("after a login the hash is %.12s…", ours)
		}
	}
	rehashed := s.events(store.EventQuery{Name: store.EventUserRehash})
	if len(rehashed) != 1 || rehashed[0].Subject != "usr_ada" || rehashed[0].Address == "" {
		t.Errorf("the upgrades are entered as %+v", rehashed)
	}
	if page.StatusCode == 303 {
		t.Error("wrong words logged in")
	}
}

// walk makes every kind of event happen, and returns the secrets that were
// about.
func (s *site) walk() (secrets []string) {
	s.Helper()
	keep := func(values ...any) {
		for _, v := range values {
			if text, ok := v.(string); ok && text != "" {
				secrets = append(secrets, text)
			}
		}
	}
	answered := func(a answer) map[string]any {
		m := a.json(s)
		keep(m["access_token"], m["refresh_token"], m["id_token"], m["device_code"], m["user_code"], m["client_secret"], m["registration_access_token"], m["request_uri"])
		return m
	}
	keep(webSecret, rightWords, "wrong-secret", "guess at a password", testVerifier)

	// People.
	s.importedUser("ada")
	b := s.browser()
	b.submit(b.get(pathAuthorize+"?"+authorization().Encode()), "login", "alice", "password", "guess at a password")
	keep(b.allow("ada", authorization()).Query().Get("code"), b.session())
	code := s.code()
	keep(code)
	first := answered(s.tokenAs("web", redemption(code)))
	answered(s.refreshWith(first["refresh_token"]))
	s.clock.advance(time.Hour)
	s.refreshWith(first["refresh_token"]) // beyond the grace: a replay
	b.get(pathAuthorize + "?" + authorization("scope", "openid fly").Encode())

	// Devices.
	d := s.device()
	keep(d["device_code"], d["user_code"])
	s.authorizeDevice("scope", "fly")
	s.clock.advance(5 * time.Second)
	tv := s.browser()
	tv.submit(tv.connect("alice", d), "decision", "allow")
	answered(s.poll(d))
	s.poll(d) // again: a replay

	// Machines.
	access := s.own("svc")
	keep(access)
	keep(s.exchanged("svc", exchange(s.own("machine"))))
	s.tokenAs("svc", exchange("no token"))
	s.tokenAs("svc", url.Values{"grant_type": {grantClientCredentials}, "scope": {"fly"}})
	s.request("POST", pathToken, "grant_type=client_credentials", basic("machine", "wrong-secret"))
	s.request("POST", pathIntrospect, "token=x", basic("machine", "wrong-secret"))
	s.request("POST", pathRevoke, "token=x", basic("machine", "wrong-secret"))
	s.request("POST", pathRevoke, url.Values{"token": {access.(string)}}.Encode(), basic("svc", webSecret))
	answered(s.push(authorization(), basic("web", webSecret)))
	s.push(authorization(), basic("web", "wrong-secret"))
	key, stranger := s.signingClient("signer"), tokentest.NewKey("ES256")
	proven := s.assertion(key, tokentest.ClientAssertion("signer", s.url, s.clock.now()))
	forged := s.assertion(stranger, tokentest.ClientAssertion("signer", s.url, s.clock.now()))
	keep(proven, forged)
	answered(s.asserted(proven))
	s.asserted(proven) // its jti again
	s.asserted(forged)
	s.register(store.Client{ID: "bound", Type: store.Confidential, Secret: store.HashOf(webSecret), GrantTypes: []string{grantClientCredentials}, Scopes: []string{"read:orders"}, BindToKey: true})
	own := url.Values{"grant_type": {grantClientCredentials}}.Encode()
	s.request("POST", pathToken, own, basic("bound", webSecret)) // without a proof
	answered(s.request("POST", pathToken, own, basic("bound", webSecret), s.proof(key, "POST", pathToken, "")))

	// Registrations.
	initial := s.initialToken(1)
	keep(initial)
	m := answered(s.jsonRequest("POST", pathRegister, initial, robotMetadata()))
	path := pathRegister + "?" + url.Values{"client_id": {m["client_id"].(string)}}.Encode()
	s.jsonRequest("POST", pathRegister, initial, robotMetadata())
	changed := answered(s.jsonRequest("PUT", path, m["registration_access_token"].(string), robotWith("client_id", m["client_id"])))
	s.jsonRequest("DELETE", path, changed["registration_access_token"].(string), "")
	return append(secrets, s.administer()...)
}

// administer does what administrators do.
func (s *site) administer() (secrets []string) {
	s.Helper()
	a, ctx := admin.Local(s.server.admin), s.Context()
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
	return []string{c.GetSecret(), rotated.GetSecret(), token.GetSecret(), chosen}
}

// Whatever can happen is entered with what, who, from where and the outcome,
// and neither the audit log nor the process's own has a secret in it.
func TestEveryEventIsComplete(t *testing.T) {
	s := exchangeSite(t, registering)
	s.register(store.Client{ID: "tv", Type: store.Native, GrantTypes: []string{grantDeviceCode, grantRefreshToken}, Scopes: []string{"read:orders", "write:orders"}})
	mark := len(s.events(store.EventQuery{}))
	secrets := s.walk()
	seen := map[string]bool{}
	for _, e := range s.events(store.EventQuery{})[mark:] {
		seen[e.Name] = true
		for what, missing := range incomplete(e) {
			if missing {
				t.Errorf("an event without %s: %+v", what, e)
			}
		}
		text, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range secrets {
			if strings.Contains(string(text), secret) {
				t.Errorf("a secret is in event %s", text)
			}
		}
	}
	for _, name := range []string{
		store.EventClientCreate, store.EventClientUpdate, store.EventClientSecret, store.EventClientRevoke, store.EventClientDelete,
		store.EventClientRegister, store.EventClientReregister, store.EventClientUnregister, store.EventRegistration, store.EventRegistrationEnd,
		store.EventUserCreate, store.EventUserUpdate, store.EventUserPassword, store.EventUserRevoke, store.EventUserDelete, store.EventUserRehash,
		store.EventGroupCreate, store.EventGroupUpdate, store.EventGroupDelete, store.EventSessionStart, store.EventSessionRevoke,
		store.EventConsentGive, store.EventConsentRevoke, store.EventAuthorization, store.EventToken, store.EventTokenRevoke, store.EventReplay,
		store.EventGrantRevoke, store.EventKeyPut, store.EventKeyPurge, journal.EventLogin,
		"token.refuse", "revoke.refuse", "introspect.refuse", "register.refuse", "par.refuse", "device.refuse", "authorization.refuse",
	} {
		if !seen[name] {
			t.Errorf("%s did not happen, or was not entered", name)
		}
	}
	for _, secret := range secrets {
		if strings.Contains(s.log.String(), secret) {
			t.Errorf("the log has a secret of %d characters", len(secret))
		}
	}
}

// incomplete tells what an event lacks that it must have. Signing keys are the
// issuer's own, and who names no client is nobody.
func incomplete(e store.Event) map[string]bool {
	family, act, _ := strings.Cut(e.Name, ".")
	byIssuer := family == "key" || e.Name == store.EventClientCreate || e.Name == store.EventUserCreate || e.Name == store.EventRegistration // the test's own, too
	stranger := act == "refuse" || e.Name == journal.EventLogin && e.Result != store.Success
	return map[string]bool{
		"a place in the log": e.Sequence == 0,
		"a time":             e.At.IsZero(),
		"an outcome":         !slices.Contains([]string{store.Success, store.Failure, store.Throttled}, e.Result),
		"a reason":           e.Result == store.Failure && e.Reason == "" && e.Detail == "" && e.Name != journal.EventLogin,
		"anybody":            e.Actor == "" && e.Subject == "" && e.Client == "" && !byIssuer && !stranger,
		"from where":         e.Actor == "" && e.Address == "" && !byIssuer,
	}
}
