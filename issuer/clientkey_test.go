package issuer

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/issuer/store"
	"gatehouse.dev/gatehouse/token"
	"gatehouse.dev/gatehouse/token/tokentest"
)

// signingClient registers a client that proves itself with a key.
func (s *site) signingClient(id string, change ...func(*store.Client)) *tokentest.Key {
	s.Helper()
	key := tokentest.NewKey("ES256")
	s.register(store.Client{
		ID: id, Type: store.Confidential, GrantTypes: []string{grantClientCredentials}, Scopes: []string{"read:orders"},
		Proof: store.ClientProof{Method: methodPrivateKeyJWT, JWKS: tokentest.JWKS(key), Algorithms: []string{"ES256"}},
	}, change...)
	return key
}

func (s *site) register(c store.Client, change ...func(*store.Client)) {
	s.Helper()
	for _, f := range change {
		f(&c)
	}
	if err := s.server.store.CreateClient(s.Context(), c); err != nil {
		s.Fatal(err)
	}
}

// assertion signs the claims of a client assertion.
func (s *site) assertion(key *tokentest.Key, claims map[string]any) string {
	return key.Sign(tokentest.With(key.Header(), map[string]any{"typ": "client-authentication+jwt"}), claims)
}

// asserted asks for a client's own token with an assertion.
func (s *site) asserted(assertion string, pairs ...string) answer {
	s.Helper()
	return s.request("POST", pathToken, with(url.Values{
		"grant_type": {grantClientCredentials}, "client_assertion_type": {assertionType}, "client_assertion": {assertion},
	}, pairs...).Encode())
}

// One row, one clause; what is wrong inside of an assertion is tested where it
// is checked (package token).
func TestClientAssertionAttacks(t *testing.T) {
	s := newSite(t)
	key, other := s.signingClient("signer"), s.signingClient("other")
	claims := func(pairs ...any) map[string]any {
		c := tokentest.ClientAssertion("signer", s.url, s.clock.now())
		for i := 0; i < len(pairs); i += 2 {
			c[pairs[i].(string)] = pairs[i+1]
		}
		return c
	}
	good := func() string { return s.assertion(key, claims()) }
	for _, row := range []struct {
		clause    string
		assertion string
		pairs     []string
		change    func(*http.Request)
		status    int
		code      string
	}{
		{"RFC 7523 §3 no. 3 the token endpoint as audience", s.assertion(key, claims("aud", s.url+pathToken)), nil, nil, 401, codeInvalidClient},
		{"RFC 7523 §3 no. 3 a list of audiences", s.assertion(key, claims("aud", []string{s.url})), nil, nil, 401, codeInvalidClient},
		{"RFC 7523 §3 no. 4 too long a life", s.assertion(key, claims("exp", s.clock.now().Add(time.Hour).Unix())), nil, nil, 401, codeInvalidClient},
		{"RFC 7523 §3 no. 9 the key of another client", s.assertion(other, claims()), nil, nil, 401, codeInvalidClient},
		{"RFC 7523 §3 no. 2 another client's name under its key", s.assertion(key, claims("sub", "other", "iss", "other")), nil, nil, 401, codeInvalidClient},
		{"RFC 7523 §3 no. 2 nobody's name", s.assertion(key, claims("sub", "nobody", "iss", "nobody")), nil, nil, 401, codeInvalidClient},
		{"RFC 7523 §2.2 no assertion type", good(), []string{"client_assertion_type", ""}, nil, 401, codeInvalidClient},
		{"RFC 7523 §2.2 the type of SAML", good(), []string{"client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"}, nil, 401, codeInvalidClient},
		{"RFC 7523 §2.2 the type alone", "", nil, nil, 401, codeInvalidClient},
		{"RFC 7521 §4.2 client_id is another", good(), []string{"client_id", "other"}, nil, 400, codeInvalidRequest},
		{"RFC 6749 §2.3 a secret beside it", good(), []string{"client_secret", webSecret}, nil, 400, codeInvalidRequest},
		{"RFC 6749 §2.3 Basic beside it", good(), nil, basic("machine", webSecret), 400, codeInvalidRequest},
		{"RFC 8725 §3.11 an access token", s.claimsText("machine"), nil, nil, 401, codeInvalidClient},
	} {
		t.Run(row.clause, func(t *testing.T) {
			s := *s
			s.T = t
			body := with(url.Values{"grant_type": {grantClientCredentials}, "client_assertion_type": {assertionType}, "client_assertion": {row.assertion}}, row.pairs...)
			change := row.change
			if change == nil {
				change = func(*http.Request) {}
			}
			s.oauthError(s.request("POST", pathToken, body.Encode(), change), row.status, row.code)
		})
	}
	t.Run("a client with a key has no secret", func(t *testing.T) {
		s.oauthError(s.request("POST", pathToken, "grant_type=client_credentials&client_id=signer"), 401, codeInvalidClient)
		s.oauthError(s.tokenAs("signer", url.Values{"grant_type": {grantClientCredentials}}), 401, codeInvalidClient)
	})
	for name, text := range map[string]string{"as it should be": good(), "beside its client_id": good()} {
		pairs := []string{}
		if strings.Contains(name, "client_id") {
			pairs = []string{"client_id", "signer"}
		}
		if a := s.asserted(text, pairs...); a.StatusCode != 200 {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.body)
		}
	}
}

