package feed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gatehouse.dev/gatehouse/issuer/store"
	revocationv1 "gatehouse.dev/gatehouse/proto/gatehouse/revocation/v1"
)

// watcher sends one peer the feed.
type watcher struct {
	server *Server
	send   func(*revocationv1.WatchResponse) error
	guard  *guard
	// at is the last sequence sent.
	at uint64
}

// run sends until ctx ends or a message cannot be sent.
func (w *watcher) run(ctx context.Context, request *revocationv1.WatchRequest) error {
	if err := w.begin(ctx, request); err != nil {
		return answer(ctx, err)
	}
	return answer(ctx, w.follow(ctx))
}

// answer is an error as the peer is told it.
func answer(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return status.FromContextError(ctx.Err()).Err()
	case errors.Is(err, store.ErrTrimmed):
		return status.Error(codes.Aborted, "the log went on faster than it was read: start over")
	default:
		return status.Error(codes.Unavailable, err.Error())
	}
}

// begin brings the peer to a sequence of the log: the one it has, where the
// log still reaches back to it, else that of a snapshot.
func (w *watcher) begin(ctx context.Context, request *revocationv1.WatchRequest) error {
	if request.GetEpoch() == w.server.store.Epoch() {
		_, err := w.server.store.Log(ctx, request.GetAfterSequence(), 1)
		if err == nil {
			w.at = request.GetAfterSequence()
			return nil
		}
		if !errors.Is(err, store.ErrTrimmed) {
			return fmt.Errorf("reading the revocation log: %w", err)
		}
	}
	return w.snapshot(ctx)
}

// snapshot sends the whole state in parts. They are read one by one, so that
// no transaction stays open for as long as the peer takes: a part may hold an
// entry later than the snapshot's sequence, which the log then repeats.
func (w *watcher) snapshot(ctx context.Context) error {
	last, err := w.server.store.LastSequence(ctx)
	if err != nil {
		return fmt.Errorf("reading the end of the revocation log: %w", err)
	}
	w.server.metrics.snapshots.Inc()
	var cursor []byte
	for complete := false; !complete; {
		part, next, err := w.server.store.State(ctx, cursor, partSize)
		if err != nil {
			return fmt.Errorf("reading the revocations in force: %w", err)
		}
		cursor, complete = next, next == nil
		if err := w.deliver(&revocationv1.WatchResponse{Message: &revocationv1.WatchResponse_Snapshot{Snapshot: &revocationv1.Snapshot{
			Epoch: w.server.store.Epoch(), Sequence: last, Revocations: messages(part), Complete: complete,
		}}}); err != nil {
			return err
		}
	}
	w.at = last
	return nil
}

// follow sends the log as it grows, and heartbeats.
func (w *watcher) follow(ctx context.Context) error {
	beat := time.NewTicker(heartbeatEvery)
	defer beat.Stop()
	due := true
	for {
		changed := w.server.store.Changed()
		current, at, err := w.advance(ctx)
		if err != nil {
			return err
		}
		if current && due {
			if err := w.heartbeat(at); err != nil {
				return err
			}
			due = false
		}
		if due = due || ticked(beat.C); !current || due {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-beat.C:
			due = true
		}
	}
}

func ticked(c <-chan time.Time) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// advance sends the next entries of the log. current tells that there were no
// more at the time at.
func (w *watcher) advance(ctx context.Context) (current bool, at time.Time, err error) {
	at = w.server.now() // before reading: what is committed by then is read
	entries, err := w.server.store.Log(ctx, w.at, partSize)
	if err != nil {
		return false, at, fmt.Errorf("reading the revocation log: %w", err)
	}
	if len(entries) == 0 {
		return true, at, nil
	}
	w.at = entries[len(entries)-1].Sequence
	return len(entries) < partSize, at, w.deliver(&revocationv1.WatchResponse{Message: &revocationv1.WatchResponse_Changes{
		Changes: &revocationv1.Changes{Epoch: w.server.store.Epoch(), Revocations: messages(entries)},
	}})
}

// heartbeat says that the log ended at what has been sent.
func (w *watcher) heartbeat(at time.Time) error {
	return w.deliver(&revocationv1.WatchResponse{Message: &revocationv1.WatchResponse_Heartbeat{
		Heartbeat: &revocationv1.Heartbeat{Epoch: w.server.store.Epoch(), Sequence: w.at, Time: timestamppb.New(at)},
	}})
}

func (w *watcher) deliver(message *revocationv1.WatchResponse) error {
	w.guard.arm()
	defer w.guard.disarm()
	if err := w.send(message); err != nil {
		return fmt.Errorf("sending the feed: %w", err)
	}
	return nil
}

func messages(entries []store.Revocation) []*revocationv1.Revocation {
	all := make([]*revocationv1.Revocation, len(entries))
	for i, r := range entries {
		all[i] = &revocationv1.Revocation{
			Sequence: r.Sequence, Kind: kinds[r.Kind], Id: r.ID,
			NotBefore: r.NotBefore, ExpiresAt: r.ExpiresAt.Unix(),
		}
	}
	return all
}

// kinds are the store's kinds as the feed names them. A missing one would be
// KIND_UNSPECIFIED, which authorizers take for a broken feed.
var kinds = map[store.Kind]revocationv1.Kind{
	store.KindToken:   revocationv1.Kind_KIND_TOKEN,
	store.KindSession: revocationv1.Kind_KIND_SESSION,
	store.KindGrant:   revocationv1.Kind_KIND_GRANT,
	store.KindKey:     revocationv1.Kind_KIND_KEY,
	store.KindSubject: revocationv1.Kind_KIND_SUBJECT,
	store.KindClient:  revocationv1.Kind_KIND_CLIENT,
}
