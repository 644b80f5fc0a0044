package controlplane

import (
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/internal/serve"
)

var serviceName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// Validate reports everything that is wrong, with keys relative to Gateway.
func (g *Gateway) Validate() (vs conf.Violations) {
	vs.AddUnder("", ipPort("listen", g.Listen))
	if g.RedirectListen != "" {
		vs.AddUnder("", ipPort("redirect_listen", g.RedirectListen))
		if g.RedirectListen == g.Listen {
			vs.Add("redirect_listen", g.RedirectListen, "is also listen", "give each an address of its own")
		}
	}
	vs.AddUnder("", originURL("public_url", g.PublicURL, "https"))
	vs.AddUnder("", g.validateMTLS())
	vs.AddUnder("tls", g.TLS.validate())
	if age := g.HSTSMaxAge; age != nil && (*age < 0 || *age%time.Second != 0) {
		vs.Add("hsts_max_age", *age, "is not in whole seconds", "write such as 8760h, or 0s for no header")
	}
	vs.AddUnder("", g.validateIssuer())
	vs.AddUnder("", issuers("issuers", g.Issuers))
	vs.AddUnder("", maxAge("revocation_max_age", g.RevocationMaxAge))
	vs.AddUnder("services", g.validateServices())
	vs.AddUnder("cors", g.CORS.validate())
	vs.AddUnder("", g.validateNetworks())
	vs.AddUnder("", g.validateLimits("limits", g.Limits, nil))
	vs.AddUnder("", g.validateRoutes())
	return vs
}

func (t TLS) validate() (vs conf.Violations) {
	if t.Certificate == "" {
		vs.Add("certificate", nil, "is missing", "name a PEM file")
	}
	if t.Key == "" {
		vs.Add("key", nil, "is missing", "name a PEM file")
	}
	return vs
}

func (g *Gateway) validateIssuer() (vs conf.Violations) {
	if path, unix := serve.UnixPath(g.Issuer.URL); unix {
		vs.AddUnder("issuer", serve.ValidateAddress("url", "unix:"+path, serve.Identity{}))
	} else if g.hasIssuer() {
		vs.AddUnder("issuer", Service{URL: g.Issuer.URL}.validate(false))
	}
	return vs
}

// validate reports what is wrong with a back end; grpc: h2c is allowed.
func (s Service) validate(grpc bool) (vs conf.Violations) {
	b, err := parseBackend(s.URL)
	if err == nil && b.http2 && !grpc {
		err = fmt.Errorf("has the scheme h2c, which the issuer does not speak")
	}
	if err != nil {
		vs.Add("url", s.URL, err.Error(), "write http://HOST:PORT, https://HOST[:PORT] or h2c://HOST:PORT, without a path")
		return vs
	}
	if !b.tls && !b.loopback() && !s.AllowPlaintext {
		remedy := "use https://, or accept it with allow_plaintext: true"
		if !grpc {
			remedy = "use https://, or run the issuer on the edge's machine"
		}
		vs.Add("url", s.URL, "sends claims and data unencrypted to another machine", remedy)
	}
	if s.CA != "" && !b.tls {
		vs.Add("ca", s.CA, "is set for a service without TLS", "remove it, or use https://")
	}
	return vs
}

// spiffeID reports a value that is no SPIFFE id (SPIFFE-ID §2).
func spiffeID(key, value string) (vs conf.Violations) {
	u, err := url.Parse(value)
	if err != nil || u.Scheme != "spiffe" || u.Host == "" || u.Path == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		vs.Add(key, value, "is no SPIFFE id", "write spiffe://TRUST_DOMAIN/PATH")
	}
	return vs
}

// trustDomainOf is the trust domain of a SPIFFE id; empty where it is none.
func trustDomainOf(id string) string {
	rest, ok := strings.CutPrefix(id, "spiffe://")
	if !ok {
		return ""
	}
	domain, _, _ := strings.Cut(rest, "/")
	return domain
}

// partAddresses reports addresses of parts that Envoys could not call.
func partAddresses(list string, addresses []string) (vs conf.Violations) {
	seen := map[string]bool{}
	for i, address := range addresses {
		key := fmt.Sprintf("%s[%d]", list, i)
		if path, ok := serve.UnixPath(address); ok {
			vs.AddUnder("", serve.ValidateAddress(key, "unix:"+path, serve.Identity{}))
		} else if _, err := splitHostPort(address); err != nil {
			vs.Add(key, address, err.Error(), "write unix:PATH or HOST:PORT")
		}
		if seen[address] {
			vs.Add(key, address, "stands a second time", "list each once")
		}
		seen[address] = true
	}
	return vs
}

func ipPort(key, address string) (vs conf.Violations) {
	host, port, err := net.SplitHostPort(address)
	if err != nil || net.ParseIP(host) == nil || !isPort(port) {
		vs.Add(key, address, "is no address to listen on", "write IP:PORT, such as 127.0.0.1:8443, or 0.0.0.0:8443 for all of the machine's addresses")
	}
	return vs
}

func isPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return err == nil && n > 0
}

// originURL reports a URL that has more or less than scheme, host and port.
func originURL(key, text string, schemes ...string) (vs conf.Violations) {
	u, err := url.Parse(text)
	good := err == nil && u.Hostname() != "" && u.User == nil && (u.Path == "" || u.Path == "/") && u.RawQuery == "" && u.Fragment == "" && (u.Port() == "" || isPort(u.Port()))
	for _, scheme := range schemes {
		if good && u.Scheme == scheme {
			return vs
		}
	}
	vs.Add(key, text, "is no such URL", "write "+strings.Join(schemes, " or ")+"://HOST[:PORT], without a path")
	return vs
}
