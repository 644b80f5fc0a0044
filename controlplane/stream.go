package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gatehouse.dev/gatehouse/internal/serve"
)

const (
	// maxNodeID bounds a node's id, in bytes.
	maxNodeID = 256
	// maxSubscribed bounds the names that one Envoy may ask for or hold.
	maxSubscribed = 20_000
)

type deltaStream = discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer

// unfit says why an Envoy gets nothing of a group, nil where there is none.
func unfit(g *group, node, caller string) string {
	switch {
	case g == nil:
		return "there is no such group: each service with a sidecar in gateway.services is one"
	case caller != g.identity:
		return "the group is for " + g.identity
	default:
		return fmt.Sprintf("the node's id has %d bytes: use 1 to %d", len(node), maxNodeID)
	}
}

// DeltaAggregatedResources serves one Envoy until it goes, or we do.
func (s *Server) DeltaAggregatedResources(stream deltaStream) error {
	ctx := stream.Context()
	caller, err := serve.Caller(ctx, s.config.LocalIdentity)
	if err != nil {
		return status.Errorf(codes.Unauthenticated, "who calls is not known: %v", err)
	}
	requests, failed := receive(ctx, stream)
	first, err := firstRequest(ctx, requests, failed)
	if err != nil {
		return err
	}
	g, node := s.group(first.GetNode().GetCluster()), first.GetNode().GetId()
	if g == nil || node == "" || len(node) > maxNodeID || caller != g.identity {
		s.logger.Warn("a caller may not have the configuration it asks for", "caller", caller, "node", short(node), "group", short(first.GetNode().GetCluster()), "reason", unfit(g, node, caller))
		return status.Error(codes.PermissionDenied, "this identity has no configuration for this node group")
	}
	m, err := g.join(node)
	if err != nil {
		s.logger.Warn("an Envoy is refused", "caller", caller, "node", node, "error", err)
		return err
	}
	defer g.leave(m)
	s.logger.Info("Envoy connected", "node", node, "group", g.name, "identity", caller)
	defer s.logger.Info("Envoy disconnected", "node", node, "group", g.name)
	l := loop{server: s, group: g, member: m, session: newSession(), stream: stream}
	l.session.atOnce = s.atOnce
	if err := l.take(first); err != nil {
		return err
	}
	return l.run(ctx, requests, failed)
}

// StreamAggregatedResources is the state-of-the-world protocol, in which a
// refused resource becomes a loop of tens of thousands of responses a second.
func (s *Server) StreamAggregatedResources(discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	return status.Error(codes.Unimplemented, "only delta ADS is served: set api_type: DELTA_GRPC (`gatehouse envoy` prints a bootstrap)")
}

// receive reads requests in a goroutine that ends with the stream.
func receive(ctx context.Context, stream deltaStream) (<-chan *discoveryv3.DeltaDiscoveryRequest, <-chan error) {
	requests, failed := make(chan *discoveryv3.DeltaDiscoveryRequest), make(chan error, 1)
	go func() {
		for {
			r, err := stream.Recv()
			if err != nil {
				failed <- err
				return
			}
			select {
			case requests <- r:
			case <-ctx.Done():
				return
			}
		}
	}()
	return requests, failed
}

// firstRequest is the one that names the node.
func firstRequest(ctx context.Context, requests <-chan *discoveryv3.DeltaDiscoveryRequest, failed <-chan error) (*discoveryv3.DeltaDiscoveryRequest, error) {
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case r := <-requests:
		return r, nil
	case err := <-failed:
		return nil, err
	case <-timeout.C:
		return nil, status.Error(codes.DeadlineExceeded, "no request came")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// loop moves a session along: it alone touches the session and sends.
type loop struct {
	server  *Server
	group   *group
	member  *member
	session *session
	stream  deltaStream
}

func (l *loop) run(ctx context.Context, requests <-chan *discoveryv3.DeltaDiscoveryRequest, failed <-chan error) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if err := l.advance(); err != nil {
			return err
		}
		l.schedule(timer)
		select {
		case r := <-requests:
			if err := l.take(r); err != nil {
				return err
			}
		case <-l.member.wake:
		case <-timer.C:
		case err := <-failed:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		case <-ctx.Done():
			return ctx.Err()
		case err := <-l.member.ended:
			return err
		case <-l.server.stopping:
			return status.Error(codes.Unavailable, "the control plane is going down")
		}
	}
}

func (l *loop) take(r *discoveryv3.DeltaDiscoveryRequest) error {
	if refusal := l.session.receive(r, l.server.now()); refusal != nil {
		l.group.refuse(l.member, refusal)
	}
	if l.session.names() > maxSubscribed {
		return status.Error(codes.ResourceExhausted, "this Envoy asks for too many names")
	}
	return nil
}

func (l *loop) advance() error {
	now := l.server.now()
	goal, keep := l.group.goal()
	l.session.aim(goal, keep, now)
	for _, response := range l.session.next(now) {
		if err := l.stream.Send(response); err != nil {
			return err
		}
	}
	if l.session.made == l.session.target {
		l.group.made(l.member, l.session.made)
	}
	if l.session.settled == l.session.target {
		l.group.took(l.member, l.session.settled)
	}
	return nil
}

func (l *loop) schedule(timer *time.Timer) {
	timer.Stop()
	now := l.server.now()
	if at := l.session.wake(now); !at.IsZero() {
		timer.Reset(at.Sub(now))
	}
}

// short bounds what a caller makes us log.
func short(text string) string { return text[:min(len(text), maxNodeID)] }
