package token

import (
	"errors"
	"fmt"
	"strings"
)

// maxSPIFFE bounds a SPIFFE id, in bytes (SPIFFE-ID §2.3).
const maxSPIFFE = 2048

// assertionPayload is an assertion's claims set, each claim of the right kind
// or absent (zero). Nothing here is verified.
type assertionPayload struct {
	caller      payload // sub, client_id, scope, roles
	issuer      string
	audience    string
	transaction string
	requester   string
	actors      []string
	issued      date
	expires     date
	origin      originPayload
}

// originPayload is tctx: what stays the same along a call chain, of the access
// token that began it.
type originPayload struct {
	subjectType string
	issuer      string
	id          string
	session     string
	grant       string
	key         string
	issued      date
	expires     date
	ancestors   []Ancestor
}

func parseAssertionPayload(text string) (p assertionPayload, err error) {
	p.caller.text = text
	err = scanObject(text, func(s *scanner, name string) error {
		if err := p.claim(s, name); err != nil {
			return fmt.Errorf("reading the claim %s: %w", quoted(name), err)
		}
		return nil
	})
	return p, err
}

func (p *assertionPayload) claim(s *scanner, name string) (err error) {
	switch name {
	case "iss":
		p.issuer, err = claimLabel(s, maxSPIFFE)
	case "aud": // one service, so one string
		p.audience, err = claimLabel(s, maxSPIFFE)
	case "txn":
		p.transaction, err = claimLabel(s, maxName)
	case "req_wl":
		p.requester, err = spiffe(s)
	case "act":
		err = p.actor(s)
	case "iat":
		p.issued, err = claimDate(s)
	case "exp":
		p.expires, err = claimDate(s)
	case "tctx":
		err = s.object(p.origin.member)
	case "sub", "client_id", "scope", "roles":
		err = p.caller.claim(s, name)
	case "nbf", "cnf":
		err = errors.New("an assertion has no such claim")
	default:
		err = s.skip()
	}
	return err
}

// actor reads act (RFC 8693 §4.1): an object with the actor's sub and, inside,
// who acted before it.
func (p *assertionPayload) actor(s *scanner) error {
	at := len(p.actors)
	if at >= MaxActors {
		return s.fault(fmt.Sprintf("more than %d actors", MaxActors))
	}
	p.actors = append(p.actors, "")
	err := s.object(func(s *scanner, name string) (err error) {
		switch name {
		case "sub":
			p.actors[at], err = spiffe(s)
		case "act":
			err = p.actor(s)
		default:
			err = s.skip()
		}
		return err
	})
	if err == nil && p.actors[at] == "" {
		err = s.fault("an actor without sub")
	}
	return err
}

func (o *originPayload) member(s *scanner, name string) (err error) {
	switch name {
	case "subject_type":
		o.subjectType, err = claimLabel(s, maxName)
	case "iss":
		o.issuer, err = claimLabel(s, maxIssuer)
	case "jti":
		o.id, err = claimLabel(s, maxName)
	case "sid":
		o.session, err = claimLabel(s, maxName)
	case "grant_id":
		o.grant, err = claimLabel(s, maxName)
	case "kid":
		o.key, err = claimLabel(s, maxKeyID)
	case "iat":
		o.issued, err = claimDate(s)
	case "exp":
		o.expires, err = claimDate(s)
	case "derived_from":
		o.ancestors, err = ancestors(s)
	default:
		err = s.skip()
	}
	return err
}

func spiffe(s *scanner) (string, error) {
	id, err := claimLabel(s, maxSPIFFE)
	if err == nil && !strings.HasPrefix(id, "spiffe://") {
		err = s.fault("no SPIFFE id")
	}
	return id, err
}

// claims are those of the access token that the assertion was made from. No
// Cache takes them: they were verified under no access token's configuration.
func (p *assertionPayload) claims() Claims {
	c := Claims{payload: p.caller, key: &Key{id: p.origin.key}}
	c.issuer, c.audience = p.origin.issuer, []string{p.audience}
	c.id, c.session, c.grant = p.origin.id, p.origin.session, p.origin.grant
	c.issued, c.expires = p.origin.issued, p.origin.expires
	c.machine, c.ancestors = p.origin.subjectType == SubjectClient, p.origin.ancestors
	return c
}
