package workload

import (
	"log/slog"
	"slices"
	"strconv"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"

	"gatehouse.dev/gatehouse/envoy"
)

// secretWatch is one stream: which secrets it wants, was sent and has taken.
type secretWatch struct {
	stream  secretv3.SecretDiscoveryService_DeltaSecretsServer
	logger  *slog.Logger
	wanted  []string
	sent    map[string]string // the version, by name
	taken   map[string]string // likewise, under the lock of SDS
	pending *discoveryv3.DeltaDiscoveryResponse
	nonce   int
}

// has tells whether Envoy has taken all that it wants of a state.
func (w *secretWatch) has(state *State) bool {
	for _, name := range w.wanted {
		if w.taken[name] != version(name, state) {
			return false
		}
	}
	return true
}

func (w *secretWatch) take(r *discoveryv3.DeltaDiscoveryRequest) {
	for name, version := range r.GetInitialResourceVersions() {
		w.sent[name], w.taken[name] = version, version // from before a reconnect
	}
	w.acknowledged(r)
	for _, name := range r.GetResourceNamesSubscribe() {
		if (name == envoy.IdentitySecret || name == envoy.TrustSecret) && !slices.Contains(w.wanted, name) {
			w.wanted = append(w.wanted, name)
		}
	}
	for _, name := range r.GetResourceNamesUnsubscribe() {
		w.wanted = slices.DeleteFunc(w.wanted, func(n string) bool { return n == name })
		delete(w.sent, name)
		delete(w.taken, name)
	}
}

// acknowledged notes what Envoy took, or that it did not.
func (w *secretWatch) acknowledged(r *discoveryv3.DeltaDiscoveryRequest) {
	if w.pending == nil || r.GetResponseNonce() != w.pending.GetNonce() {
		return
	}
	if fault := r.GetErrorDetail(); fault != nil {
		w.logger.Error("Envoy refused a certificate or bundle: it goes on with the last good one", "secrets", w.wanted, "message", fault.GetMessage())
	} else {
		for _, resource := range w.pending.GetResources() {
			w.taken[resource.GetName()] = resource.GetVersion()
		}
	}
	w.pending = nil
}

// bring sends what is wanted and was not sent yet, one response at a time.
func (w *secretWatch) bring(state *State) error {
	if state == nil || w.pending != nil {
		return nil
	}
	var resources []*discoveryv3.Resource
	for _, name := range w.wanted {
		if w.sent[name] == version(name, state) {
			continue
		}
		r, err := secret(name, state)
		if err != nil {
			return err
		}
		resources = append(resources, r)
	}
	if len(resources) == 0 {
		return nil
	}
	w.nonce++
	w.pending = &discoveryv3.DeltaDiscoveryResponse{TypeUrl: secretType, Nonce: strconv.Itoa(w.nonce), Resources: resources}
	for _, r := range resources {
		w.sent[r.GetName()] = r.GetVersion()
	}
	return w.stream.Send(w.pending)
}
