// Package policies decides in Rego: whether a request whose token was verified
// may reach its route.
//
// The data's way: a folder of *.rego → Load (parse, compile under restricted
// capabilities, prepare one query per policy) → Set → Decide(Input) → Verdict.
// A Store keeps the current Set and replaces it when the folder changes.
//
// Two policies have a say: `gatehouse.scopes`, built in, on every request, and
// the one a route names, if any; both must allow. A policy is a package with a
// rule `allow`, which must be exactly true. Everything else denies: false,
// undefined, another type; a policy that cannot be evaluated is an error, on
// which the caller denies too.
//
// What a policy may read and call is described in docs/policies.md. The
// language is Rego v1 (https://www.openpolicyagent.org/docs/policy-language).
package policies
