package workload

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	workloadv1 "gatehouse.dev/gatehouse/proto/gatehouse/workload/v1"
)

// Only public keys under their own ids are taken; the rest of the state counts
// all the same.
func TestMembersTakePublicKeysAlone(t *testing.T) {
	a := newAuthority(t)
	end := timestamppb.New(time.Now().Add(time.Hour))
	state := &workloadv1.TrustState{
		Version: "v", Bundle: &workloadv1.Bundle{Roots: [][]byte{a.cert.Raw}}, Denied: []string{orders},
		AssertionKeys: []*workloadv1.AssertionKey{
			{Id: "good", Jwk: []byte(`{"kty":"EC","kid":"good"}`), ExpiresAt: end},
			{Id: "private", Jwk: []byte(`{"kty":"EC","kid":"private","d":"AA"}`), ExpiresAt: end},
			{Id: "symmetric", Jwk: []byte(`{"kty":"oct","kid":"symmetric","k":"AA"}`), ExpiresAt: end},
			{Id: "another's", Jwk: []byte(`{"kty":"EC","kid":"good"}`), ExpiresAt: end},
			{Id: "nameless", Jwk: []byte(`{"kty":"EC"}`), ExpiresAt: end},
			{Id: "broken", Jwk: []byte(`{`), ExpiresAt: end},
		},
	}
	m, err := parseMembers(state)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(m.JWKS(time.Now())); got != `{"keys":[{"kty":"EC","kid":"good"}]}` {
		t.Errorf("served: %s", got)
	}
	if len(m.Denied) != 1 {
		t.Errorf("denied: %v", m.Denied)
	}
	for name, broken := range map[string]*workloadv1.TrustState{
		"no roots":   {Version: "v"},
		"no version": {Bundle: state.GetBundle()},
		"bad root":   {Version: "v", Bundle: &workloadv1.Bundle{Roots: [][]byte{{1}}}},
	} {
		if _, err := parseMembers(broken); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
