package controlplane

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"gatehouse.dev/gatehouse/internal/conf"
)

// IPList is a named list of networks.
type IPList struct {
	// Networks as CIDRs, or single addresses, IPv4 and IPv6. Default: none.
	CIDRs []string `yaml:"cidrs"`
	// A file with more of them, one a line; what follows a # is a comment. It is
	// read again when it changes. Default: none.
	File conf.Path `yaml:"file"`
}

// Networks are those that may send requests, by names of gateway.ip_lists. The
// address that counts is the client's: the socket's peer, or what a trusted
// proxy says.
type Networks struct {
	// Only addresses in one of these lists are let through. Default: all.
	Allow []string `yaml:"allow"`
	// No address in any of these lists is let through, whatever `allow` says.
	// Default: none.
	Deny []string `yaml:"deny"`
}

// IssuerPaths are paths of the issuer that only some networks may reach.
type IssuerPaths struct {
	// One of the issuer's own paths, as a route's path, such as
	// /oauth/admin/**. Default: none, required.
	Path string `yaml:"path"`
	// Who may reach it, besides the gateway's own `networks`. Default: none,
	// required.
	Networks Networks `yaml:"networks"`
}

const (
	// maxList bounds one list, well below what Envoy's tries take.
	maxList = 100_000
	// maxRouteLists bounds what all routes carry together: each has its own copy.
	maxRouteLists = 300_000
	maxListFile   = 8 << 20
)

func (n *Networks) set() bool { return len(n.Allow)+len(n.Deny) > 0 }

// ReadLists is the content of all lists, ordered, with those networks left out
// that others of the list contain. Keys of violations are relative to Gateway.
func (g *Gateway) ReadLists() (map[string][]netip.Prefix, conf.Violations) {
	var vs conf.Violations
	lists := map[string][]netip.Prefix{}
	for _, name := range sortedKeys(g.IPLists) {
		var found conf.Violations
		lists[name], found = g.IPLists[name].read()
		vs.AddUnder("ip_lists."+name, found)
	}
	if len(vs) == 0 {
		vs = g.validateReachable(lists)
	}
	return lists, vs
}

// ListFiles are the files of all lists.
func (g *Gateway) ListFiles() (files []string) {
	for _, name := range sortedKeys(g.IPLists) {
		if file := g.IPLists[name].File; file != "" {
			files = append(files, string(file))
		}
	}
	return files
}

func (l IPList) read() (all []netip.Prefix, vs conf.Violations) {
	all, vs = l.inline()
	if l.File != "" {
		fromFile, found := readListFile(l.File)
		all, vs = append(all, fromFile...), append(vs, found...)
	}
	if len(all) > maxList {
		vs.Add("", nil, fmt.Sprintf("has %d networks, more than %d", len(all), maxList), "join neighbours, or make several lists of it")
	}
	return withoutContained(all), vs
}

// inline reads the networks of the configuration; one that another contains is
// a mistake of the person who wrote both. In a file, which others make, it is
// not worth refusing.
func (l IPList) inline() (all []netip.Prefix, vs conf.Violations) {
	seen := prefixes{}
	for i, text := range l.CIDRs {
		p, err := parsePrefix(text)
		if err != nil {
			vs.Add(fmt.Sprintf("cidrs[%d]", i), text, err.Error(), "write such as 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32")
			continue
		}
		all = append(all, p)
		seen[p] = i
	}
	for i, text := range l.CIDRs {
		p, err := parsePrefix(text)
		if err != nil {
			continue
		}
		if outer, ok := seen.around(p); ok && seen[outer] != i {
			vs.Add(fmt.Sprintf("cidrs[%d]", i), text, fmt.Sprintf("is within cidrs[%d] (%s) of this list", seen[outer], outer), "keep one of the two")
		}
	}
	return all, vs
}

func readListFile(file conf.Path) (all []netip.Prefix, vs conf.Violations) {
	data, err := os.ReadFile(string(file))
	if err != nil || len(data) > maxListFile {
		if err == nil {
			err = fmt.Errorf("it has %d bytes, more than %d", len(data), maxListFile)
		}
		vs.Add("file", file, fmt.Sprintf("cannot be read (%v)", err), "put the file there, or name another")
		return nil, vs
	}
	for i, line := range strings.Split(string(data), "\n") {
		text, _, _ := strings.Cut(line, "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		p, err := parsePrefix(text)
		if err != nil {
			vs.Add("file", fmt.Sprintf("%s:%d: %.64s", file, i+1, text), err.Error(), "write one network a line, such as 10.0.0.0/8")
			return nil, vs
		}
		all = append(all, p)
	}
	return all, vs
}

// parsePrefix reads a network or one address, in one spelling of the two that
// IPv4 has.
func parsePrefix(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if a, single := netip.ParseAddr(text); single == nil && a.Zone() == "" {
		p, err = netip.PrefixFrom(a, a.BitLen()), nil
	}
	switch {
	case err != nil:
		return p, fmt.Errorf("is no network")
	case p.Addr().Is4In6():
		return p, fmt.Errorf("is an IPv4 network in IPv6 spelling")
	case p != p.Masked():
		return p, fmt.Errorf("has bits set beyond its length; %s is meant", p.Masked())
	}
	return p, nil
}

// prefixes finds the networks that contain another.
type prefixes map[netip.Prefix]int

// around is the widest network of the set that contains p.
func (s prefixes) around(p netip.Prefix) (netip.Prefix, bool) {
	for bits := range p.Bits() + 1 {
		outer := netip.PrefixFrom(p.Addr(), bits).Masked()
		if _, ok := s[outer]; ok {
			return outer, true
		}
	}
	return netip.Prefix{}, false
}

func setOf(all []netip.Prefix) prefixes {
	s := prefixes{}
	for i, p := range all {
		s[p] = i
	}
	return s
}

func withoutContained(all []netip.Prefix) []netip.Prefix {
	set := setOf(all)
	kept := slices.DeleteFunc(slices.Clone(all), func(p netip.Prefix) bool {
		outer, _ := set.around(p)
		return outer != p
	})
	slices.SortFunc(kept, comparePrefixes)
	return slices.Compact(kept)
}

func comparePrefixes(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return a.Bits() - b.Bits()
}
