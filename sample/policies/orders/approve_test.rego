package orders.approve_test

import data.orders.approve

request(method, token) := {"version": 1, "request": {"method": method}, "token": token}

approver := {"subject_type": "user", "roles": ["customer", "approver"]}

customer := {"subject_type": "user", "roles": ["customer"]}

# A client has no roles, whatever its token may claim.
client := {"subject_type": "client", "roles": ["approver"]}

test_an_approver_deletes if approve.allow with input as request("DELETE", approver)

test_a_customer_does_not if {
	not approve.allow with input as request("DELETE", customer)
	approve.reason == "deleting an order takes the role approver" with input as request("DELETE", customer)
}

test_a_client_does_not if not approve.allow with input as request("DELETE", client)

test_only_deleting if not approve.allow with input as request("PUT", approver)

test_no_token_no_approval if not approve.allow with input as {"version": 1, "request": {"method": "DELETE"}}
