package main

import (
	"fmt"
	"time"
)

// workloads are what is measured, with the goals of the design.
func (s *site) workloads() []workload {
	one := s.mint("seen")
	seen := func(checks int) ([]string, error) {
		tokens := make([]string, checks)
		for i := range tokens {
			tokens[i] = one
		}
		return tokens, nil
	}
	return []workload{
		{name: "check_seen", what: "Check, token seen before", goal: 1.25, tokens: seen},
		{name: "check_seen_asserted", what: "Check, token seen before, assertion cached", goal: 1.25, assertionFor: serviceID, tokens: seen},
		{name: "check_new_es256", what: "Check, new ES256 token", goal: 2.6, tokens: func(checks int) ([]string, error) {
			tokens := make([]string, checks)
			for i := range tokens {
				tokens[i] = s.mint(fmt.Sprintf("%d-%d", time.Now().UnixNano(), i))
			}
			return tokens, nil
		}},
	}
}

// mint signs an access token as the issuer would.
func (s *site) mint(id string) string {
	now := time.Now()
	return s.signing.Sign(map[string]any{"alg": "ES256", "typ": "at+jwt", "kid": s.signing.ID()}, map[string]any{
		"iss": issuerURL, "aud": audience, "sub": "usr_ada", "client_id": "shop", "scope": "read:orders write:orders",
		"roles": []string{"customer"}, "jti": id, "iat": now.Unix(), "exp": now.Add(10 * time.Minute).Unix(),
		"sid": "s-1", "grant_id": "g-1",
	})
}
