package ca

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gatehouse.dev/gatehouse/internal/serve"
	workloadv1 "gatehouse.dev/gatehouse/proto/gatehouse/workload/v1"
)

// remembered is how many states a watcher may be behind with its answers.
const remembered = 8

// trustService is the gRPC service on one server.
type trustService struct {
	workloadv1.UnimplementedTrustServer
	*Server
	local string
}

// caller is a member of the trust domain that was not revoked.
func (s *trustService) caller(ctx context.Context) (string, error) {
	id, err := serve.Caller(ctx, s.local)
	if err == nil {
		_, err = s.member(id)
	}
	if err != nil {
		return "", s.refused(ctx, "call to Trust", refusal(err.Error()))
	}
	if slices.Contains(s.Denied(), id) {
		return "", s.refused(ctx, "call to Trust", refuse("%s was revoked", id))
	}
	return id, nil
}

// Watch implements workloadv1.TrustServer.
func (s *trustService) Watch(stream workloadv1.Trust_WatchServer) error {
	id, err := s.caller(stream.Context())
	if err != nil {
		return err
	}
	w, err := s.trust.join(id)
	if err != nil {
		return status.Error(codes.ResourceExhausted, "too many watch: try again later")
	}
	defer func() { s.trust.leave(w, s.draining()) }()
	gone := make(chan error, 1)
	go func() { gone <- s.hear(stream, w) }()
	var last *workloadv1.TrustState
	for {
		state, changed := s.trust.current()
		if slices.Contains(state.GetDenied(), id) {
			return s.refused(stream.Context(), "watch", refuse("%s was revoked", id))
		}
		if state != last {
			s.trust.sending(w, state)
			if err := stream.Send(state); err != nil {
				return err
			}
			last = state
		}
		select {
		case <-changed:
		case err := <-gone:
			return err
		case <-s.stopping:
			return status.Error(codes.Unavailable, "the control plane is stopping: connect again")
		}
	}
}

func (s *trustService) draining() bool {
	select {
	case <-s.stopping:
		return true
	default:
		return false
	}
}

// hear takes the watcher's answers until its stream ends, which is also when
// Watch returns.
func (s *trustService) hear(stream workloadv1.Trust_WatchServer, w *watcher) error {
	for {
		r, err := stream.Recv()
		if err != nil {
			return err
		}
		if s.trust.answered(w, r.GetVersion()) {
			s.trust.refresh()
		}
	}
}

func (t *trust) join(id string) (*watcher, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.watchers) >= maxWatchers {
		return nil, fmt.Errorf("%d watch already", len(t.watchers))
	}
	if t.count[id] >= maxOfOne {
		return nil, fmt.Errorf("%d watch as %s already", t.count[id], id)
	}
	if err := t.store.watches(id, true); err != nil {
		return nil, err
	}
	w := &watcher{id: id}
	t.watchers[w] = true
	t.count[id]++
	if at := slices.IndexFunc(t.leavers, func(l leaver) bool { return l.id == id }); at >= 0 {
		t.leavers = slices.Delete(t.leavers, at, at+1)
	}
	return w, nil
}

// leave lets a watcher go; where we end it ourselves, the next process must
// wait for it.
func (t *trust) leave(w *watcher, ours bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.watchers, w)
	if t.count[w.id]--; t.count[w.id] == 0 {
		delete(t.count, w.id)
	}
	t.forgetLeavers()
	t.leavers = append(t.leavers, leaver{id: w.id, uses: w.uses, until: t.now().Add(comeBack)})
	if ours || t.count[w.id] > 0 {
		return
	}
	if err := t.store.watches(w.id, false); err != nil {
		t.logger.Error("writing down who watches", "error", err)
	}
}

func (t *trust) sending(w *watcher, state *workloadv1.TrustState) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w.sent = append(w.sent, state)
	if len(w.sent) > remembered {
		w.sent = slices.Delete(w.sent, 0, 1)
	}
}

// answered notes what a watcher uses; it tells whether a key may now be held by
// all. A version that it was not sent means nothing.
func (t *trust) answered(w *watcher, version string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := slices.IndexFunc(w.sent, func(s *workloadv1.TrustState) bool { return s.GetVersion() == version })
	if at < 0 || w.uses.GetVersion() == version {
		return false
	}
	w.uses, w.late = w.sent[at], false
	return slices.ContainsFunc(t.state.GetAssertionKeys(), func(k *workloadv1.AssertionKey) bool { return !k.GetHeld() })
}
