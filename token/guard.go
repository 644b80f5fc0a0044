package token

import (
	"fmt"
	"net/netip"
	"syscall"
)

// special are addresses that are not a public host: those of the IANA
// special-purpose registries (RFC 6890), multicast, and IPv6 prefixes that
// carry an IPv4 address, which could be any of the former.
var special = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
	"192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24",
	"192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
	"224.0.0.0/4", "240.0.0.0/4",
	"2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20",
)

// global is all that IANA has given out of IPv6 for public hosts. What lies
// outside is loopback, local, translated or nobody's.
var global = netip.MustParsePrefix("2000::/3")

func prefixes(texts ...string) (out []netip.Prefix) {
	for _, text := range texts {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

// OnlyPublic is the Control of a net.Dialer that refuses a connection to an
// address that is not public, for URLs that others choose. It runs after the
// name was resolved, with the address that will be dialled, so that no second
// answer of the name server can differ.
func OnlyPublic(_, address string, _ syscall.RawConn) error {
	target, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("connecting to %q: not an address and a port: %w", address, err)
	}
	if !isPublic(target.Addr()) {
		return fmt.Errorf("connecting to %s: not a public address; allow internal addresses if it is meant", target)
	}
	return nil
}

// isPublic is false of addresses with a zone too: no prefix contains them.
func isPublic(addr netip.Addr) bool {
	addr = addr.Unmap()
	if !addr.IsValid() || addr.Is6() && !global.Contains(addr) {
		return false
	}
	for _, prefix := range special {
		if prefix.Contains(addr) {
			return false
		}
	}
	return true
}
