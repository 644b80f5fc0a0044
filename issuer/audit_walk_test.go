package issuer

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"gatehouse.dev/gatehouse/issuer/password"
	"gatehouse.dev/gatehouse/issuer/store"
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
func (s *walkSite) walk() (secrets []string) {
	s.Helper()
	keep := func(values ...any) {
		for _, v := range values {
			if text, ok := v.(string); ok && text != "" {
				secrets = append(secrets, text)
			}
		}
	}
	answered := func(a answer) map[string]any {
		s.Helper()
		if a.StatusCode >= 300 {
			s.Errorf("answered %d %s", a.StatusCode, a.body)
		}
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
	s.poll(d) // and again: only counted

	access := s.own("svc")
	keep(access)
	keep(s.exchanged("svc", exchange(s.own("machine"))))
	s.tokenAs("svc", exchange("no token"))
	s.tokenAs("svc", url.Values{"grant_type": {grantClientCredentials}, "scope": {"fly"}})
	s.request("POST", pathIntrospect, "token=x", basic("machine", "wrong-secret"))
	s.request("POST", pathRevoke, "token=x", basic("machine", "wrong-secret"))
	s.request("POST", pathRevoke, url.Values{"token": {access.(string)}}.Encode(), basic("svc", webSecret))
	answered(s.push(authorization(), basic("web", webSecret)))
	s.push(authorization(), basic("web", "wrong-secret"))
	s.prove(keep, answered)

	// Registrations.
	initial := s.initialToken(1)
	keep(initial)
	m := answered(s.jsonRequest("POST", pathRegister, initial, robotMetadata()))
	path := pathRegister + "?" + url.Values{"client_id": {m["client_id"].(string)}}.Encode()
	s.jsonRequest("POST", pathRegister, initial, robotMetadata())
	changed := answered(s.jsonRequest("PUT", path, m["registration_access_token"].(string), robotWith("client_id", m["client_id"])))
	s.jsonRequest("DELETE", path, changed["registration_access_token"].(string), "")
	secrets = append(secrets, s.administer()...)
	s.misuse()
	return secrets
}

// proven are the clients that prove themselves in each way: walk lets each of
// them succeed and fail.
var proven = map[string]string{
	methodBasic: "machine", methodPost: "every", methodNone: "tv",
	methodPrivateKeyJWT: "signer", methodTLS: "named", methodSelfSigned: "pinned",
}

// prove lets machines prove themselves, and be vouched for, in each way.
func (s *walkSite) prove(keep func(...any), answered func(answer) map[string]any) {
	s.Helper()
	own := func(pairs ...string) url.Values {
		return with(url.Values{"grant_type": {grantClientCredentials}}, pairs...)
	}
	inBody := func(client, secret string) answer {
		return s.request("POST", pathToken, own("client_id", client, "client_secret", secret).Encode())
	}
	answered(s.tokenAs("machine", own()))
	s.request("POST", pathToken, own().Encode(), basic("machine", "wrong-secret"))
	answered(inBody("every", webSecret))
	inBody("every", "wrong-secret")
	key, stranger := s.signingClient("signer"), tokentest.NewKey("ES256")
	proven := s.assertion(key, tokentest.ClientAssertion("signer", s.url, s.clock.now()))
	forged := s.assertion(stranger, tokentest.ClientAssertion("signer", s.url, s.clock.now()))
	keep(proven, forged)
	answered(s.asserted(proven))
	s.asserted(proven) // its jti again
	s.asserted(forged)
	for _, client := range []string{"named", "pinned"} {
		answered(s.tokenWith(own("client_id", client), shown(s.holder)))
		s.tokenWith(own("client_id", client), shown(newParty(s.T, nil, same)))
	}
	s.register(store.Client{ID: "bound", Type: store.Confidential, Secret: store.HashOf(webSecret), GrantTypes: []string{grantClientCredentials}, Scopes: []string{"read:orders"}, BindToKey: true})
	s.request("POST", pathToken, own().Encode(), basic("bound", webSecret)) // without a proof
	answered(s.request("POST", pathToken, own().Encode(), basic("bound", webSecret), s.proof(key, "POST", pathToken, "")))
	vouched := s.voucher.assertion()
	keep(vouched)
	answered(s.bearer(vouched))
	s.bearer(vouched)
}

// misuse does what makes every kind of anomaly, and more of it than is entered.
func (s *walkSite) misuse() {
	s.Helper()
	b := s.browser()
	page := b.get(pathAuthorize + "?" + authorization().Encode())
	for i := range 60 {
		if i < 10 { // slowly, so that each is tried
			s.clock.advance(30 * time.Second)
		}
		page = b.submit(page, "login", "alice", "password", "guess at a password")
	}
	for range 700 {
		s.request("POST", pathToken, "grant_type=refresh_token&refresh_token=none&client_id=spa")
	}
}
