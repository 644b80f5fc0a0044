package token

import (
	"fmt"
	"slices"
	"strings"
)

// Bounds on claims: counts, and lengths in bytes.
const (
	maxIssuer   = 512
	maxName     = 255 // sub, jti, client_id and the like; OpenID Connect Core §2
	maxAudience = 512
	maxList     = 64 // members of aud, scope and roles each
	maxScope    = 4096
	maxRole     = 255
	maxPlan     = 63
)

// payload is a JWT claims set: the claims that we read, each of the kind that
// its specification says, or absent (zero). Nothing here is verified.
type payload struct {
	text     string // the whole, as signed
	issuer   string
	subject  string
	clientID string
	id       string
	session  string
	grant    string
	audience []string
	scopes   []string
	roles    []string
	plan     string
	machine  bool // subject_type is "client"
	// ancestors are derived_from.
	ancestors []Ancestor
	expires   date
	issued    date
	before    date // nbf
	bound     bool // has cnf (RFC 7800)
	foreign   bool // cnf asks for a proof that we cannot check
	confirm   Confirmation
}

// date is a claim's time in microseconds since 1970.
type date struct {
	micros int64
	given  bool
}

// parsePayload reads a claims set (RFC 7519 §4). Claims that we do not know
// are passed over, as §4 asks.
func parsePayload(text string) (payload, error) {
	p := payload{text: text}
	err := scanObject(text, func(s *scanner, name string) error {
		if err := p.claim(s, name); err != nil {
			return fmt.Errorf("reading the claim %s: %w", quoted(name), err)
		}
		return nil
	})
	return p, err
}

func (p *payload) claim(s *scanner, name string) (err error) {
	switch name {
	case "iss":
		p.issuer, err = claimLabel(s, maxIssuer)
	case "sub":
		p.subject, err = claimLabel(s, maxName)
	case "client_id":
		p.clientID, err = claimLabel(s, maxName)
	case "jti":
		p.id, err = claimLabel(s, maxName)
	case "sid":
		p.session, err = claimLabel(s, maxName)
	case "grant_id":
		p.grant, err = claimLabel(s, maxName)
	case "aud":
		p.audience, err = audience(s)
	case "scope":
		p.scopes, err = scopes(s)
	case "plan":
		p.plan, err = plan(s)
	case "roles":
		p.roles, err = labels(s, maxRole)
	case "subject_type":
		p.machine, err = subjectType(s)
	case "derived_from":
		p.ancestors, err = ancestors(s)
	case "exp":
		p.expires, err = claimDate(s)
	case "iat":
		p.issued, err = claimDate(s)
	case "nbf":
		p.before, err = claimDate(s)
	case "auth_time":
		_, err = s.date()
	case "cnf":
		p.bound = true
		p.confirm, p.foreign, err = confirmation(s)
	default:
		err = s.skip()
	}
	return err
}

// subjectType reads our own subject_type: another issuer may mean something
// else by that name, and says nothing with it here.
func subjectType(s *scanner) (machine bool, err error) {
	if s.peek() != '"' {
		return false, s.skip()
	}
	text, err := s.text()
	return text == SubjectClient, err
}

func claimLabel(s *scanner, limit int) (string, error) {
	text, err := s.text()
	if err != nil {
		return "", err
	}
	return text, checkLabel(text, limit)
}

func claimDate(s *scanner) (date, error) {
	micros, err := s.date()
	return date{micros, err == nil}, err
}

// plan reads plan, which is ours and nobody's standard: what is no short text is
// another's claim of that name.
func plan(s *scanner) (string, error) {
	if s.peek() != '"' {
		return "", s.skip()
	}
	text, err := s.text()
	if err != nil || checkLabel(text, maxPlan) != nil {
		return "", err
	}
	return text, nil
}

// labels reads an array of strings that name something.
func labels(s *scanner, limit int) ([]string, error) {
	texts, err := s.texts(maxList)
	if err != nil {
		return nil, err
	}
	for _, text := range texts {
		if err := checkLabel(text, limit); err != nil {
			return nil, err
		}
	}
	return slices.Clip(texts), nil
}

// audience reads aud (RFC 7519 §4.1.3): a string, or an array of strings. An
// empty array names nobody, and nobody is not everybody.
func audience(s *scanner) ([]string, error) {
	if s.peek() != '[' {
		text, err := claimLabel(s, maxAudience)
		return []string{text}, err
	}
	texts, err := labels(s, maxAudience)
	if err == nil && len(texts) == 0 {
		err = s.fault("an empty array")
	}
	return texts, err
}

// scopes reads scope (RFC 8693 §4.2) by the grammar of RFC 6749 §3.3: tokens
// of certain characters with one space between them, here each once.
func scopes(s *scanner) ([]string, error) {
	text, err := s.text()
	if err != nil {
		return nil, err
	}
	if len(text) > maxScope || strings.Count(text, " ") >= maxList {
		return nil, s.fault(fmt.Sprintf("more than %d bytes or %d scopes", maxScope, maxList))
	}
	scopes := strings.Split(text, " ")
	for i, scope := range scopes {
		if !IsScope(scope) {
			return nil, s.fault("not scopes with one space between them")
		}
		if slices.Contains(scopes[:i], scope) {
			return nil, s.fault("a scope stands twice")
		}
	}
	return scopes, nil
}

// IsScope tells whether scope is a scope-token (RFC 6749 §3.3): printable ASCII
// without space, quote and backslash, so that it is safe inside a header's
// quoted string as well.
func IsScope(scope string) bool {
	for i := range len(scope) {
		if c := scope[i]; c <= ' ' || c == '"' || c == '\\' || c > '~' {
			return false
		}
	}
	return scope != ""
}
