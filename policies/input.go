package policies

import (
	"fmt"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
)

// InputVersion is the version of the document that policies read. Within a
// version members are only added; a change of meaning makes a new one.
const InputVersion = 1

// Input is what a decision may depend on. Every member reaches the policy,
// empty ones as "", 0, [] or {}, so that a policy never meets an undefined
// member. The document is described in docs/policies.md.
type Input struct {
	Route    Route
	Request  Request
	Token    Token
	Required Required
	// Assertion is who passed the request on inside; empty at the edge.
	Assertion Assertion
}

// Route is the route that Envoy matched.
type Route struct {
	// ID is the route's id in gatehouse.yaml.
	ID string
	// Service is the name of the service the route leads to.
	Service string
}

// Request is the request as Envoy will forward it.
type Request struct {
	// Method is upper case, e.g. "GET".
	Method string
	// Path is the normalised path, without the query.
	Path string
	// Query is the raw query string, without "?"; empty where there is none.
	Query string
	// Host is the :authority, without a port.
	Host string
	// SourceAddress is the IP address of Envoy's peer, without a port.
	SourceAddress string
	// Headers are the request's headers by lower-case name. Headers that carry
	// credentials are left out of the document.
	Headers map[string]string
}

// Token is what the verified token says.
type Token struct {
	Issuer  string
	Subject string
	// SubjectType is "user" or "client".
	SubjectType string
	ClientID    string
	Audience    []string
	Scopes      []string
	Roles       []string
	// ID is the token's jti.
	ID string
	// SessionID and GrantID are empty for tokens that no person logged in for.
	SessionID string
	GrantID   string
	// IssuedAt and ExpiresAt reach the policy as whole seconds since 1970.
	IssuedAt  time.Time
	ExpiresAt time.Time
	// Claims are all claims as the token has them, in the types that
	// encoding/json decodes into. The map is only read.
	Claims map[string]any
}

// Assertion is what a sidecar's verified assertion says of the call.
type Assertion struct {
	// Caller is the SPIFFE id of the workload that calls: the edge or a service.
	Caller string
	// Actors are the SPIFFE ids of the services that call on the subject's
	// behalf, the nearest first; empty where the edge calls.
	Actors []string
}

// Required is what the route demands of the token.
type Required struct {
	Scopes []string
}

// credentialHeaders never reach a policy, whose reasons are logged.
var credentialHeaders = map[string]bool{
	"authorization":       true,
	"proxy-authorization": true,
	"cookie":              true,
	"dpop":                true,
	"gatehouse-assertion": true,
}

// scopesDocument is as much of the document as the scope policy reads. It is
// asked on every request, and the whole document costs as much as its answer.
func (in Input) scopesDocument() ast.Value {
	return object(
		member("token", ast.NewTerm(object(member("scopes", texts(in.Token.Scopes))))),
		member("required", in.Required.term()),
	)
}

// document builds what the policy sees, straight in OPA's own types: a detour
// over JSON costs more than the evaluation. The claims alone are of any shape
// and size; they are left out where no policy asked reads them.
func (in Input) document(withClaims bool) (ast.Value, error) {
	var claims ast.Value = ast.NewObject()
	if withClaims && len(in.Token.Claims) > 0 {
		var err error
		if claims, err = ast.InterfaceToValue(in.Token.Claims); err != nil {
			return nil, fmt.Errorf("handing the token's claims to the policy: %w", err)
		}
	}
	return object(
		member("version", ast.InternedTerm(InputVersion)),
		member("route", in.Route.term()),
		member("request", in.Request.term()),
		member("token", in.Token.term(claims)),
		member("required", in.Required.term()),
		member("assertion", in.Assertion.term()),
	), nil
}

func (r Route) term() *ast.Term {
	return ast.NewTerm(object(
		member("id", ast.StringTerm(r.ID)),
		member("service", ast.StringTerm(r.Service)),
	))
}

func (r Request) term() *ast.Term {
	headers := make([][2]*ast.Term, 0, len(r.Headers))
	for name, value := range r.Headers {
		if name = strings.ToLower(name); !credentialHeaders[name] {
			headers = append(headers, ast.Item(ast.StringTerm(name), ast.StringTerm(value)))
		}
	}
	return ast.NewTerm(object(
		member("method", ast.StringTerm(r.Method)),
		member("path", ast.StringTerm(r.Path)),
		member("query", ast.StringTerm(r.Query)),
		member("host", ast.StringTerm(r.Host)),
		member("source_address", ast.StringTerm(r.SourceAddress)),
		member("headers", ast.NewTerm(ast.NewObject(headers...))),
	))
}

func (t Token) term(claims ast.Value) *ast.Term {
	return ast.NewTerm(object(
		member("issuer", ast.StringTerm(t.Issuer)),
		member("subject", ast.StringTerm(t.Subject)),
		member("subject_type", ast.StringTerm(t.SubjectType)),
		member("client_id", ast.StringTerm(t.ClientID)),
		member("audience", texts(t.Audience)),
		member("scopes", texts(t.Scopes)),
		member("roles", texts(t.Roles)),
		member("id", ast.StringTerm(t.ID)),
		member("session_id", ast.StringTerm(t.SessionID)),
		member("grant_id", ast.StringTerm(t.GrantID)),
		member("issued_at", seconds(t.IssuedAt)),
		member("expires_at", seconds(t.ExpiresAt)),
		member("claims", ast.NewTerm(claims)),
	))
}

func (a Assertion) term() *ast.Term {
	return ast.NewTerm(object(member("caller", ast.StringTerm(a.Caller)), member("actors", texts(a.Actors))))
}

func (r Required) term() *ast.Term {
	return ast.NewTerm(object(member("scopes", texts(r.Scopes))))
}

func object(members ...[2]*ast.Term) ast.Object { return ast.NewObject(members...) }

func member(name string, value *ast.Term) [2]*ast.Term {
	return [2]*ast.Term{memberNames[name], value}
}

// memberNames are made once: a term does not change.
var memberNames = func() map[string]*ast.Term {
	terms := map[string]*ast.Term{}
	for _, name := range []string{
		"version", "route", "request", "token", "required", "assertion", "caller", "actors",
		"id", "service",
		"method", "path", "query", "host", "source_address", "headers",
		"issuer", "subject", "subject_type", "client_id", "audience", "scopes", "roles",
		"session_id", "grant_id", "issued_at", "expires_at", "claims",
	} {
		terms[name] = ast.StringTerm(name)
	}
	return terms
}()

func texts(list []string) *ast.Term {
	terms := make([]*ast.Term, len(list))
	for i, text := range list {
		terms[i] = ast.StringTerm(text)
	}
	return ast.ArrayTerm(terms...)
}

func seconds(at time.Time) *ast.Term {
	if at.IsZero() {
		return ast.InternedTerm(0)
	}
	return ast.IntNumberTerm(int(at.Unix()))
}
