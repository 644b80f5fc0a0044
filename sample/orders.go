// Package sample holds the two services that `gatehouse run --sample` puts
// behind the gate: orders, over REST and gRPC, and profile. They are what a
// service looks like here: it has no tokens, keys or logins, and believes the
// x-gatehouse-* headers, which only the gate can set. They must not be
// reachable around the gate, so they listen on loopback.
package sample

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"sync"
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
	mu   sync.Mutex
	next int
	all  []order
}

// Orders is the orders service: GET and POST /orders, GET and DELETE
// /orders/{id}.
func Orders() http.Handler {
	o := &orders{next: 2, all: []order{{ID: 1, Item: "a lamp", Owner: "nobody"}}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /orders", o.list)
	mux.HandleFunc("POST /orders", o.create)
	mux.HandleFunc("GET /orders/{id}", o.read)
	mux.HandleFunc("DELETE /orders/{id}", o.remove)
	return mux
}

func (o *orders) list(w http.ResponseWriter, _ *http.Request) {
	o.mu.Lock()
	all := slices.Clone(o.all)
	o.mu.Unlock()
	answer(w, http.StatusOK, all)
}

func (o *orders) create(w http.ResponseWriter, r *http.Request) {
	var wanted struct {
		Item string `json:"item"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4096)).Decode(&wanted); err != nil || wanted.Item == "" {
		answer(w, http.StatusBadRequest, map[string]string{"error": `send {"item": "…"}`})
		return
	}
	o.mu.Lock()
	made := order{ID: o.next, Item: wanted.Item, Owner: r.Header.Get("x-gatehouse-subject")}
	o.next++
	o.all = append(o.all, made)
	if len(o.all) > maxOrders {
		o.all = slices.Delete(o.all, 0, 1)
	}
	o.mu.Unlock()
	answer(w, http.StatusCreated, made)
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
