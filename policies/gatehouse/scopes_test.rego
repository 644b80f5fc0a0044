package gatehouse.scopes_test

import data.gatehouse.scopes

demand(held, required) := {"token": {"scopes": held}, "required": {"scopes": required}}

test_all_scopes_held if scopes.allow with input as demand(["read:orders", "write:orders"], ["write:orders", "read:orders"])

test_more_than_required if scopes.allow with input as demand(["read:orders", "admin"], ["read:orders"])

test_nothing_required if scopes.allow with input as demand([], [])

test_one_missing if not scopes.allow with input as demand(["read:orders"], ["read:orders", "write:orders"])

test_none_held if not scopes.allow with input as demand([], ["read:orders"])

test_prefix_is_another_scope if not scopes.allow with input as demand(["read:orders:all", "read"], ["read:orders"])

test_case_counts if not scopes.allow with input as demand(["Read:Orders"], ["read:orders"])

# A document without its members must not open anything.
test_nothing_known if not scopes.allow with input as {}

test_requirement_unknown if not scopes.allow with input as {"token": {"scopes": ["read:orders"]}}

test_token_unknown if not scopes.allow with input as {"required": {"scopes": ["read:orders"]}}

test_reason_names_what_is_missing if {
	reason := scopes.reason with input as demand(["a"], ["a", "c", "b"])
	reason == "the token lacks b c"
}