// claimsText is an access token of a client.
func (s *site) claimsText(client string) string {
	s.Helper()
	text, _ := s.tokenAs(client, url.Values{"grant_type": {grantClientCredentials}}).json(s)["access_token"].(string)
	return text
}

// Of any number of uses of one assertion, at whichever endpoint, one succeeds.
func TestClientAssertionCountsOnce(t *testing.T) {
	s := newSite(t)
	key := s.signingClient("signer")
	text := s.assertion(key, tokentest.ClientAssertion("signer", s.url, s.clock.now()))
	var won atomic.Int32
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if s.asserted(text).StatusCode == 200 {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d uses succeeded", won.Load())
	}
	body := url.Values{"token": {"x"}, "client_assertion_type": {assertionType}, "client_assertion": {text}}.Encode()
	s.oauthError(s.request("POST", pathIntrospect, body), 401, codeInvalidClient)
	if !strings.Contains(s.log.String(), "was used before") {
		t.Error("the log does not say why")
	}
}

// jwksServer serves a key set that can be changed.
type jwksServer struct {
	*httptest.Server
	fetches atomic.Int32
	set     atomic.Pointer[[]byte]
}

func newJWKSServer(t *testing.T, keys ...*tokentest.Key) *jwksServer {
	j := &jwksServer{}
	j.publish(keys...)
	j.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		j.fetches.Add(1)
		w.Write(*j.set.Load())
	}))
	t.Cleanup(j.Close)
	return j
}

func (j *jwksServer) publish(keys ...*tokentest.Key) {
	set := tokentest.JWKS(keys...)
	j.set.Store(&set)
}

func TestClientKeysAreFetched(t *testing.T) {
	s := newSite(t, func(c *Config) { c.InternalClientKeys = true })
	first, second := tokentest.NewKey("ES256"), tokentest.NewKey("ES256")
	j := newJWKSServer(t, first)
	s.signingClient("signer", func(c *store.Client) { c.Proof.JWKS, c.Proof.JWKSURI = nil, j.URL+"/keys" })
	ask := func(key *tokentest.Key) int {
		return s.asserted(s.assertion(key, tokentest.ClientAssertion("signer", s.url, s.clock.now()))).StatusCode
	}
	if once, again := ask(first), ask(first); once != 200 || again != 200 || j.fetches.Load() != 1 {
		t.Errorf("after %d fetches", j.fetches.Load())
	}
	j.publish(second)
	if ask(second) != 401 || j.fetches.Load() != 1 {
		t.Errorf("an unknown key is looked for again at once: %d fetches", j.fetches.Load())
	}
	s.clock.advance(clientKeysPause)
	if ask(second) != 200 || j.fetches.Load() != 2 {
		t.Errorf("a new key is not found: %d fetches", j.fetches.Load())
	}
	if ask(first) != 401 {
		t.Error("a key that was withdrawn is taken")
	}
	j.Close()
	s.clock.advance(clientKeysFresh)
	if ask(second) != 200 {
		t.Error("while the set cannot be fetched its last good state does not count")
	}
	s.clock.advance(clientKeysKept + time.Second)
	if ask(second) != 401 {
		t.Error("a set counts for ever")
	}
}

// A client cannot make the issuer fetch from its own network.
func TestClientKeysAreNotFetchedFromInside(t *testing.T) {
	s := newSite(t)
	key := tokentest.NewKey("ES256")
	j := newJWKSServer(t, key)
	s.signingClient("signer", func(c *store.Client) {
		c.Proof.JWKS, c.Proof.JWKSURI = nil, strings.Replace(j.URL, "http:", "https:", 1)
	})
	s.oauthError(s.asserted(s.assertion(key, tokentest.ClientAssertion("signer", s.url, s.clock.now()))), 401, codeInvalidClient)
	if j.fetches.Load() != 0 || !strings.Contains(s.log.String(), "not a public address") {
		t.Errorf("%d fetches; log %s", j.fetches.Load(), s.log)
	}
}

