package controlplane

import (
	"fmt"
	"os"

	"gatehouse.dev/gatehouse/internal/conf"
)

// inputs reads the files that a gateway names; after that Build is pure.
func (s *Server) inputs(g Gateway) (Inputs, error) {
	in := Inputs{
		Gateway: g, TrustDomain: s.config.TrustDomain, Signer: s.signer,
		Authorities: map[string][]byte{}, Authz: s.config.Authz, AuthzIdentity: s.config.AuthzIdentity,
		RateLimit: s.config.RateLimit, RateLimitIdentity: s.config.RateLimitIdentity, Plans: s.config.Plans,
		Policies: s.policies, Denied: s.denied,
	}
	var vs conf.Violations
	in.Certificate = read(&vs, "gateway.tls.certificate", g.TLS.Certificate)
	in.Key = read(&vs, "gateway.tls.key", g.TLS.Key)
	for _, name := range sortedKeys(g.Services) {
		if file := g.Services[name].CA; file != "" {
			in.Authorities[name] = read(&vs, "gateway.services."+name+".ca", file)
		}
	}
	lists, found := g.ReadLists()
	in.Lists = lists
	vs.AddUnder("gateway", found)
	return in, vs.Err()
}

func read(vs *conf.Violations, key string, file conf.Path) []byte {
	data, err := os.ReadFile(string(file))
	if err != nil {
		vs.Add(key, file, fmt.Sprintf("cannot be read (%v)", err), "put the file there, or name another")
	}
	return data
}
