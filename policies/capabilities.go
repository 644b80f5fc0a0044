package policies

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// callable lists the built-in functions a policy may call. It is a list of
// what is allowed, so that a function new in OPA stays out until someone looks
// at it. All of these depend on their arguments alone and cost time and memory
// in proportion to them: that is what makes a decision repeatable from its
// input, and later cacheable.
var callable = strings.Fields(`
	eq assign equal neq gt gte lt lte
	plus minus mul div rem abs ceil floor round
	and or intersection union
	internal.member_2 internal.member_3 internal.template_string
	count max min product sort sum
	array.concat array.flatten array.reverse array.slice
	concat contains endswith indexof indexof_n lower replace split sprintf startswith
	strings.any_prefix_match strings.any_suffix_match strings.count strings.replace_n
	strings.reverse strings.split_n substring trim trim_left trim_prefix trim_right
	trim_space trim_suffix upper
	glob.match glob.quote_meta
	regex.find_all_string_submatch_n regex.find_n regex.is_valid regex.match
	regex.replace regex.split
	is_array is_boolean is_null is_number is_object is_set is_string type_name to_number
	base64.decode base64.encode base64.is_valid
	base64url.decode base64url.encode base64url.encode_no_pad
	hex.decode hex.encode
	json.filter json.is_valid json.marshal json.remove json.unmarshal
	object.filter object.get object.keys object.remove object.subset object.union object.union_n
	urlquery.decode urlquery.decode_object urlquery.encode urlquery.encode_object
	crypto.sha256
	graph.reachable walk
	semver.compare semver.is_valid
	time.parse_duration_ns time.parse_rfc3339_ns
`)

// reasons says why a built-in function is withheld, by its name or by the
// longest prefix that ends in a dot.
var reasons = map[string]string{
	"http.":      "a decision must not wait for, or depend on, another server",
	"net.":       "a decision must not depend on DNS or on where the gateway stands in the network",
	"opa.":       "it shows the process's environment and configuration",
	"io.jwt.":    "the gateway has verified the token already: read input.token",
	"rand.":      "the same input must always give the same decision",
	"uuid.":      "the same input must always give the same decision, and ids are compared as text",
	"time.":      "the same input must always give the same decision, on every machine: the clock and the time zones are not part of it",
	"crypto.":    "keys, certificates and outdated hashes are no business of a policy: crypto.sha256 is there to compare",
	"trace":      "traces are for the `opa` tool: state the cause in `reason`",
	"print":      "a policy writes to no log, for what it reads may be personal: state the cause in `reason`",
	"rego.":      "a policy does not read or parse policies",
	"graphql.":   "parsing of whole languages from a request takes too long to bound",
	"yaml.":      "YAML from outside can be made to expand without bound: json.unmarshal is there",
	"uri.":       "a URL parsed twice can mean two things: the route is in input.route, the path in input.request.path",
	"bits.":      "the size of its result is not bounded by the size of its arguments",
	"numbers.":   "the size of its result is not bounded by the size of its arguments",
	"format_int": "the size of its result is not bounded by the size of its arguments: sprintf is there",
	"providers.": "a policy signs no requests",
	"internal.":  "it belongs to OPA itself",
}

const (
	deprecatedReason = "it is deprecated in Rego v1"
	unneededReason   = "it is not on the list of functions a policy may call"
)

// capabilities is the language a policy is compiled in: this version of Rego,
// the callable functions, and no host to fetch a schema from.
func capabilities(extra ...string) *ast.Capabilities {
	all := ast.CapabilitiesForThisVersion(ast.CapabilitiesRegoVersion(ast.RegoV1))
	all.AllowNet = []string{}
	all.Builtins = slices.DeleteFunc(all.Builtins, func(b *ast.Builtin) bool {
		return !slices.Contains(callable, b.Name) && !slices.Contains(extra, b.Name)
	})
	return all
}

// withheld tells why a built-in function of OPA's may not be called; false for
// a name that is callable, or no built-in function at all.
func withheld(name string) (why string, ok bool) {
	builtin, known := ast.BuiltinMap[name]
	if !known || slices.Contains(callable, name) {
		return "", false
	}
	for prefix := name; ; {
		if why, ok := reasons[prefix]; ok {
			return why, true
		}
		cut := strings.LastIndex(strings.TrimSuffix(prefix, "."), ".")
		if cut < 0 {
			break
		}
		prefix = prefix[:cut+1]
	}
	if builtin.IsDeprecated() {
		return deprecatedReason, true
	}
	return unneededReason, true
}
