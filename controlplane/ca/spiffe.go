package ca

import (
	"fmt"
	"net/url"
	"strings"
)

// ID is a valid SPIFFE id of a workload: a trust domain and a path.
type ID struct{ trustDomain, path string }

const (
	maxID          = 2048 // SPIFFE-ID §2.3
	maxTrustDomain = 255
)

const (
	domainCharacters  = "abcdefghijklmnopqrstuvwxyz0123456789.-_"
	segmentCharacters = domainCharacters + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

// ParseID follows SPIFFE-ID §2: no user, port, query or fragment, no percent
// encoding, no empty or dotted segment. An id without a path names a trust
// domain, no workload.
func ParseID(text string) (ID, error) {
	wrong := func(why string) (ID, error) {
		return ID{}, fmt.Errorf("%.100q is no SPIFFE id of a workload: %s; write spiffe://TRUST_DOMAIN/service/NAME", text, why)
	}
	rest, ok := strings.CutPrefix(text, "spiffe://")
	if !ok || len(text) > maxID {
		return wrong("it does not begin with spiffe://, or is too long")
	}
	domain, path, ok := strings.Cut(rest, "/")
	if !ok || domain == "" || len(domain) > maxTrustDomain || strings.Trim(domain, domainCharacters) != "" {
		return wrong("its trust domain is none, or no path follows")
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "" || segment == "." || segment == ".." || strings.Trim(segment, segmentCharacters) != "" {
			return wrong("its path has an empty segment, or one with other than letters, digits, dots, dashes and underscores")
		}
	}
	return ID{trustDomain: domain, path: path}, nil
}

// String is spiffe://DOMAIN/PATH.
func (id ID) String() string { return "spiffe://" + id.trustDomain + "/" + id.path }

// TrustDomain is the trust domain's name.
func (id ID) TrustDomain() string { return id.trustDomain }

func (id ID) url() *url.URL {
	return &url.URL{Scheme: "spiffe", Host: id.trustDomain, Path: "/" + id.path}
}
