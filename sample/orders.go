// Package sample holds the two services that `gatehouse run --sample` puts
// behind the gate: orders, over REST and gRPC, and profile. They are what a
// service looks like here: it has no tokens, keys or logins. Who calls, with
// which scopes, it has from the signed assertion, which nobody but the
// authorizer can make, and which is for this service alone; so it holds however
// the request came, and whatever a route at the edge forgot to demand.
package sample

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"

	"gatehouse.dev/gatehouse/token"
)

// maxOrders bounds what the sample keeps in memory.
const maxOrders = 1000

// order is one order, as the API shows it.
type order struct {
	ID   int    `json:"id"`
	Item string `json:"item"`
	// Owner is the subject that placed it, as the gate named it.
	Owner string `json:"owner"`
}

// orders keeps orders in memory.
type orders struct {
	profile *http.Client // calls on behalf of whoever a request's context names

	mu   sync.Mutex
	next int
	all  []order
}

// Orders is the orders service: GET and POST /orders, GET, PUT and DELETE
// /orders/{id}; and GET /orders/buyer, which asks the profile service who calls.
func Orders(verifier *token.ServiceVerifier, outbound *token.Outbound) http.Handler {
	o := &orders{profile: outbound.Client(), next: 2, all: []order{{ID: 1, Item: "a lamp", Owner: "nobody"}}}
	mux := http.NewServeMux()
	for pattern, handle := range map[string]http.HandlerFunc{
		"GET /orders": o.list, "GET /orders/{id}": o.read, "GET /orders/buyer": o.buyer,
	} {
		mux.Handle(pattern, token.RequireScope(handle, "read:orders"))
	}
	for pattern, handle := range map[string]http.HandlerFunc{
		"POST /orders": o.create, "PUT /orders/{id}": o.change, "DELETE /orders/{id}": o.remove,
	} {
		mux.Handle(pattern, token.RequireScope(handle, "write:orders"))
	}
	return verifier.HTTP(mux)
}

func (o *orders) list(w http.ResponseWriter, _ *http.Request) {
	o.mu.Lock()
	all := slices.Clone(o.all)
	o.mu.Unlock()
	answer(w, http.StatusOK, all)
}

func (o *orders) create(w http.ResponseWriter, r *http.Request) {
	item, ok := itemOf(w, r)
	if !ok {
		return
	}
	caller, _ := token.CallerFrom(r.Context()) // there: the verifier let it through
	o.mu.Lock()
	made := order{ID: o.next, Item: item, Owner: caller.Subject()}
	o.next++
	o.all = append(o.all, made)
	if len(o.all) > maxOrders {
		o.all = slices.Delete(o.all, 0, 1)
	}
	o.mu.Unlock()
	answer(w, http.StatusCreated, made)
}

// itemOf is what a request wants; where it does not say, it has its answer.
func itemOf(w http.ResponseWriter, r *http.Request) (item string, ok bool) {
	var wanted struct {
		Item string `json:"item"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4096)).Decode(&wanted); err != nil || wanted.Item == "" {
		answer(w, http.StatusBadRequest, map[string]string{"error": `send {"item": "…"}`})
		return "", false
	}
	return wanted.Item, true
}

func (o *orders) change(w http.ResponseWriter, r *http.Request) {
	item, ok := itemOf(w, r)
	if !ok {
		return
	}
	o.mu.Lock()
	at := o.find(r)
	var changed order
	if at >= 0 {
		o.all[at].Item = item
		changed = o.all[at]
	}
	o.mu.Unlock()
	if at < 0 {
		answer(w, http.StatusNotFound, map[string]string{"error": "no such order"})
		return
	}
	answer(w, http.StatusOK, changed)
}

// buyer is who calls, as the profile service says: it is asked through the
// sidecar, on the caller's behalf, and with no more than the call needs.
func (o *orders) buyer(w http.ResponseWriter, r *http.Request) {
	buyer, err := o.ask(r)
	var refusal refused
	switch {
	case errors.As(err, &refusal):
		answer(w, http.StatusForbidden, map[string]string{"error": "profile refuses: " + refusal.Error()})
	case err != nil:
		answer(w, http.StatusBadGateway, map[string]string{"error": "profile does not answer"})
	default:
		answer(w, http.StatusOK, map[string]any{"buyer": buyer})
	}
}

// refused is what the profile service, or a sidecar before it, does not allow.
type refused int

func (r refused) Error() string { return http.StatusText(int(r)) }

func (o *orders) ask(r *http.Request) (buyer caller, err error) {
	ctx := token.Narrow(r.Context(), "read:profile")
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://profile/my-name", nil)
	if err != nil {
		return buyer, err
	}
	response, err := o.profile.Do(request)
	if err != nil {
		return buyer, err
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
		return buyer, json.NewDecoder(io.LimitReader(response.Body, 64<<10)).Decode(&buyer)
	case http.StatusUnauthorized, http.StatusForbidden:
		return buyer, refused(response.StatusCode)
	default:
		return buyer, fmt.Errorf("profile answers %s", response.Status)
	}
}

func (o *orders) read(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	at := o.find(r)
	var found order
	if at >= 0 {
		found = o.all[at]
	}
	o.mu.Unlock()
	if at < 0 {
		answer(w, http.StatusNotFound, map[string]string{"error": "no such order"})
		return
	}
	answer(w, http.StatusOK, found)
}

func (o *orders) remove(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	at := o.find(r)
	if at >= 0 {
		o.all = slices.Delete(o.all, at, at+1)
	}
	o.mu.Unlock()
	if at < 0 {
		answer(w, http.StatusNotFound, map[string]string{"error": "no such order"})
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// find is the index of the order that the path names, -1 for none; the caller
// holds the lock.
func (o *orders) find(r *http.Request) int {
	id, err := strconv.Atoi(r.PathValue("id"))
	if err != nil {
		return -1
	}
	return slices.IndexFunc(o.all, func(x order) bool { return x.ID == id })
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client may be gone
}
