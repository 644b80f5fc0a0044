package admin

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/issuer/store"
)

// Grant types (RFC 6749). There is no implicit and no password grant (RFC 9700
// §2.1.2, §2.4).
const (
	authorizationCode = "authorization_code"
	refreshToken      = "refresh_token"
	clientCredentials = "client_credentials"
	deviceCode        = "urn:ietf:params:oauth:grant-type:device_code"    // RFC 8628 §3.4
	jwtBearer         = "urn:ietf:params:oauth:grant-type:jwt-bearer"     // RFC 7523 §2.1
	tokenExchange     = "urn:ietf:params:oauth:grant-type:token-exchange" // RFC 8693 §2.1
)

var grantTypes = []string{authorizationCode, refreshToken, clientCredentials, deviceCode, tokenExchange, jwtBearer}

const (
	maxClientID     = 64
	maxName         = 100
	maxRedirectURIs = 20
)

// CheckClient reports all that is wrong with a client that registers itself.
func (s *Service) CheckClient(c store.Client) conf.Violations { return s.checkClient(c) }

// checkClient reports all that is wrong with a new client.
func (s *Service) checkClient(c store.Client) (vs conf.Violations) {
	checkClientID(&vs, c.ID)
	checkName(&vs, c.Name)
	if c.Type == 0 {
		vs.Add("type", nil, "is missing", "write confidential, public or native")
	}
	unknown(&vs, "scopes", c.Scopes, s.scopes, "is no scope of any API", "declare it under issuer.apis")
	s.checkTokens(&vs, c)
	checkGrants(&vs, c)
	checkRedirects(&vs, c)
	checkProof(&vs, c)
	checkAttributes(&vs, c.Attributes)
	return vs
}

// checkClientID keeps ids to what looks the same in a URL, a header and a log.
func checkClientID(vs *conf.Violations, id string) {
	if len(id) > maxClientID || strings.ContainsFunc(id, func(r rune) bool {
		return r > unicode.MaxASCII || !(unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("._-", r))
	}) {
		vs.Add("id", id, "is no client id", fmt.Sprintf("write at most %d letters, digits, dots, dashes and underscores", maxClientID))
	}
	if strings.HasPrefix(id, store.UserIDPrefix) {
		vs.Add("id", id, "looks like a user's", "let it not begin with "+store.UserIDPrefix)
	}
}

// checkName keeps names to what can be shown on a page and in a log.
func checkName(vs *conf.Violations, name string) {
	if !utf8.ValidString(name) || utf8.RuneCountInString(name) > maxName || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		vs.Add("name", name, "cannot be shown", fmt.Sprintf("write at most %d printable characters", maxName))
	}
}

// checkTokens judges what the client wants of its tokens.
func (s *Service) checkTokens(vs *conf.Violations, c store.Client) {
	if most := s.config.AccessTokenLifetime; c.AccessTokenLifetime != 0 && (c.AccessTokenLifetime < time.Second || c.AccessTokenLifetime > most) {
		vs.Add("access_token_lifetime", c.AccessTokenLifetime, "is out of bounds", fmt.Sprintf("choose 1s to %s, which is issuer.access_token_lifetime", most))
	}
	s.checkAlgorithm(vs, "id_token_algorithm", c.IDTokenAlgorithm)
	s.checkAlgorithm(vs, "introspection_algorithm", c.IntrospectionAlgorithm)
	if c.IntrospectionAlgorithm != "" && c.Type != store.Confidential {
		vs.Add("introspection_algorithm", c.IntrospectionAlgorithm, "is of no use: only confidential clients may introspect", "leave it out")
	}
}

// checkAlgorithm wants there to be keys for what the client wants signed.
func (s *Service) checkAlgorithm(vs *conf.Violations, key, algorithm string) {
	if algorithm != "" && !slices.Contains(s.config.Algorithms, algorithm) {
		vs.Add(key, algorithm, "has no signing keys", "use one of "+strings.Join(s.config.Algorithms, ", ")+", or add it to issuer.keys.algorithms")
	}
}

func checkGrants(vs *conf.Violations, c store.Client) {
	unknown(vs, "grant_types", c.GrantTypes, grantTypes, "is no grant type of Gatehouse", "write "+strings.Join(grantTypes, ", "))
	may := func(grant string) bool { return slices.Contains(c.GrantTypes, grant) }
	if may(refreshToken) && !may(authorizationCode) && !may(deviceCode) {
		vs.Add("grant_types", refreshToken, "has nothing to refresh", "add "+authorizationCode+" or "+deviceCode)
	}
	for _, grant := range []string{clientCredentials, tokenExchange, jwtBearer} {
		if may(grant) && c.Type != store.Confidential {
			vs.Add("grant_types", grant, "needs a secret", "make the client confidential")
		}
	}
	if at := slices.Index(c.Scopes, offlineAccess); at >= 0 && !may(refreshToken) {
		vs.Add(fmt.Sprintf("scopes[%d]", at), offlineAccess, "would be refused: it is for clients that may refresh", "add the grant type "+refreshToken+", or leave it out")
	}
}

// offlineAccess asks for a refresh token (OpenID Connect Core §11).
const offlineAccess = "offline_access"

func checkRedirects(vs *conf.Violations, c store.Client) {
	uses := slices.Contains(c.GrantTypes, authorizationCode)
	switch n := len(c.RedirectURIs); {
	case uses && n == 0:
		vs.Add("redirect_uris", nil, "are missing", "say where people come back to after the login")
	case !uses && n > 0:
		vs.Add("redirect_uris", nil, "are of no use", "add the grant type "+authorizationCode+", or leave them out")
	case n > maxRedirectURIs:
		vs.Add("redirect_uris", n, "are too many", fmt.Sprintf("register at most %d", maxRedirectURIs))
	}
	checkTargets(vs, "redirect_uris", c.RedirectURIs, c.Type)
	if len(c.PostLogoutRedirectURIs) > maxRedirectURIs {
		vs.Add("post_logout_redirect_uris", len(c.PostLogoutRedirectURIs), "are too many", fmt.Sprintf("register at most %d", maxRedirectURIs))
	}
	checkTargets(vs, "post_logout_redirect_uris", c.PostLogoutRedirectURIs, c.Type)
	checkBackchannel(vs, c)
}

func checkTargets(vs *conf.Violations, key string, uris []string, kind store.ClientType) {
	for i, uri := range uris {
		at := fmt.Sprintf("%s[%d]", key, i)
		if f := checkRedirect(uri, kind); f != nil {
			vs.Add(at, uri, f.problem, f.remedy)
		}
		if slices.Index(uris, uri) != i {
			vs.Add(at, uri, "is there twice", "remove one")
		}
	}
}

// checkBackchannel judges where logout tokens go (OpenID Connect Back-Channel
// Logout §2.2): a server, not an application on somebody's device.
func checkBackchannel(vs *conf.Violations, c store.Client) {
	uri := c.BackchannelLogoutURI
	if uri == "" {
		return
	}
	if f := checkRedirect(uri, store.Confidential); f != nil {
		vs.Add("backchannel_logout_uri", uri, f.problem, f.remedy)
	}
	if !slices.Contains(c.GrantTypes, authorizationCode) {
		vs.Add("backchannel_logout_uri", uri, "is of no use", "add the grant type "+authorizationCode+", or leave it out")
	}
}
