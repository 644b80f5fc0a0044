// Package oauthclient is the little of an OAuth client that the command line
// needs: discovery, client_credentials, the authorization code flow with PKCE
// through a browser and a loopback listener, the device flow, token exchange, and
// revocation.
//
// Governed by RFC 6749, 7009, 7636, 8252, 8414, 8628, 8693 and 9207.
package oauthclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// maxAnswer bounds what a server may answer, in bytes.
const maxAnswer = 1 << 20

// Client speaks for one OAuth client to one issuer.
type Client struct {
	http     *http.Client
	metadata metadata
	id       string
	secret   string
	// wait waits between two polls of the device flow.
	wait func(context.Context, time.Duration) error
}

// Config says to whom, and for whom, a Client speaks.
type Config struct {
	// Issuer is the issuer identifier.
	Issuer string
	// Roots are trusted beside the system's certificates; nil: none.
	Roots []byte
	// ID is the client's id; Secret is empty for public and native clients.
	ID, Secret string
}

// metadata is what is needed of RFC 8414 §2.
type metadata struct {
	Issuer        string `json:"issuer"`
	Authorization string `json:"authorization_endpoint"`
	Token         string `json:"token_endpoint"`
	Revocation    string `json:"revocation_endpoint"`
	Device        string `json:"device_authorization_endpoint"`
}

// Discover reads the issuer's metadata and makes a Client.
func Discover(ctx context.Context, config Config) (*Client, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if config.Roots != nil && !pool.AppendCertsFromPEM(config.Roots) {
		return nil, fmt.Errorf("reading the trusted certificates: there is no PEM certificate among them")
	}
	c := &Client{
		id: config.ID, secret: config.Secret, wait: wait,
		http: &http.Client{
			Timeout:   30 * time.Second,
			Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}},
			// A token or secret follows no redirect.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	where := strings.TrimSuffix(config.Issuer, "/") + "/.well-known/openid-configuration"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		return nil, fmt.Errorf("asking the issuer at %s: %w", config.Issuer, err)
	}
	if err := c.do(request, &c.metadata); err != nil {
		if _, unknown := errors.AsType[x509.UnknownAuthorityError](err); unknown {
			err = fmt.Errorf("%w: name the file of that authority with --ca", err)
		}
		return nil, fmt.Errorf("asking the issuer at %s: %w", where, err)
	}
	// RFC 8414 §3.3: metadata of another issuer must not be used.
	if c.metadata.Issuer != config.Issuer {
		return nil, fmt.Errorf("the issuer at %s calls itself %q", config.Issuer, c.metadata.Issuer)
	}
	return c, nil
}

// Tokens are a token endpoint's answer.
type Tokens struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int    `json:"expires_in"`
	Scope        string `json:"scope,omitempty"`
	RefreshToken string `json:"refresh_token,omitempty"`
	IDToken      string `json:"id_token,omitempty"`
	// IssuedTokenType is RFC 8693 §2.2.1.
	IssuedTokenType string `json:"issued_token_type,omitempty"`
}

// ClientCredentials gets a token for the client itself.
func (c *Client) ClientCredentials(ctx context.Context, scopes []string, resource string) (Tokens, error) {
	form := url.Values{"grant_type": {"client_credentials"}}
	set(form, "scope", strings.Join(scopes, " "))
	set(form, "resource", resource)
	return c.token(ctx, form)
}

// Revoke revokes a token of this client (RFC 7009); one that is not valid any
// more counts as revoked.
func (c *Client) Revoke(ctx context.Context, token string) error {
	if err := c.post(ctx, c.metadata.Revocation, url.Values{"token": {token}}, nil); err != nil {
		return fmt.Errorf("revoking the token: %w", err)
	}
	return nil
}

func (c *Client) token(ctx context.Context, form url.Values) (tokens Tokens, err error) {
	if err := c.post(ctx, c.metadata.Token, form, &tokens); err != nil {
		return Tokens{}, fmt.Errorf("getting a token: %w", err)
	}
	if tokens.AccessToken == "" || !strings.EqualFold(tokens.TokenType, "Bearer") {
		return Tokens{}, fmt.Errorf("getting a token: the issuer answered without a Bearer token")
	}
	return tokens, nil
}

// post authenticates with the secret in the header (RFC 6749 §2.3.1), or names
// the client where there is none.
func (c *Client) post(ctx context.Context, endpoint string, form url.Values, into any) error {
	if c.secret == "" {
		form.Set("client_id", c.id)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if c.secret != "" {
		request.SetBasicAuth(url.QueryEscape(c.id), url.QueryEscape(c.secret))
	}
	return c.do(request, into)
}

func (c *Client) do(request *http.Request, into any) error {
	request.Header.Set("Accept", "application/json")
	response, err := c.http.Do(request)
	if err != nil {
		return away{err}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return away{err}
	}
	if response.StatusCode != http.StatusOK {
		err := refusal(response, body)
		if response.StatusCode >= 500 || response.StatusCode == http.StatusTooManyRequests {
			return away{err}
		}
		return err
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(body, into)
}

// refused is the error of RFC 6749 §5.2.
type refused struct {
	Code        string `json:"error"`
	Description string `json:"error_description"`
}

// Error implements error.
func (r refused) Error() string {
	return strings.TrimSuffix("the issuer said "+r.Code+": "+r.Description, ": ")
}

// away is an issuer that could not be reached, or had no time: another attempt
// may find it back.
type away struct{ error }

func (a away) Unwrap() error { return a.error }

// refusal is what the issuer said, where it said something.
func refusal(response *http.Response, body []byte) error {
	var said refused
	if json.Unmarshal(body, &said) != nil || said.Code == "" {
		return fmt.Errorf("the answer was %s", response.Status)
	}
	return said
}

func set(form url.Values, name, value string) {
	if value != "" {
		form.Set(name, value)
	}
}
