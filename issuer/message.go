package issuer

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"slices"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"

	"gatehouse.dev/gatehouse/issuer/keys"
	"gatehouse.dev/gatehouse/issuer/login"
	"gatehouse.dev/gatehouse/issuer/store"
	"gatehouse.dev/gatehouse/token"
)

// This file is the seam to zitadel/oidc: what goes over the wire is built from
// its messages, and nowhere else is it imported.

// Grant types that work, by their registered names.
const (
	grantAuthorizationCode = string(oidc.GrantTypeCode)
	grantRefreshToken      = string(oidc.GrantTypeRefreshToken)
	grantClientCredentials = string(oidc.GrantTypeClientCredentials)
	grantTokenExchange     = string(oidc.GrantTypeTokenExchange)
	grantDeviceCode        = string(oidc.GrantTypeDeviceCode)
	grantJWTBearer         = string(oidc.GrantTypeBearer)
)

// metadata is the provider's description: OpenID Connect Discovery §3 and
// RFC 8414 §2 in one document.
type metadata struct {
	*oidc.DiscoveryConfiguration
	// RFC 9207 §3.
	IssInResponse bool `json:"authorization_response_iss_parameter_supported"`
	// OpenID Connect Back-Channel Logout §2.1.
	BackchannelLogout        bool `json:"backchannel_logout_supported"`
	BackchannelLogoutSession bool `json:"backchannel_logout_session_supported"`
	// RFC 9701 §7.
	IntrospectionAlgorithms []string `json:"introspection_signing_alg_values_supported"`
	proofMetadata
}

// describe advertises exactly what works.
func describe(c Config, scopes []string, locales []string) metadata {
	proven := named(authMethods(c))
	methods := append(proven, oidc.AuthMethodNone)
	return metadata{IssInResponse: true, IntrospectionAlgorithms: c.algorithms(), BackchannelLogout: true, BackchannelLogoutSession: true, proofMetadata: describeProofs(c), DiscoveryConfiguration: &oidc.DiscoveryConfiguration{
		Issuer:                                    c.URL,
		AuthorizationEndpoint:                     c.URL + pathAuthorize,
		TokenEndpoint:                             c.URL + pathToken,
		DeviceAuthorizationEndpoint:               c.URL + pathDevice,
		RegistrationEndpoint:                      c.registrationEndpoint(),
		IntrospectionEndpoint:                     c.URL + pathIntrospect,
		UserinfoEndpoint:                          c.URL + pathUserinfo,
		RevocationEndpoint:                        c.URL + pathRevoke,
		EndSessionEndpoint:                        c.URL + login.PathEndSession,
		JwksURI:                                   c.URL + pathKeys,
		ScopesSupported:                           append(append([]string{}, oidcScopes...), scopes...),
		ResponseTypesSupported:                    []string{string(oidc.ResponseTypeCode)},
		ResponseModesSupported:                    responseModes,
		GrantTypesSupported:                       c.grantTypes(),
		SubjectTypesSupported:                     []string{"public"},
		IDTokenSigningAlgValuesSupported:          c.algorithms(),
		TokenEndpointAuthMethodsSupported:         methods,
		RevocationEndpointAuthMethodsSupported:    methods,
		IntrospectionEndpointAuthMethodsSupported: proven,

		TokenEndpointAuthSigningAlgValuesSupported:         assertionAlgorithms(),
		RevocationEndpointAuthSigningAlgValuesSupported:    assertionAlgorithms(),
		IntrospectionEndpointAuthSigningAlgValuesSupported: assertionAlgorithms(),
		ClaimsSupported:               []string{"sub", "iss", "aud", "exp", "iat", "auth_time", "nonce", "at_hash", "azp", "sid", "amr", "name", "preferred_username", "email"},
		UILocalesSupported:            oidc.ParseLocales(locales),
		CodeChallengeMethodsSupported: []oidc.CodeChallengeMethod{oidc.CodeChallengeMethodS256},
	}}
}

// takes tells whether a grant type is advertised.
func (m metadata) takes(grant string) bool {
	return slices.Contains(m.GrantTypesSupported, oidc.GrantType(grant))
}

// registrationEndpoint is advertised where clients may register themselves.
func (c *Config) registrationEndpoint() string {
	if c.Registration.Access == registerOff {
		return ""
	}
	return c.URL + pathRegister
}

// grantTypes are those that somebody may use by this configuration.
func (c *Config) grantTypes() []oidc.GrantType {
	types := []oidc.GrantType{oidc.GrantTypeCode, oidc.GrantTypeRefreshToken, oidc.GrantTypeClientCredentials, oidc.GrantTypeDeviceCode}
	if len(c.TokenExchange) > 0 {
		types = append(types, oidc.GrantTypeTokenExchange)
	}
	if len(c.AssertionIssuers) > 0 {
		types = append(types, oidc.GrantTypeBearer)
	}
	return types
}

