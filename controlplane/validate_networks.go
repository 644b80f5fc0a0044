package controlplane

import (
	"fmt"
	"net/netip"
	"strings"

	"gatehouse.dev/gatehouse/internal/conf"
)

// scope is where networks are demanded, with what holds there.
type scope struct {
	key string
	Networks
}

// scopes are all places with networks of their own, the gateway's first.
func (g *Gateway) scopes() []scope {
	all := []scope{{"networks", g.Networks}}
	for i, p := range g.Issuer.Restrict {
		all = append(all, scope{fmt.Sprintf("issuer.restrict[%d].networks", i), p.Networks})
	}
	for i := range g.Routes {
		all = append(all, scope{fmt.Sprintf("routes[%d].networks", i), g.Routes[i].Networks})
	}
	return all
}

func (g *Gateway) validateNetworks() (vs conf.Violations) {
	for _, name := range sortedKeys(g.IPLists) {
		if !serviceName.MatchString(name) {
			vs.Add("ip_lists."+name, nil, "is no usable list name", "use lower-case letters, digits and hyphens, 63 at most")
		}
		if l := g.IPLists[name]; l.CIDRs == nil && l.File == "" {
			vs.Add("ip_lists."+name, nil, "is empty", "write cidrs, or name a file")
		}
	}
	for _, s := range g.scopes() {
		vs.AddUnder(s.key, g.validateNames("allow", s.Allow))
		vs.AddUnder(s.key, g.validateNames("deny", s.Deny))
	}
	vs.AddUnder("", networkList("trusted_proxies", g.TrustedProxies))
	vs.AddUnder("", networkList("proxy_protocol", g.ProxyProtocol))
	vs.AddUnder("issuer", g.validateRestrict())
	return vs
}

func (g *Gateway) validateNames(key string, names []string) (vs conf.Violations) {
	if names != nil && len(names) == 0 {
		vs.Add(key, nil, "is an empty list", "name lists of gateway.ip_lists, or remove the key")
	}
	seen := map[string]bool{}
	for i, name := range names {
		at := fmt.Sprintf("%s[%d]", key, i)
		if _, ok := g.IPLists[name]; !ok {
			vs.Add(at, name, "names no list", "declare it under gateway.ip_lists: "+strings.Join(sortedKeys(g.IPLists), ", ")+" are there")
		}
		if seen[name] {
			vs.Add(at, name, "stands a second time", "name each list once")
		}
		seen[name] = true
	}
	return vs
}

// networkList reports what makes a list of trusted networks unusable; one that
// holds everybody would trust everybody.
func networkList(key string, list []string) (vs conf.Violations) {
	_, found := IPList{CIDRs: list}.inline()
	for _, v := range found {
		v.Key = key + strings.TrimPrefix(v.Key, "cidrs")
		vs = append(vs, v)
	}
	for i, text := range list {
		if p, err := parsePrefix(text); err == nil && p.Bits() == 0 {
			vs.Add(fmt.Sprintf("%s[%d]", key, i), text, "is everybody: each client could name any address as its own", "list your own proxies alone")
		}
	}
	return vs
}

func (g *Gateway) validateRestrict() (vs conf.Violations) {
	for i, r := range g.Issuer.Restrict {
		key := fmt.Sprintf("restrict[%d]", i)
		path, err := parsePath(r.Path)
		switch {
		case err != nil:
			vs.Add(key+".path", r.Path, err.Error(), "write such as /oauth/admin/**")
		case !g.hasIssuer():
			vs.Add(key, nil, "is set without an issuer", "remove it, or set gateway.issuer.url")
		case !issuersOwn(path):
			vs.Add(key+".path", r.Path, "is no path of the issuer", "write one below "+strings.Join(issuerPaths, ", "))
		}
		if !r.Networks.set() {
			vs.Add(key+".networks", nil, "is missing", "name lists to allow or deny")
		}
		for j := range i {
			if before, err := parsePath(g.Issuer.Restrict[j].Path); err == nil && before.covers(path) {
				vs.Add(key+".path", r.Path, fmt.Sprintf("is never reached: restrict[%d] takes every such request", j), "put it in front of that one")
			}
		}
	}
	return vs
}

func issuersOwn(path pathPattern) bool {
	for _, own := range issuerPaths {
		if p, _ := parsePath(own); p.covers(path) {
			return true
		}
	}
	return false
}

// validateReachable reports networks that are allowed in vain, because they are
// denied at the same place or by the gateway, and lists too large for routes.
func (g *Gateway) validateReachable(lists map[string][]netip.Prefix) (vs conf.Violations) {
	carried := 0
	for _, s := range g.scopes() {
		denied := setOf(union(lists, append(append([]string{}, g.Networks.Deny...), s.Deny...)))
		for i, name := range s.Allow {
			for _, p := range lists[name] {
				if outer, in := denied.around(p); in {
					vs.Add(fmt.Sprintf("%s.allow[%d]", s.key, i), name, fmt.Sprintf("allows %s in vain: %s is denied, and deny wins", p, outer), "take it out of one of the lists")
					break
				}
			}
		}
		if s.key != "networks" {
			carried += len(union(lists, s.Allow)) + len(union(lists, s.Deny))
		}
	}
	if carried > maxRouteLists {
		vs.Add("routes", nil, fmt.Sprintf("carry %d networks together, more than %d, as each has a copy of its lists", carried, maxRouteLists), "put the large lists into gateway.networks")
	}
	return vs
}

func union(lists map[string][]netip.Prefix, names []string) (all []netip.Prefix) {
	for _, name := range names {
		all = append(all, lists[name]...)
	}
	return all
}
