package authz

import "strings"

// credential finds the access token of a request where its rule allows one to
// be: in one Authorization header (RFC 6750 §2.1, RFC 9449 §7.1). A token in
// the query or in a form is no credential (RFC 9700 §4.3.2: never accepted);
// another scheme is not ours to judge and counts as none.
func credential(r *request, rule *rule) (string, error) {
	if !rule.fromBearer && !rule.fromProof || len(r.authorization) == 0 {
		return "", deny(ReasonNoCredential, "the request has no Authorization header")
	}
	if len(r.authorization) > 1 {
		return "", deny(ReasonManyCredentials, "the request has %d Authorization headers", len(r.authorization))
	}
	value := r.authorization[0]
	// Envoy joins header lines of one name with commas unless it sends them
	// raw, and nothing that we take holds one.
	if strings.Contains(value, ",") {
		return "", deny(ReasonManyCredentials, "the Authorization header holds a comma")
	}
	scheme, token, found := strings.Cut(value, " ")
	if !rule.takes(scheme) {
		return "", deny(ReasonNoCredential, "the Authorization header's scheme is none that the route takes")
	}
	if !found || !isB64Token(token) {
		return "", deny(ReasonMalformedCredential, "the Authorization header is not its scheme, one space and a token")
	}
	return token, nil
}

// takes tells whether a rule takes tokens of a scheme (RFC 9110 §11.1: in any
// case).
func (r *rule) takes(scheme string) bool {
	return r.fromBearer && strings.EqualFold(scheme, "Bearer") || r.fromProof && strings.EqualFold(scheme, "DPoP")
}

// isB64Token follows the grammar of RFC 6750 §2.1: letters, digits and -._~+/,
// then any number of =.
func isB64Token(s string) bool {
	body := strings.TrimRight(s, "=")
	for i := range len(body) {
		c := body[i]
		if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') && !strings.ContainsRune("-._~+/", rune(c)) {
			return false
		}
	}
	return body != ""
}
