package authz

import (
	"fmt"
	"log/slog"
	"time"

	"gatehouse.dev/gatehouse/internal/serve"
	"gatehouse.dev/gatehouse/token"
)

// soonestFetch is the least time between two fetches of one key set, whatever
// unknown keys tokens name.
const soonestFetch = time.Second

func newIssuers(config Config, identity serve.Source, m *metrics, logger *slog.Logger, now func() time.Time) (*issuers, error) {
	cache, err := token.NewCache(config.TokenCacheBytes)
	if err != nil {
		return nil, fmt.Errorf("making the token cache: %w", err)
	}
	is := &issuers{byName: map[string]*issuer{}, cache: cache, metrics: m}
	for n, c := range config.Issuers {
		i, err := newIssuer(c, config, identity, is.cache, logger, now)
		if err != nil {
			return nil, fmt.Errorf("setting up issuers[%d] %q: %w", n, c.Issuer, err)
		}
		is.all = append(is.all, i)
		is.byName[c.Issuer] = i
	}
	return is, nil
}

func newIssuer(c Issuer, config Config, identity serve.Source, cache *token.Cache, logger *slog.Logger, now func() time.Time) (i *issuer, err error) {
	i = &issuer{config: c}
	if i.transport, err = serve.DialCredentials(c.Feed, identity, c.FeedIdentity); err != nil {
		return nil, err
	}
	if i.remote, err = token.NewRemote(c.remote(logger, now)); err != nil {
		return nil, err
	}
	if i.verifier, err = token.NewVerifier(token.VerifierConfig{
		Issuer: c.Issuer, Algorithms: c.algorithms(), Bound: true, Skew: config.Skew, MaxLifetime: c.MaxLifetime,
		Now: now, Keys: i.remote.Keys,
	}); err != nil {
		return nil, err
	}
	i.revocations = &revocations{now: now, keep: config.Skew + maxDrift, purged: func(kid string) {
		// Its tokens are refused as long as the revocation is held; the key and
		// what was verified with it go at once as well.
		i.remote.Drop(kid)
		cache.DropKey(kid)
		logger.Warn("signing key purged", "issuer", c.Issuer, "key", kid)
	}, restored: func() {
		// Keys that were made after the backup are purged by nobody: they are
		// unknown once the set is fetched anew, and until then all are.
		i.remote.Renew()
		logger.Warn("the issuer's revocations begin anew: it was restored, or lost them; its keys are fetched anew", "issuer", c.Issuer)
	}}
	i.feed = &feed{issuer: c.Issuer, state: i.revocations, logger: logger, now: now}
	return i, nil
}

// jwksPath is where an issuer of ours has its keys.
const jwksPath = "/oauth/keys"

func (i *Issuer) remote(logger *slog.Logger, now func() time.Time) token.RemoteConfig {
	remote := token.RemoteConfig{
		URL: i.JWKSURL, Algorithms: i.algorithms(), AllowInternal: i.AllowInternal, MaxAge: i.JWKSMaxAge,
		Interval: i.JWKSInterval, MinInterval: min(i.JWKSInterval, soonestFetch), Logger: logger, Now: now,
	}
	if path, unix := serve.UnixPath(i.JWKSURL); unix {
		remote.URL, remote.Socket, remote.AllowInternal = "http://localhost"+jwksPath, path, true
	}
	return remote
}

func (i *Issuer) algorithms() []token.Algorithm {
	list := make([]token.Algorithm, len(i.Algorithms))
	for n, name := range i.Algorithms {
		list[n] = token.Algorithm(name)
	}
	return list
}
