package issuer

import (
	"context"
	"net/http"

	"gatehouse.dev/gatehouse/issuer/login"
	"gatehouse.dev/gatehouse/issuer/store"
)

// caller is what is known of who sent a request, for the audit.
type caller struct {
	address string
	// client is the registered client that the request names.
	client string
	// proven tells that it proved to be it; clients that anybody can be cannot.
	proven bool
}

// anybodys tells whether anybody can be a client: it has nothing to prove, or
// registered itself without an initial access token, so that its proof is a
// stranger's.
func anybodys(client store.Client) bool {
	return client.Type != store.Confidential || client.Registration != nil && client.Registration.TokenID == ""
}

type callerKey struct{}

// withCaller lets what is done for a request be recorded as coming from there.
func withCaller(r *http.Request) *http.Request {
	c := &caller{address: login.ClientAddress(r)}
	ctx := context.WithValue(r.Context(), callerKey{}, c)
	return r.WithContext(store.WithOrigin(ctx, store.Origin{Address: c.address}))
}

// callerOf is never nil; outside a request it is nobody.
func callerOf(ctx context.Context) *caller {
	if c, ok := ctx.Value(callerKey{}).(*caller); ok {
		return c
	}
	return &caller{}
}

// asking names the client that asks for a change, for its record.
func asking(ctx context.Context, client store.Client) context.Context {
	origin := store.OriginOf(ctx)
	origin.Client = client.ID
	return store.WithOrigin(ctx, origin)
}
