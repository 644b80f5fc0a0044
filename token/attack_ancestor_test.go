package token_test

import (
	"slices"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/token"
	"gatehouse.dev/gatehouse/token/tokentest"
)

func parent(changes map[string]any) map[string]any {
	return tokentest.With(map[string]any{"jti": "j", "client_id": "web", "kid": "k", "iat": testNow.Unix()}, changes)
}

// A token that cannot say what it was made from cannot be revoked with it.
func TestAttacksOnAncestors(t *testing.T) {
	f := newForger("ES256")
	derived := func(value any) string { return f.claim("derived_from", value) }
	var attacks []attack
	for what, value := range map[string]any{
		"null": tokentest.Null, "an object": parent(nil), "a string": "j", "no tokens": []any{},
		"a string in the array": []any{"j"}, "too many": slices.Repeat([]any{parent(nil)}, token.MaxAncestors+1),
		"no jti": []any{parent(map[string]any{"jti": nil})}, "no client_id": []any{parent(map[string]any{"client_id": nil})},
		"no kid": []any{parent(map[string]any{"kid": nil})}, "no iat": []any{parent(map[string]any{"iat": nil})},
		"an empty jti": []any{parent(map[string]any{"jti": ""})}, "iat a string": []any{parent(map[string]any{"iat": "1"})},
		"one of two broken": []any{parent(nil), parent(map[string]any{"jti": nil})},
	} {
		attacks = append(attacks, attack{"RFC 8693 §1 a parent is " + what, derived(value), token.ReasonMalformed})
	}
	attacks = append(attacks, attack{"RFC 9068 §5 a person who is said to be a client", f.claims(map[string]any{"sub": "usr_alice", "subject_type": "client"}), token.ReasonClaim})
	runAttacks(t, f, attacks)
}

func TestAncestors(t *testing.T) {
	f := newForger("ES256")
	claims := mustVerify(t, newVerifier(t, f.key), f.claim("derived_from", []any{parent(nil), parent(map[string]any{"jti": "j2", "more": 1})}))
	want := []token.Ancestor{
		{ID: "j", ClientID: "web", KeyID: "k", IssuedAt: testNow.UTC().Truncate(time.Second)},
		{ID: "j2", ClientID: "web", KeyID: "k", IssuedAt: testNow.UTC().Truncate(time.Second)},
	}
	if !slices.Equal(claims.Ancestors(), want) {
		t.Errorf("ancestors %v", claims.Ancestors())
	}
	if got := mustVerify(t, newVerifier(t, f.key), f.claim("x", 1)).Ancestors(); got != nil {
		t.Errorf("a token by itself has the ancestors %v", got)
	}
}

// Another client may act for one: sub and client_id differ, and it is no person.
func TestSubjectTypeOfDelegates(t *testing.T) {
	f := newForger("ES256")
	for _, row := range []struct {
		claims map[string]any
		want   string
	}{
		{map[string]any{"sub": "robot", "client_id": "orders"}, token.SubjectUser},
		{map[string]any{"sub": "robot", "client_id": "orders", "subject_type": "client"}, token.SubjectClient},
		{map[string]any{"sub": "robot", "client_id": "orders", "subject_type": "user"}, token.SubjectUser},
		{map[string]any{"sub": "robot", "client_id": "orders", "subject_type": 1}, token.SubjectUser},
		{map[string]any{"sub": "robot", "client_id": "robot", "subject_type": "user"}, token.SubjectClient},
	} {
		if got := mustVerify(t, newVerifier(t, f.key), f.claims(row.claims)).SubjectType(); got != row.want {
			t.Errorf("%v: %s", row.claims, got)
		}
	}
}

// What a token was made from, and that it is a client's, goes on with the
// assertion made of it.
func TestAssertionKeepsDescent(t *testing.T) {
	f := newForger("ES256")
	claims := mustVerify(t, newVerifier(t, f.key), f.claims(map[string]any{
		"sub": "robot", "client_id": "orders", "subject_type": "client", "roles": nil, "derived_from": []any{parent(nil)},
	}))
	key := newAssertionKey(t)
	v := verifierOfKey(t, key)
	text, _, err := key.Sign(claims, content())
	if err != nil {
		t.Fatal(err)
	}
	a, err := v.Verify(text, testOrders)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(a.Claims().Ancestors(), claims.Ancestors()) || a.SubjectType() != token.SubjectClient {
		t.Errorf("the assertion is of a %s, made from %v", a.SubjectType(), a.Claims().Ancestors())
	}
}
