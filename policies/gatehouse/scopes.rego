# The default policy: the token holds every scope that the route requires. It
# is asked on each request with a token, whatever policy the route names.
package gatehouse.scopes

default allow := false

allow if {
	every scope in input.required.scopes {
		scope in input.token.scopes
	}
}

missing contains scope if {
	some scope in input.required.scopes
	not scope in input.token.scopes
}

reason := sprintf("the token lacks %s", [concat(" ", missing)]) if not allow