func TestClientKeysAreBounded(t *testing.T) {
	k := newClientKeys(false, nil, time.Now)
	for i := range maxClientSets + 1 {
		if _, err := k.set(store.ClientProof{JWKSURI: "https://x.example/" + strings.Repeat("a", i), Algorithms: []string{string(token.ES256)}}); err != nil {
			t.Fatal(err)
		}
	}
	if len(k.sets) > maxClientSets {
		t.Errorf("%d sets are kept", len(k.sets))
	}
}

// Whoever names unknown keys and goes away before they are looked for does not
// keep a client's keys from being fetched, nor from being used meanwhile.
func TestStrangersDoNotHoldUpClientKeys(t *testing.T) {
	s := newSite(t, func(c *Config) { c.InternalClientKeys = true })
	key, stranger := tokentest.NewKey("ES256"), tokentest.NewKey("ES256")
	begun, let := make(chan struct{}), make(chan struct{})
	j := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		begun <- struct{}{}
		<-let
		w.Write(tokentest.JWKS(key))
	}))
	defer j.Close()
	s.signingClient("signer", func(c *store.Client) { c.Proof.JWKS, c.Proof.JWKSURI = nil, j.URL+"/keys" })
	client, err := s.server.store.Client(t.Context(), "signer")
	if err != nil {
		t.Fatal(err)
	}
	keysOf := func(ctx context.Context, kid string) error {
		return second(s.server.clientKeys.of(ctx, client.Proof, kid))
	}
	ctx, leave := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() { gone <- keysOf(ctx, stranger.ID()) }()
	<-begun
	leave()
	let <- struct{}{}
	if err := <-gone; err != nil {
		t.Errorf("a fetch ended with who had caused it: %v", err)
	}
	if err := keysOf(t.Context(), key.ID()); err != nil {
		t.Errorf("the keys that were fetched: %v", err)
	}
	s.clock.advance(clientKeysPause)
	go func() { gone <- keysOf(t.Context(), stranger.ID()) }()
	<-begun // and stays
	if a := s.asserted(s.assertion(key, tokentest.ClientAssertion("signer", s.url, s.clock.now()))); a.StatusCode != 200 {
		t.Errorf("meanwhile: %d %s", a.StatusCode, a.body)
	}
	let <- struct{}{}
	if err := <-gone; err != nil {
		t.Error(err)
	}
	// Where all places to fetch are taken, what is known has to do.
	for range maxClientFetches {
		s.server.clientKeys.slots <- struct{}{}
	}
	s.clock.advance(clientKeysFresh)
	if err := keysOf(t.Context(), key.ID()); err != nil {
		t.Errorf("with no place to fetch: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

// What clients that made themselves may have remembered is bounded.
func TestSelfMadeClientsAssertSoOften(t *testing.T) {
	s := newSite(t)
	key := s.signingClient("dyn_x", func(c *store.Client) { c.Registration = &store.Registration{} })
	ask := func() answer {
		return s.asserted(s.assertion(key, tokentest.ClientAssertion("dyn_x", s.url, s.clock.now())))
	}
	for range assertionsOfClient {
		if a := ask(); a.StatusCode != 200 {
			t.Fatal(a.body)
		}
	}
	s.oauthError(ask(), 429, codeTemporarilyUnavailable)
	s.clock.advance(assertionEvery)
	if a := ask(); a.StatusCode != 200 {
		t.Errorf("after a while: %s", a.body)
	}
}

// A fetch that panics keeps neither its slot nor those who wait for it.
func TestAKeyFetchThatPanicsLetsGo(t *testing.T) {
	k := newClientKeys(true, slog.New(slog.DiscardHandler), time.Now)
	under := make(chan struct{})
	set := &clientSet{under: under} // without a remote there is nothing to fetch with
	func() {
		defer func() {
			if recover() == nil {
				t.Error("it did not panic: this test tests nothing")
			}
		}()
		k.fetch(t.Context(), set)
	}()
	select {
	case <-under:
	default:
		t.Error("who waits for it waits for ever")
	}
	if len(k.slots) != 0 || set.under != nil {
		t.Errorf("%d slots are taken, under way: %t", len(k.slots), set.under != nil)
	}
}
