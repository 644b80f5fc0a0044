package policies

import (
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
)

// inputSchema describes the document to OPA's type checker, so that a
// misspelt member is refused when the policy is loaded: below a `not`, an
// undefined member would allow.
var inputSchema = sync.OnceValue(func() *ast.SchemaSet {
	text := map[string]any{"type": "string"}
	number := map[string]any{"type": "integer"}
	list := map[string]any{"type": "array", "items": text}
	set := ast.NewSchemaSet()
	set.Put(ast.SchemaRootRef, record(map[string]any{
		"version": number,
		"route":   record(map[string]any{"id": text, "service": text}),
		"request": record(map[string]any{
			"method": text, "path": text, "query": text, "host": text, "source_address": text,
			"headers": map[string]any{"type": "object", "additionalProperties": text},
		}),
		"token": record(map[string]any{
			"issuer": text, "subject": text, "subject_type": text, "client_id": text,
			"audience": list, "scopes": list, "roles": list,
			"id": text, "session_id": text, "grant_id": text,
			"issued_at": number, "expires_at": number,
			"claims": map[string]any{"type": "object"},
		}),
		"required":  record(map[string]any{"scopes": list}),
		"assertion": record(map[string]any{"caller": text, "actors": list}),
	}))
	return set
})

// record is an object with these members and no others.
func record(properties map[string]any) map[string]any {
	return map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
}
