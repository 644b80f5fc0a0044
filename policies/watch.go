package policies

import (
	"context"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Run follows the folder until the context ends. It returns nil then: a folder
// that cannot be watched is still read every few seconds.
func (s *Store) Run(ctx context.Context) error {
	if s.dir == "" {
		<-ctx.Done()
		return nil
	}
	w := newWatcher(s)
	defer w.close()
	w.reload()
	poll := time.NewTicker(s.poll)
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-poll.C:
		case <-w.events:
			if !w.settled(ctx) {
				return nil
			}
		case err := <-w.errors:
			s.logger.Warn("watching the policies: reading them regularly instead", "error", err)
			continue
		}
		w.reload()
	}
}

// watcher tells of changes in the folders followed. Where the system offers no
// notification its channels stay silent.
type watcher struct {
	store  *Store
	notify *fsnotify.Watcher
	events <-chan fsnotify.Event
	errors <-chan error
	dirs   []string
}

func newWatcher(s *Store) *watcher {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		s.logger.Warn("watching the policies: reading them regularly instead", "error", err)
		return &watcher{store: s}
	}
	return &watcher{store: s, notify: notify, events: notify.Events, errors: notify.Errors}
}

func (w *watcher) close() {
	if w.notify != nil {
		w.notify.Close()
	}
}

// reload reads the folder, and once more where that showed folders not watched
// before: they may have changed between the reading and the watching.
func (w *watcher) reload() {
	before := w.dirs
	w.follow(w.store.reload())
	if !slices.Equal(before, w.dirs) {
		w.follow(w.store.reload())
	}
}

// follow watches folders, not files: editors and ConfigMaps put a new file or
// link in the old one's place, which a watch on the file would not survive.
// Each is added anew every time, for a folder may have been replaced by another
// of the same name, and the system may have dropped its watch.
func (w *watcher) follow(dirs []string) {
	if w.notify == nil {
		return
	}
	for _, gone := range w.dirs {
		if !slices.Contains(dirs, gone) {
			_ = w.notify.Remove(gone) // it may be gone altogether
		}
	}
	for _, dir := range dirs {
		if err := w.notify.Add(dir); err != nil {
			w.store.logger.Warn("watching the policies: reading them regularly instead", "folder", dir, "error", err)
		}
	}
	w.dirs = dirs
}

// settled waits until no event came for a while, yet not for ever in a folder
// that something writes to without a pause; false where the context ended.
func (w *watcher) settled(ctx context.Context) bool {
	quiet := time.NewTimer(w.store.settle)
	defer quiet.Stop()
	longest := time.NewTimer(20 * w.store.settle)
	defer longest.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-w.events:
			quiet.Reset(w.store.settle)
		case <-quiet.C:
			return true
		case <-longest.C:
			return true
		}
	}
}
