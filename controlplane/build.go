package controlplane

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/proto"

	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/internal/conf"
)

// Inputs are everything that a Snapshot is made of; nothing else, no clock and
// no file, has a part in it.
type Inputs struct {
	Gateway     Gateway
	TrustDomain string
	Signer      *RuleSigner
	// Certificate and Key are the edge's, in PEM.
	Certificate, Key []byte
	// Authorities are the PEM authorities of services that have `ca`, by name.
	Authorities map[string][]byte
	// Lists are the contents of gateway.ip_lists, as ReadLists has them.
	Lists map[string][]netip.Prefix
	// Authz are the authorizers' addresses: the edge asks those on unix:PATH
	// where there are any, sidecars those on HOST:PORT.
	Authz []string
	// AuthzIdentity is the SPIFFE id that authorizers have on HOST:PORT.
	AuthzIdentity string
	// RateLimit are the rate-limit services' addresses, and RateLimitIdentity the
	// SPIFFE id that they have on HOST:PORT; none: nothing is counted together.
	RateLimit         []string
	RateLimitIdentity string
	// Plans tells whether callers have plans there.
	Plans bool
	// Policies are the known policies; nil: unknown, not checked.
	Policies []string
	// Denied are the SPIFFE ids of revoked workloads: nobody lets them in, and
	// nobody calls them.
	Denied []string
}

// Snapshot is what a node group's Envoys shall have: immutable, and the same
// bytes for the same Inputs.
type Snapshot struct {
	// Version is a digest of all of it.
	Version string

	// in is what it was made of.
	in    *Inputs
	types map[string]map[string]*discoveryv3.Resource // by type URL and name
	// needed are the secrets that clusters need before they take requests.
	needed []string
	// resolved are the clusters with names that Envoy must resolve first.
	resolved map[string]bool
}

// types in the order in which Envoy needs them.
const (
	clusterType  = resource.ClusterType
	secretType   = resource.SecretType
	listenerType = resource.ListenerType
	routeType    = resource.RouteType
)

var allTypes = []string{clusterType, secretType, listenerType, routeType}

// Build compiles a gateway configuration into the Envoy resources of each node
// group: the edge, and each service with a sidecar. A group gets what it needs
// and nothing of another's. The error of an invalid Gateway is its
// conf.Violations, with keys under "gateway".
func Build(in Inputs) (groups map[string]*Snapshot, err error) {
	if err := in.validate(); err != nil {
		return nil, err
	}
	defer func() {
		if failed, ok := recover().(packError); ok {
			groups, err = nil, failed.error
		}
	}()
	groups, same := map[string]*Snapshot{}, resources{}
	for name, parts := range in.groups() {
		if err := parts.check(); err != nil {
			return nil, fmt.Errorf("checking the generated configuration of %s: %w", name, err)
		}
		groups[name] = parts.snapshot(&in, same)
	}
	return groups, nil
}

func (in *Inputs) validate() error {
	var vs conf.Violations
	vs.AddUnder("gateway", in.Gateway.Validate())
	if in.Policies != nil {
		vs.AddUnder("gateway", in.Gateway.ValidatePolicies(in.Policies))
	}
	if err := vs.Err(); err != nil {
		return err
	}
	switch {
	case in.Signer == nil:
		return errors.New("building without a rule key")
	case in.TrustDomain == "":
		return errors.New("building without a trust domain")
	case len(in.RateLimit) == 0 && in.Gateway.NeedsService():
		return errors.New("building shared limits without a rate-limit service: write a `ratelimit:` part, or controlplane.ratelimit, and restart")
	case len(in.Authz) == 0:
		return errors.New("building without an authorizer: name one in controlplane.authz")
	case in.Gateway.HasSidecars() && len(in.overTLS()) == 0:
		return errors.New("building sidecars without an authorizer on HOST:PORT: name one in controlplane.authz")
	}
	return checkPair(in.Certificate, in.Key)
}

// parts are the resources before they are marshalled, by type and name.
type parts map[string]map[string]proto.Message

func (p parts) add(typeURL, name string, m proto.Message) {
	if p[typeURL] == nil {
		p[typeURL] = map[string]proto.Message{}
	}
	p[typeURL][name] = m
}

// groups are the resources of each node group, by its name.
func (in *Inputs) groups() map[string]parts {
	groups := map[string]parts{envoy.EdgeGroup: in.edge()}
	for name, service := range in.Gateway.Services {
		if service.Sidecar != nil {
			groups[envoy.ServiceGroup(name)] = in.sidecar(name)
		}
	}
	return groups
}

func (in *Inputs) edge() parts {
	p := parts{}
	for name, c := range in.clusters() {
		p.add(clusterType, name, c)
	}
	p.add(secretType, edgeSecret, edgeCertificate(in.Certificate, in.Key))
	p.add(listenerType, edgeListener, in.edgeListener())
	p.add(routeType, edgeRoutes, in.edgeRoutes())
	if in.Gateway.RedirectListen != "" {
		p.add(listenerType, redirectListener, in.redirectListener())
		p.add(routeType, redirectRoutes, in.redirectRoutes())
	}
	return p
}

// resources are those that a Build has made, by their type, name and version:
// groups share the equal ones.
type resources map[[3]string]*discoveryv3.Resource

func (all resources) of(typeURL, name string, m proto.Message) *discoveryv3.Resource {
	body := pack(m)
	version := digest(body.GetValue())
	key := [3]string{typeURL, name, version}
	if all[key] == nil {
		all[key] = &discoveryv3.Resource{Name: name, Version: version, Resource: body}
	}
	return all[key]
}

func (p parts) snapshot(in *Inputs, same resources) *Snapshot {
	s := &Snapshot{in: in, types: map[string]map[string]*discoveryv3.Resource{}, needed: p.neededSecrets(), resolved: p.resolvedClusters()}
	var all [][]byte
	for _, typeURL := range allTypes {
		s.types[typeURL] = map[string]*discoveryv3.Resource{}
		for _, name := range sortedKeys(p[typeURL]) {
			r := same.of(typeURL, name, p[typeURL][name])
			s.types[typeURL][name] = r
			all = append(all, []byte(typeURL), []byte(name), []byte(r.GetVersion()))
		}
	}
	s.Version = digest(slices.Concat(all)...)
	return s
}