func named(methods []string) []oidc.AuthMethod {
	all := make([]oidc.AuthMethod, len(methods))
	for i, method := range methods {
		all[i] = oidc.AuthMethod(method)
	}
	return slices.Clip(all)
}

// tokenResponse is RFC 6749 §5.1 with the ID token of OpenID Connect Core
// §3.1.3.3.
type tokenResponse struct {
	oidc.AccessTokenResponse
	// IssuedTokenType is RFC 8693 §2.2.1.
	IssuedTokenType string `json:"issued_token_type,omitempty"`
}

// typeOf is the type of a token that is bound to what its holder holds (RFC
// 9449 §5).
func typeOf(held store.Holder) string {
	if held.KeyThumbprint != "" {
		return "DPoP"
	}
	return oidc.BearerToken
}

func bearerResponse(accessToken string, lifetime time.Duration, scopes []string) *tokenResponse {
	return &tokenResponse{AccessTokenResponse: oidc.AccessTokenResponse{
		AccessToken: accessToken,
		TokenType:   oidc.BearerToken,
		ExpiresIn:   uint64(max(lifetime/time.Second, 1)),
		Scope:       scopes,
	}}
}

// verifierMatches tells whether a PKCE verifier belongs to an S256 challenge
// (RFC 7636 §4.6).
func verifierMatches(challenge, verifier string) bool {
	return oidc.VerifyCodeChallenge(&oidc.CodeChallenge{Challenge: challenge, Method: oidc.CodeChallengeMethodS256}, verifier)
}

// idTokenClaims are OpenID Connect Core §2 for a login by password.
func idTokenClaims(issuer string, t personTokens, accessToken, algorithm string, lifetime time.Duration) *oidc.IDTokenClaims {
	return &oidc.IDTokenClaims{
		TokenClaims: oidc.TokenClaims{
			Issuer:                          issuer,
			Subject:                         t.grant.UserID,
			Audience:                        oidc.Audience{t.grant.ClientID},
			AuthorizedParty:                 t.grant.ClientID,
			IssuedAt:                        oidc.FromTime(t.issuedAt),
			Expiration:                      oidc.FromTime(t.issuedAt.Add(lifetime)),
			AuthTime:                        oidc.FromTime(t.grant.AuthTime),
			AuthenticationMethodsReferences: oidc.AuthenticationMethodsReferences{"pwd"},
			Nonce:                           t.nonce,
		},
		AccessTokenHash: accessHash(accessToken, algorithm),
		SessionID:       t.grant.SessionID,
	}
}

// accessHash is at_hash (OpenID Connect Core §3.1.3.6): the left half of the
// hash that the ID token's own signature uses, for Ed25519 SHA-512.
func accessHash(accessToken, algorithm string) string {
	if algorithm == keys.EdDSA {
		sum := sha512.Sum512([]byte(accessToken))
		return base64.RawURLEncoding.EncodeToString(sum[:sha512.Size/2])
	}
	sum := sha256.Sum256([]byte(accessToken))
	return base64.RawURLEncoding.EncodeToString(sum[:sha256.Size/2])
}

// userInfo is what the scopes let a client know of a person (OpenID Connect
// Core §5.4).
func userInfo(u store.User, has func(scope string) bool) *oidc.UserInfo {
	info := &oidc.UserInfo{Subject: u.ID}
	if has(scopeProfile) {
		info.Name, info.PreferredUsername = u.Name, string(u.Login)
	}
	if has(scopeEmail) {
		info.Email = u.Email
	}
	return info
}

// introspection is RFC 7662 §2.2; its zero value says "not active" and nothing
// else.
type introspection = oidc.IntrospectionResponse

// introspectedClaims says all that the token does to whoever reads it: who acts
// (RFC 8693 §4.1), what it is bound to (RFC 8705 §3.2), roles, session, and what
// the API has mapped. Of what it was made from only the issuer has any use.
func introspectedClaims(c *token.Claims) *introspection {
	claims := c.Raw()
	delete(claims, "derived_from")
	return &introspection{
		Claims: claims,
		Active: true, TokenType: typeOf(boundTo(c)),
		Issuer: c.Issuer(), Subject: c.Subject(), Audience: c.Audience(), ClientID: c.ClientID(),
		Scope: c.Scopes(), JWTID: c.ID(),
		IssuedAt: oidc.FromTime(c.IssuedAt()), Expiration: oidc.FromTime(c.ExpiresAt()),
	}
}

// introspectedGrant describes a refresh token, which is nothing but its grant.
func introspectedGrant(issuer string, g store.Grant) *introspection {
	return &introspection{
		Active: true, TokenType: "refresh_token",
		Issuer: issuer, Subject: g.UserID, ClientID: g.ClientID, Scope: g.Scopes,
		IssuedAt: oidc.FromTime(g.IssuedAt), Expiration: oidc.FromTime(g.ExpiresAt),
	}
}
