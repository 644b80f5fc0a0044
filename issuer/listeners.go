package issuer

import (
	"fmt"
	"net"

	"google.golang.org/grpc/credentials"

	"gatehouse.dev/gatehouse/internal/serve"
)

// listeners are the issuer's four doors. They are opened before the database,
// so that an address in use is told at once.
type listeners struct {
	public, telemetry, feed, admin net.Listener
	feedCredentials                credentials.TransportCredentials
}

func (i *Issuer) listen() (l *listeners, err error) {
	l = &listeners{}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if l.feedCredentials, err = serve.ServerCredentials(i.config.FeedListen, i.deps.Identity); err != nil {
		return l, fmt.Errorf("securing issuer.feed_listen: %w", err)
	}
	for _, door := range []struct {
		key, address string
		into         *net.Listener
	}{
		{"listen", i.config.Listen, &l.public},
		{"telemetry", i.config.Telemetry, &l.telemetry},
		{"feed_listen", i.config.FeedListen, &l.feed},
		{"admin_socket", i.config.AdminSocket, &l.admin},
	} {
		if *door.into, err = serve.Listen(door.address); err != nil {
			return l, fmt.Errorf("opening issuer.%s: %w", door.key, err)
		}
	}
	return l, nil
}

// close closes what is open; servers that closed theirs already do not mind.
func (l *listeners) close() {
	for _, door := range []net.Listener{l.public, l.telemetry, l.feed, l.admin} {
		if door != nil {
			door.Close()
		}
	}
}
