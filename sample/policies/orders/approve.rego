# Deleting an order takes a person with the role approver, beside the route's
# scope. A route names this policy by its package: `policy: orders.approve`.
package orders.approve

approver if {
	input.token.subject_type == "user"
	"approver" in input.token.roles
}

allow if {
	input.request.method == "DELETE"
	approver
}

reason := "deleting an order takes the role approver" if not approver
