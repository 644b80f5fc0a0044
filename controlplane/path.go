package controlplane

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// pathPattern is a parsed route path: literal segments, {name} for any one
// segment, and a final /** for the path itself and everything below it.
type pathPattern struct {
	segments []segment
	below    bool
}

type segment struct {
	literal string
	any     bool // {name}
}

// literalSegment is what a segment may hold as it stands: the unreserved
// characters and sub-delimiters of RFC 3986 §3.3 without `;`, which servers
// disagree about, without `%`, because Envoy decodes what it normalises, and
// without `*`, which would look like a pattern.
var (
	literalSegment = regexp.MustCompile(`^[A-Za-z0-9._~!$&'()+,=:@-]+$`)
	namedSegment   = regexp.MustCompile(`^\{[A-Za-z_][A-Za-z0-9_]*\}$`)
)

// Bounds of a path, well below what Envoy takes of a regular expression (the
// bootstrap's re2.max_program_size).
const (
	maxPath     = 512 // bytes
	maxNames    = 16  // {name} segments
	maxReserved = 16  // characters that have two spellings
)

// reserved are the characters of a literal that Envoy leaves percent-encoded
// where a client has encoded them, while services decode them (RFC 3986 §2.2):
// each is matched in both spellings, lest the other fall through to a weaker
// route.
const reserved = "!$&'()+,=:@"

// parsePath reads a route's path. "/" alone is the root, "/**" everything.
func parsePath(text string) (pathPattern, error) {
	var p pathPattern
	if !strings.HasPrefix(text, "/") {
		return p, errors.New("does not begin with /")
	}
	if len(text) > maxPath || strings.Count(text, "{") > maxNames {
		return p, fmt.Errorf("is longer than %d bytes or has more than %d {name} segments", maxPath, maxNames)
	}
	if n := len(text) - len(strings.Map(withoutReserved, text)); n > maxReserved {
		return p, fmt.Errorf("has %d of the characters %s, more than %d", n, reserved, maxReserved)
	}
	rest := text[1:]
	if trimmed, ok := strings.CutSuffix(text, "/**"); ok {
		p.below = true
		if trimmed == "" {
			return p, nil
		}
		rest = trimmed[1:]
	} else if rest == "" {
		p.segments = []segment{{}}
		return p, nil
	}
	return p, p.parseSegments(strings.Split(rest, "/"))
}

func (p *pathPattern) parseSegments(parts []string) error {
	for i, part := range parts {
		switch {
		case namedSegment.MatchString(part):
			p.segments = append(p.segments, segment{any: true})
		case part == "." || part == "..":
			return fmt.Errorf("has the segment %q, which no normalised path has", part)
		case part == "" && i == len(parts)-1 && !p.below:
			p.segments = append(p.segments, segment{}) // a trailing slash
		case part == "":
			return errors.New("has an empty segment, which no normalised path has")
		case part == "**":
			return errors.New("has ** elsewhere than at its end")
		case !literalSegment.MatchString(part):
			return fmt.Errorf("has the segment %q, which is neither plain text nor {name}", part)
		default:
			p.segments = append(p.segments, segment{literal: part})
		}
	}
	return nil
}

func withoutReserved(r rune) rune {
	if strings.ContainsRune(reserved, r) {
		return -1
	}
	return r
}

// prefix is the text in front of /**, or the whole path; plain tells that it
// has no {name} and one spelling.
func (p pathPattern) prefix() (text string, plain bool) {
	var b strings.Builder
	plain = true
	for _, s := range p.segments {
		b.WriteString("/" + s.literal)
		plain = plain && !s.any && !strings.ContainsAny(s.literal, reserved)
	}
	return b.String(), plain
}

// regex matches the whole path, for patterns that are not plain.
func (p pathPattern) regex() string {
	var b strings.Builder
	for _, s := range p.segments {
		if s.any {
			b.WriteString("/[^/]+")
			continue
		}
		b.WriteString("/" + bothSpellings(s.literal))
	}
	if p.below {
		b.WriteString("(/.*)?")
	}
	return b.String()
}

func bothSpellings(literal string) string {
	var b strings.Builder
	for _, r := range literal {
		quoted := regexp.QuoteMeta(string(r))
		if strings.ContainsRune(reserved, r) {
			quoted = fmt.Sprintf("(?:%s|(?i:%%%02x))", quoted, r)
		}
		b.WriteString(quoted)
	}
	return b.String()
}

// covers tells whether every path that q matches is matched by p as well.
func (p pathPattern) covers(q pathPattern) bool {
	if len(p.segments) > len(q.segments) || !p.below && (q.below || len(p.segments) != len(q.segments)) {
		return false
	}
	for i, s := range p.segments {
		t := q.segments[i]
		// {name} takes any segment but an empty one.
		if s.any && !t.any && t.literal == "" || !s.any && (t.any || s.literal != t.literal) {
			return false
		}
	}
	return true
}

// meets tells whether some path is matched by both.
func (p pathPattern) meets(q pathPattern) bool {
	for i := range min(len(p.segments), len(q.segments)) {
		s, t := p.segments[i], q.segments[i]
		switch {
		case s.any && t.any:
		case s.any && t.literal == "", t.any && s.literal == "": // {name} is never empty
			return false
		case !s.any && !t.any && s.literal != t.literal:
			return false
		}
	}
	switch {
	case len(p.segments) < len(q.segments):
		return p.below
	case len(p.segments) > len(q.segments):
		return q.below
	default:
		return true
	}
}
