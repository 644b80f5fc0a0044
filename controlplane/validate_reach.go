package controlplane

import (
	"fmt"
	"slices"

	"gatehouse.dev/gatehouse/internal/conf"
)

// validateReach reports a route that earlier ones take requests from: all of
// them, so that it is never reached; or, where the earlier one is public, some,
// so that a part of it stands open.
func (g *Gateway) validateReach(i int) (vs conf.Violations) {
	r := &g.Routes[i]
	path, err := parsePath(r.Path)
	if err != nil {
		return nil
	}
	if g.hasIssuer() {
		for _, own := range issuerPaths {
			if p, _ := parsePath(own); p.covers(path) {
				vs.Add("path", r.Path, "is the issuer's, which serves "+own, "choose another path")
				return vs
			}
		}
	}
	return append(vs, reached(g.Routes, i, path)...)
}

// reached is validateReach against the routes before alone.
func reached(routes []Route, i int, path pathPattern) (vs conf.Violations) {
	r := &routes[i]
	left := &reach{all: len(r.Methods) == 0, methods: slices.Clone(r.Methods)}
	for j := range i {
		earlier := &routes[j]
		before, err := parsePath(earlier.Path)
		if err != nil {
			continue
		}
		if before.covers(path) && left.take(earlier.Methods) {
			vs.Add("path", r.Path, fmt.Sprintf("is never reached: routes[%d] (%s) and those before it take every such request", j, earlier.ID), "put it in front of that route, or remove it")
			return vs
		}
		// A public route inside a guarded one is an exception on purpose.
		if earlier.Public && !r.Public && before.meets(path) && !path.covers(before) && shareMethod(earlier.Methods, r.Methods) {
			vs.Add("path", r.Path, fmt.Sprintf("is open in part: routes[%d] (%s) is public and takes some of its requests before", j, earlier.ID), "put it in front of that route")
			return vs
		}
	}
	return vs
}

// reach is what earlier routes have left of a route's methods.
type reach struct {
	all     bool
	methods []string
}

// take takes methods away, none meaning all, and tells whether nothing is left.
func (r *reach) take(methods []string) bool {
	if len(methods) == 0 {
		return true
	}
	r.methods = slices.DeleteFunc(r.methods, func(m string) bool { return slices.Contains(methods, m) })
	return !r.all && len(r.methods) == 0
}

func shareMethod(a, b []string) bool {
	return len(a) == 0 || len(b) == 0 || slices.ContainsFunc(a, func(m string) bool { return slices.Contains(b, m) })
}
