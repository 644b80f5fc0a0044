package controlplane

import (
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
)

// peersFilter judges who calls, by the certificate that the peer has shown.
const peersFilter = "gatehouse.peers"

// denyAll is what holds on a route that says nothing of peers.
func denyAll() *rbacv3.RBAC { return &rbacv3.RBAC{Rules: peers(nil)} }

// allowPeers is a route's word on who may come: peers whose certificate has
// exactly one of these SPIFFE ids.
func allowPeers(ids []string) *rbacv3.RBACPerRoute {
	return &rbacv3.RBACPerRoute{Rbac: &rbacv3.RBAC{Rules: peers(ids)}}
}

// peers without ids let nobody through.
func peers(ids []string) *rbacconfigv3.RBAC {
	rules := &rbacconfigv3.RBAC{Action: rbacconfigv3.RBAC_ALLOW}
	if len(ids) == 0 {
		return rules
	}
	policy := &rbacconfigv3.Policy{
		Permissions: []*rbacconfigv3.Permission{{Rule: &rbacconfigv3.Permission_Any{Any: true}}},
	}
	for _, id := range ids {
		policy.Principals = append(policy.Principals, &rbacconfigv3.Principal{
			Identifier: &rbacconfigv3.Principal_Authenticated_{Authenticated: &rbacconfigv3.Principal_Authenticated{PrincipalName: exactly(id)}},
		})
	}
	rules.Policies = map[string]*rbacconfigv3.Policy{"peers": policy}
	return rules
}
