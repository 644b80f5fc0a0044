package issuer

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"os"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/token"
)

// AssertionIssuer is another issuer that may vouch for our clients (RFC 7523
// §2.1), such as a build server or a cluster: what it signs takes the place of
// the client's secret.
type AssertionIssuer struct {
	// The exact iss of its assertions.
	Issuer string `yaml:"issuer"`
	// The file with its JWK Set. Default: none, then jwks_url.
	JWKSFile conf.Path `yaml:"jwks_file"`
	// Where its JWK Set is fetched, by https. Default: none, then jwks_file.
	JWKSURL string `yaml:"jwks_url"`
	// Lets jwks_url lead to addresses that are not public, and be http. Danger:
	// whoever can change the name's address then makes the issuer fetch from
	// inside. Default: false.
	AllowInternal bool `yaml:"allow_internal"`
	// The algorithms that it may sign with. Default: ES256.
	Algorithms []string `yaml:"algorithms"`
	// The one aud of its assertions. Default: the issuer's own URL.
	Audience string `yaml:"audience"`
	// The longest time from iat to exp, 1s to 1h. Default: 10m.
	MaxLifetime time.Duration `yaml:"max_lifetime"`
	// Which client each subject is: the client's id by the exact sub. Its grant
	// types must have urn:ietf:params:oauth:grant-type:jwt-bearer. Danger:
	// whoever may choose a sub at that issuer is the client.
	Subjects map[string]string `yaml:"subjects"`
}

// voucher is an issuer that vouches, with its keys.
type voucher struct {
	rules    token.GrantAssertionRules
	subjects map[string]string
	keys     func() *token.KeySet
	// remote fetches the keys; nil: they were read from a file.
	remote *token.Remote
}

// vouchers are the issuers that vouch, by their names.
type vouchers map[string]*voucher

func newVouchers(c Config, d Deps) (vouchers, error) {
	all := vouchers{}
	for i, issuer := range c.AssertionIssuers {
		v, err := newVoucher(c, issuer, d)
		if err != nil {
			return nil, fmt.Errorf("issuer.assertion_issuers[%d]: %w", i, err)
		}
		all[issuer.Issuer] = v
	}
	return all, nil
}

func newVoucher(c Config, issuer AssertionIssuer, d Deps) (*voucher, error) {
	v := &voucher{subjects: issuer.Subjects, rules: token.GrantAssertionRules{
		Issuer: issuer.Issuer, Audience: cmp.Or(issuer.Audience, c.URL), Algorithms: issuer.algorithms(),
		Skew: vouchingSkew, MaxLifetime: cmp.Or(issuer.MaxLifetime, defaultVouchingLifetime),
	}}
	if issuer.JWKSFile == "" {
		remote, err := token.NewRemote(token.RemoteConfig{
			URL: issuer.JWKSURL, Algorithms: v.rules.Algorithms, AllowInternal: issuer.AllowInternal, Logger: d.Logger, Now: d.Now,
		})
		if err != nil {
			return nil, err
		}
		v.remote, v.keys = remote, remote.Keys
		return v, nil
	}
	set, err := issuer.keySet()
	if err != nil {
		return nil, fmt.Errorf("reading jwks_file %q: %w", issuer.JWKSFile, err)
	}
	v.keys = func() *token.KeySet { return set }
	return v, nil
}

const (
	// vouchingSkew is how far the clocks of other issuers may be off.
	vouchingSkew            = 30 * time.Second
	defaultVouchingLifetime = 10 * time.Minute
	maxVouchingLifetime     = time.Hour
)

// Run keeps the keys of all issuers current until ctx ends.
func (v vouchers) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, voucher := range v {
		if voucher.remote != nil {
			group.Go(func() error { return voucher.remote.Run(ctx) })
		}
	}
	return group.Wait()
}

// verify checks an assertion and names the client that it vouches for.
func (v vouchers) verify(compact string, now time.Time) (assertion *token.GrantAssertion, clientID string, err error) {
	if assertion, err = token.ParseGrantAssertion(compact); err != nil {
		return nil, "", err
	}
	voucher := v[assertion.Issuer()]
	if voucher == nil {
		return nil, "", fmt.Errorf("its issuer %.200q vouches for nobody here", assertion.Issuer())
	}
	rules := voucher.rules
	rules.Keys = voucher.keys()
	if err := assertion.Verify(rules, now); err != nil {
		if voucher.remote != nil && token.ReasonOf(err) == token.ReasonUnknownKey {
			voucher.remote.Refresh() // perhaps it is new
		}
		return nil, "", err
	}
	clientID, known := voucher.subjects[assertion.Subject()]
	if !known {
		return nil, "", fmt.Errorf("the subject %.200q is no client", assertion.Subject())
	}
	return assertion, clientID, nil
}

func (a AssertionIssuer) algorithms() (all []token.Algorithm) {
	for _, name := range a.Algorithms {
		all = append(all, token.Algorithm(name))
	}
	if len(all) == 0 {
		all = []token.Algorithm{token.ES256}
	}
	return all
}

func (c *Config) validateVouchers() (vs conf.Violations) {
	seen := map[string]bool{c.URL: true}
	for i, a := range c.AssertionIssuers {
		key := fmt.Sprintf("assertion_issuers[%d]", i)
		if a.Issuer == "" || seen[a.Issuer] {
			vs.Add(key+".issuer", a.Issuer, "is empty, this issuer itself or there twice", "write the iss of another issuer's assertions")
		}
		seen[a.Issuer] = true
		vs.AddUnder(key, a.validate())
	}
	return vs
}

// keySet reads jwks_file.
func (a AssertionIssuer) keySet() (*token.KeySet, error) {
	text, err := os.ReadFile(string(a.JWKSFile))
	if err != nil {
		return nil, err
	}
	return token.ParseKeySet(text, a.algorithms())
}

func (a AssertionIssuer) validate() (vs conf.Violations) {
	u, err := url.Parse(a.JWKSURL)
	switch {
	case (a.JWKSFile == "") == (a.JWKSURL == ""):
		vs.Add("jwks_url", a.JWKSURL, "does not go with jwks_file", "write one of jwks_file and jwks_url")
	case a.JWKSURL != "" && (err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && (u.Scheme != "http" || !a.AllowInternal)):
		vs.Add("jwks_url", a.JWKSURL, "is no https URL", "write https://HOST/PATH; http needs allow_internal")
	}
	for i, algorithm := range a.Algorithms {
		if !slices.Contains(token.Algorithms(), token.Algorithm(algorithm)) {
			vs.Add(fmt.Sprintf("algorithms[%d]", i), algorithm, "is no algorithm for assertions", fmt.Sprintf("use some of %v", token.Algorithms()))
		}
	}
	if l := a.MaxLifetime; l != 0 && (l < time.Second || l > maxVouchingLifetime) {
		vs.Add("max_lifetime", l, "is out of bounds", fmt.Sprintf("choose 1s to %s", maxVouchingLifetime))
	}
	if len(a.Subjects) == 0 {
		vs.Add("subjects", nil, "is empty", "say which client each sub is")
	}
	for subject, client := range a.Subjects {
		if subject == "" || client == "" {
			vs.Add("subjects", nil, "has an empty sub or client", "write SUB: CLIENT")
		}
	}
	return vs
}
