package clients

import (
	"crypto/ecdsa"
	"os"
	"path/filepath"
	"testing"

	"gatehouse.dev/gatehouse/e2e/harness"
	"gatehouse.dev/gatehouse/token/tokentest"
)

// What a security profile such as FAPI 2.0 asks of a client, all at once: a
// pushed request, a client that proves itself by a key, tokens bound to another.
func TestStrictLogin(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	p := s.AddUser(t, "alice", "customer")
	key, redirect := tokentest.NewKey("ES256"), callback(t)
	public := filepath.Join(s.Dir, "strict.jwks")
	if err := os.WriteFile(public, tokentest.JWKS(key), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"client", "add", "--id", "strict", "--redirect-uri", redirect, "--auth-method", "private_key_jwt", "--jwks", public, "--require-pushed", "--bind-to-key"}
	for _, scope := range scopes {
		args = append(args, "--scope", scope)
	}
	s.CLI(t, args...)
	settings := settingsOf(s, harness.Client{ID: "strict"}, redirect)
	private, ok := key.Signer().(*ecdsa.PrivateKey)
	if !ok {
		t.Fatal("the key is not ECDSA's")
	}
	secret, err := private.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	settings["key"] = tokentest.With(key.JWK(), map[string]any{"d": tokentest.Encode(secret)})
	var got struct {
		Login, Type, Access, Refreshed string
		Opened, Stolen                 int
	}
	run(t, s, login(t, s, p), &got, settings, "node", "node/strict.mjs")
	if got.Login != "alice" || got.Type != "dpop" || got.Opened != 200 || got.Stolen != 401 || got.Access == got.Refreshed {
		t.Errorf("it found %+v", got)
	}
}
