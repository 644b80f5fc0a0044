package controlplane

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
)

// backend is a parsed service URL.
type backend struct {
	host  string
	port  uint32
	tls   bool
	http2 bool // without negotiation
}

// parseBackend reads http://, https:// or h2c:// HOST[:PORT].
func parseBackend(text string) (backend, error) {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" {
		return backend{}, errors.New("is no URL")
	}
	if u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return backend{}, errors.New("has more than scheme, host and port")
	}
	b := backend{host: u.Hostname()}
	switch u.Scheme {
	case "http":
		b.port = 80
	case "https":
		b.port, b.tls = 443, true
	case "h2c":
		b.http2 = true
	default:
		return backend{}, fmt.Errorf("has the scheme %q", u.Scheme)
	}
	if u.Port() != "" {
		n, err := strconv.ParseUint(u.Port(), 10, 16)
		if err != nil {
			return backend{}, fmt.Errorf("has the port %q", u.Port())
		}
		b.port = uint32(n)
	}
	if b.port == 0 {
		return backend{}, errors.New("has no port")
	}
	return b, nil
}

// address is a host and port that Envoy connects to.
type hostPort struct {
	host string
	port uint32
}

func splitHostPort(text string) (hostPort, error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil || host == "" || !isPort(port) {
		return hostPort{}, errors.New("is no HOST:PORT")
	}
	n, _ := strconv.ParseUint(port, 10, 16)
	return hostPort{host, uint32(n)}, nil
}

// isName tells whether the host has to be resolved.
func (b backend) isName() bool { return net.ParseIP(b.host) == nil }

func (b backend) loopback() bool {
	ip := net.ParseIP(b.host)
	return b.host == "localhost" || ip != nil && ip.IsLoopback()
}
