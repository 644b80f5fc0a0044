package authz

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/credentials"

	revocationv1 "gatehouse.dev/gatehouse/proto/gatehouse/revocation/v1"
	"gatehouse.dev/gatehouse/token"
)

// issuers are the authorization servers whose tokens can be verified. A broken
// one denies its own tokens and nobody else's.
type issuers struct {
	all     []*issuer
	byName  map[string]*issuer
	cache   *token.Cache
	metrics *metrics
}

// issuer is what is known of one: its keys, and what it revoked.
type issuer struct {
	config      Issuer
	remote      *token.Remote
	verifier    *token.Verifier
	transport   credentials.TransportCredentials
	revocations *revocations
	feed        *feed
}

// run starts what keeps every issuer current.
func (is *issuers) run(ctx context.Context, group *errgroup.Group) {
	for _, i := range is.all {
		group.Go(func() error { return i.remote.Run(ctx) })
		group.Go(func() error { return i.watch(ctx) })
	}
}

// watch follows the feed over a connection of its own.
func (i *issuer) watch(ctx context.Context) error {
	conn, err := dialFeed(i.config.Feed, i.transport)
	if err != nil {
		return err
	}
	defer conn.Close()
	i.feed.client = revocationv1.NewRevocationFeedClient(conn)
	return i.feed.Run(ctx)
}

// ready denies where not one of a rule's issuers could be asked about a token:
// then it makes no difference what the request carries.
func (is *issuers) ready(r *rule) (err error) {
	for _, name := range r.issuers {
		var i *issuer
		if i, err = is.find(name); err != nil {
			continue
		}
		if err = i.lack(); err == nil {
			return nil
		}
	}
	return err
}

func (is *issuers) find(name string) (*issuer, error) {
	if i := is.byName[name]; i != nil {
		return i, nil
	}
	return nil, deny(ReasonUnknownIssuer, "the rule accepts issuer %q, which authz.issuers does not list", name)
}

// lack is what no token of this issuer can be judged without; nil: nothing.
func (i *issuer) lack() error {
	if i.remote.Keys() == nil {
		return deny(ReasonKeysMissing, "no key set of %s is loaded, or the last is older than jwks_max_age", i.config.JWKSURL)
	}
	return i.revocations.lack()
}

// missing names what each issuer lacks.
func (is *issuers) missing() (missing []string) {
	for _, i := range is.all {
		if err := i.lack(); err != nil {
			missing = append(missing, fmt.Sprintf("issuer %q: %v", i.config.Issuer, denialOf(err).cause))
		}
	}
	return missing
}

// revoked denies a token that its issuer took back, or may have.
func (is *issuers) revoked(claims *token.Claims, r *rule) (feedState, error) {
	i, err := is.find(claims.Issuer())
	if err != nil {
		return feedState{}, err
	}
	return i.revocations.check(claims, r.maxAge)
}
