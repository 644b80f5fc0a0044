package envoy

import (
	"context"
	"net"
	"net/http"
	"time"

	"gatehouse.dev/gatehouse/internal/serve"
)

// adminURL is Envoy's administration; its client knows the address.
const adminURL = "http://envoy"

// adminClient asks the administration at unix:PATH or HOST:PORT.
func adminClient(address string) *http.Client {
	network := "tcp"
	if path, unix := serve.UnixPath(address); unix {
		network, address = "unix", path
	}
	dialer := &net.Dialer{Timeout: time.Second}
	return &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, address)
		},
		// A connection of an Envoy that ended is of no use to the next one.
		DisableKeepAlives: true,
	}}
}
