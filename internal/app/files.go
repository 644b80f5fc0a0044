package app

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// files tells when the content of any of a few files changes. It watches their
// folders, not the files: editors put a new file in the old one's place, and
// Kubernetes swaps a symbolic link beside them. It compares contents, so that
// how they were replaced does not matter, and looks now and then even where the
// system tells of no change.
type files struct {
	// list are the files; it may change from call to call.
	list   func() []string
	logger *slog.Logger
	// settle is how long the folders must be quiet before the files are read,
	// so that none is read half written.
	settle, poll time.Duration
	// retry tells whether the last change is worth another try, at the next
	// poll; nil: never.
	retry func() bool

	notify  *fsnotify.Watcher
	folders map[string]bool
}

func newFiles(list func() []string, logger *slog.Logger) *files {
	return &files{list: list, logger: logger, settle: 150 * time.Millisecond, poll: 5 * time.Second}
}

// digest stands for the contents of the files.
func digest(names []string, read func(string) []byte) [sha256.Size]byte {
	sum := sha256.New()
	for _, name := range names {
		part := sha256.Sum256(read(name))
		sum.Write(part[:])
	}
	return [sha256.Size]byte(sum.Sum(nil))
}

// readFile takes a file that cannot be read for an empty one: it may be about
// to be replaced.
func readFile(name string) []byte {
	content, _ := os.ReadFile(name)
	return content
}

// Run calls changed whenever the digest is another than before; seen is the
// digest that needs no call. It returns nil when ctx ends.
func (f *files) Run(ctx context.Context, seen [sha256.Size]byte, changed func()) error {
	events, failures := f.open()
	if f.notify != nil {
		defer f.notify.Close()
	}
	poll := time.NewTicker(f.poll)
	defer poll.Stop()
	for {
		f.follow()
		if now := digest(f.list(), readFile); now != seen {
			seen = now
			changed()
			continue // what was changed may have changed the list
		}
		select {
		case <-ctx.Done():
			return nil
		case <-poll.C:
			if f.retry != nil && f.retry() {
				changed()
			}
		case err := <-failures:
			f.logger.Warn("watching the configuration: reading it regularly instead", "error", err)
		case <-events:
			if !f.settled(ctx, events) {
				return nil
			}
		}
	}
}

// open starts the notifications; without them the channels stay silent.
func (f *files) open() (<-chan fsnotify.Event, <-chan error) {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		f.logger.Warn("watching the configuration: reading it regularly instead", "error", err)
		return nil, nil
	}
	f.notify, f.folders = notify, map[string]bool{}
	return notify.Events, notify.Errors
}

// follow watches the folders of the files and of what they link to.
func (f *files) follow() {
	if f.notify == nil {
		return
	}
	wanted := map[string]bool{}
	for _, name := range f.list() {
		wanted[filepath.Dir(name)] = true
		if target, err := filepath.EvalSymlinks(name); err == nil {
			wanted[filepath.Dir(target)] = true
		}
	}
	for gone := range f.folders {
		if !wanted[gone] {
			_ = f.notify.Remove(gone) // it may be gone altogether
		}
	}
	for folder := range wanted {
		// Added each time: a folder may have been replaced by another of the
		// same name. One that is not there is looked for at the next poll.
		_ = f.notify.Add(folder)
	}
	f.folders = wanted
}

// settled waits until no event came for a while, yet not for ever in a folder
// that is always written to; false where ctx ended.
func (f *files) settled(ctx context.Context, events <-chan fsnotify.Event) bool {
	quiet := time.NewTimer(f.settle)
	defer quiet.Stop()
	longest := time.NewTimer(10 * f.settle)
	defer longest.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-events:
			quiet.Reset(f.settle)
		case <-quiet.C:
			return true
		case <-longest.C:
			return true
		}
	}
}
