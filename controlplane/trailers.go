package controlplane

import (
	"slices"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	mutationfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"

	"gatehouse.dev/gatehouse/envoy"
)

const trailerFilter = "envoy.filters.http.header_mutation"

// stripTrailers removes from a request's trailers what earlyStrip removes from
// its headers, and credentials: trailers come after the check, and to many a
// service they are headers like any other (RFC 9110 §6.5.1).
func stripTrailers() *mutationfilterv3.HeaderMutation {
	mutations := []*mutationv3.HeaderMutation{
		removePrefix(envoy.HeaderPrefix), remove(envoy.AssertionHeader), remove(envoy.NarrowHeader), removePrefix("x-envoy-"),
		remove("cookie"), remove(certificateHeader), remove("x-forwarded-for"),
	}
	for _, name := range slices.Concat(clientCredentials, misleading) {
		mutations = append(mutations, remove(name))
	}
	return &mutationfilterv3.HeaderMutation{Mutations: &mutationfilterv3.Mutations{RequestTrailersMutations: mutations}}
}
