package policies

import "testing"

func BenchmarkDecide(b *testing.B) {
	set := files{
		"approve.rego": approve,
		"tenant.rego":  "package orders.tenant\n\nallow if input.token.claims.tenant == \"acme\"\n",
	}.load(b)
	in := request()
	denied := request()
	denied.Token.Roles = nil
	for _, bench := range []struct {
		name, policy string
		in           Input
	}{
		{"scopes", "", in},
		{"scopes+role", "orders.approve", in},
		{"scopes+claims", "orders.tenant", in},
		{"denied", "orders.approve", denied},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := set.Decide(b.Context(), bench.policy, bench.in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
