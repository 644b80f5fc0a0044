package policies

import "github.com/open-policy-agent/opa/v1/ast"

// claimsPath leads to the one member of the document that is costly to build.
var claimsPath = []string{"token", "claims"}

// readsClaims tells whether any policy but the built-in ones may read
// input.token.claims: by name, as part of something larger, or by a name that
// is known only when it runs. In compiled modules imports are resolved, so
// that each way to read begins with input.
func readsClaims(compiler *ast.Compiler) bool {
	found := false
	for _, module := range compiler.Modules {
		// The function returns true where its term is dealt with whole.
		ast.WalkTerms(module, func(term *ast.Term) bool {
			switch v := term.Value.(type) {
			case ast.Ref:
				if v[0].Equal(ast.InputRootDocument) {
					found = found || mayReach(v[1:], claimsPath)
					return true
				}
			case ast.Var:
				found = found || v.Equal(ast.InputRootDocument.Value)
			}
			return found
		})
	}
	return found
}

// mayReach tells whether a reference stands for a member, for something around
// it, or for something inside it.
func mayReach(ref ast.Ref, path []string) bool {
	for i, name := range path {
		if i == len(ref) {
			return true // the whole of what holds it
		}
		if word, ok := ref[i].Value.(ast.String); ok && string(word) != name {
			return false
		}
	}
	return true
}
