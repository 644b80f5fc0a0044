package controlplane

import (
	"fmt"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"gatehouse.dev/gatehouse/internal/conf"
)

// validateStream checks how a route may go on.
func (g *Gateway) validateStream(r *Route) (vs conf.Violations) {
	if r.Stream < 0 || r.Stream > longestStream {
		vs.Add("stream", r.Stream, "is out of bounds", fmt.Sprintf("use more than 0s, up to %v, or leave it out", longestStream))
	}
	switch {
	case !r.WebSocket:
	case r.Stream == 0:
		vs.Add("websocket", r.WebSocket, "is of no use without stream", "say how long a connection may go on, as in stream: 1h")
	case g.Services[r.Service].Sidecar != nil:
		vs.Add("websocket", r.WebSocket, "does not pass a sidecar", "lead to a service without one, or use server-sent events")
	}
	return vs
}

// stream lets a route's responses go on. Envoy ends one at the lease; where the
// route is checked, the authorizer ends it with the token as well, by a header
// that Envoy heeds and no client can send.
func (r *Route) stream(action *routev3.RouteAction) {
	if r.Stream == 0 {
		return
	}
	lease := seconds(r.Stream)
	action.RetryPolicy.PerTryTimeout = nil
	action.IdleTimeout = lease
	action.MaxStreamDuration = &routev3.RouteAction_MaxStreamDuration{MaxStreamDuration: lease}
	if r.WebSocket {
		action.UpgradeConfigs = []*routev3.RouteAction_UpgradeConfig{{UpgradeType: "websocket", Enabled: yes()}}
	}
}
