package envoy

import (
	"context"
	"time"
)

const (
	// soonestRestart and latestRestart bound the wait before an Envoy that died
	// is started again; one that lived for steady counts as the first to die.
	soonestRestart = 100 * time.Millisecond
	latestRestart  = 10 * time.Second
	steady         = time.Minute
)

// Keep runs Envoy until ctx ends, and starts another with the same bootstrap
// whenever it dies. It returns an error only where the first one never came to
// life: then its configuration or this machine is at fault, and its log says
// how.
func (p *Process) Keep(ctx context.Context) error {
	pause, lived := soonestRestart, false
	for {
		started := time.Now()
		watch, stop := context.WithCancel(ctx)
		p.alive.Store(false)
		go p.watchLife(watch)
		err := p.Run(ctx)
		stop()
		lived = lived || p.alive.Load()
		if err == nil || !lived {
			return err
		}
		if time.Since(started) > steady {
			pause = soonestRestart
		}
		p.logger.Error("envoy died: starting it again", "error", err, "in", pause)
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		pause = min(2*pause, latestRestart)
	}
}

// watchLife asks until Envoy answers.
func (p *Process) watchLife(ctx context.Context) {
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for !p.alive.Load() {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			_ = p.Ready(ctx)
		}
	}
}
