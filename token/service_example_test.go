package token_test

import (
	"fmt"
	"log"
	"net/http"

	"gatehouse.dev/gatehouse/token"
)

// A service that knows for sure who calls, in two lines, and calls another on
// the caller's behalf through its sidecar.
func ExampleServiceVerifier() {
	verifier, err := token.NewServiceVerifier(token.ServiceConfig{
		Service: "spiffe://gatehouse.local/service/orders",
		KeysURL: "unix:/run/gatehouse/orders/keys.sock", // its sidecars' --assertion-keys
	})
	if err != nil {
		log.Fatal(err)
	}
	outbound, err := token.NewOutbound("127.0.0.1:9301") // its sidecar's
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /orders", func(w http.ResponseWriter, r *http.Request) {
		caller, _ := token.CallerFrom(r.Context())
		fmt.Fprintln(w, "orders of", caller.Subject())
	})
	mux.Handle("POST /orders", token.RequireScope(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Pass on no more than the call needs.
		ctx := token.Narrow(r.Context(), "read:profile")
		request, err := http.NewRequestWithContext(ctx, "GET", "http://profile/profile", nil)
		if err != nil {
			log.Fatal(err)
		}
		answer, err := outbound.Client().Do(request)
		if err == nil {
			answer.Body.Close()
		}
	}), "write:orders"))

	handler := verifier.HTTP(mux) // for http.ListenAndServe on loopback
	fmt.Printf("%T\n", handler)
	// Output: http.HandlerFunc
}
