package issuer

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"gatehouse.dev/gatehouse/issuer/store"
	"gatehouse.dev/gatehouse/token"
)

// presentation is how a client presents itself (RFC 6749 §2.3).
type presentation struct {
	id     string
	secret string
	method string
	// assertion is that of methodPrivateKeyJWT.
	assertion *token.ClientAssertion
}

// Client authentication methods (OpenID Connect Core §9, RFC 8705 §2).
// client_secret_jwt is not offered: a secret that makes MACs would have to be
// kept in the plain.
const (
	methodBasic         = "client_secret_basic"
	methodPost          = "client_secret_post"
	methodNone          = "none"
	methodPrivateKeyJWT = "private_key_jwt"
	methodTLS           = "tls_client_auth"
	methodSelfSigned    = "self_signed_tls_client_auth"
)

// presentationOf reads them from a request. Two methods at once are refused
// (RFC 6749 §2.3).
func presentationOf(r *http.Request, f form) (c presentation, err error) {
	headers := r.Header["Authorization"]
	asserted := f.has("client_assertion") || f.has("client_assertion_type")
	switch {
	case asserted && (len(headers) > 0 || f.has("client_secret")):
		return c, fail(codeInvalidRequest, "the client authenticates in more than one way")
	case asserted:
		if c, err = assertionOf(f); err != nil {
			return c, badClient(err)
		}
	case len(headers) == 0 && f.has("client_secret"):
		c = presentation{id: f.get("client_id"), secret: f.get("client_secret"), method: methodPost}
	case len(headers) == 0:
		c = presentation{id: f.get("client_id"), method: methodNone}
	case len(headers) > 1 || f.has("client_secret"):
		return c, fail(codeInvalidRequest, "the client authenticates in more than one way")
	default:
		if c, err = basicCredentials(headers[0]); err != nil {
			return c, badClient(err)
		}
	}
	if f.has("client_id") && f.get("client_id") != c.id {
		return c, fail(codeInvalidRequest, "client_id differs from the one that authenticates")
	}
	if c.id == "" {
		return c, badClient(errors.New("the request names no client"))
	}
	return c, nil
}

// basicCredentials decodes HTTP Basic with the form encoding that RFC 6749
// §2.3.1 puts inside it.
func basicCredentials(header string) (c presentation, err error) {
	scheme, encoded, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Basic") {
		return c, errors.New("the Authorization scheme is not Basic")
	}
	decoded, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return c, errors.New("the Basic credentials are not base64")
	}
	id, secret, found := strings.Cut(string(decoded), ":")
	if !found {
		return c, errors.New("the Basic credentials have no colon")
	}
	c.method = methodBasic
	if c.id, err = url.QueryUnescape(id); err != nil {
		return c, errors.New("the client id is not properly encoded")
	}
	if c.secret, err = url.QueryUnescape(secret); err != nil {
		return c, errors.New("the client secret is not properly encoded")
	}
	return c, nil
}

// authenticate is the client that a request comes from. Confidential clients
// prove it, each in the one way that it is registered for; of public and native
// ones only the id is known, and a secret from them is refused, for they have
// none to keep.
func (s *server) authenticate(ctx context.Context, r *http.Request, f form) (store.Client, error) {
	c, err := presentationOf(r, f)
	if err != nil {
		return store.Client{}, err
	}
	client, err := s.store.Client(ctx, c.id)
	callerOf(ctx).client = client.ID
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return client, fmt.Errorf("reading client: %w", err)
	}
	// A zero client takes the same path, so that time does not tell whether
	// the id exists.
	matches := client.Secret.Matches(c.secret)
	if err != nil {
		return store.Client{}, badClient(errors.New("no such client"))
	}
	if client.Disabled {
		return store.Client{}, badClient(errors.New("the client is disabled"))
	}
	if err := s.checkProof(ctx, r, client, c, matches); err != nil {
		return store.Client{}, err
	}
	callerOf(ctx).proven = !anybodys(client)
	return client, nil
}

// checkProof holds what a client presents against how it is registered.
func (s *server) checkProof(ctx context.Context, r *http.Request, client store.Client, c presentation, secretMatches bool) error {
	bySecret := c.method == methodBasic || c.method == methodPost
	registered := client.Proof.Method
	switch {
	case client.Type == store.Confidential && registered == "" && bySecret && secretMatches:
		return nil
	case client.Type == store.Confidential && registered == methodPrivateKeyJWT && c.method == registered:
		return s.checkAssertion(ctx, client, c.assertion)
	case client.Type == store.Confidential && (registered == methodTLS || registered == methodSelfSigned) && c.method == methodNone:
		return s.checkCertificate(r, client)
	case (client.Type == store.Public || client.Type == store.Native) && c.method == methodNone:
		return nil
	default:
		return badClient(fmt.Errorf("client %q does not prove itself with method %s", client.ID, c.method))
	}
}
