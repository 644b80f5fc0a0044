package envoy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// drainTime is how long clients may take to leave once Envoy drains, and
	// killAfter how long it may take to end after that.
	drainTime = 5 * time.Second
	// lastTime is for connections that came before the last listener closed.
	lastTime  = time.Second
	killAfter = 10 * time.Second
)

// Process runs one Envoy.
type Process struct {
	// AccessLog gets one line of JSON for each request; set it before Run.
	// Default: standard output.
	AccessLog io.Writer

	config Config
	logger *slog.Logger
	path   string
	admin  *http.Client
	alive  atomic.Bool // it has answered since its last start
	ending atomic.Bool // it was told to end
}

// New finds a supported Envoy; it starts nothing.
func New(config Config, logger *slog.Logger) (*Process, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	path, err := Find(ctx, string(config.Path))
	if err != nil {
		return nil, err
	}
	return &Process{AccessLog: os.Stdout, config: config, logger: logger, path: path, admin: adminClient(config.Admin)}, nil
}

// Run starts Envoy and returns once it has ended: after ctx, when it has
// drained; before, with an error. However this process ends, Envoy ends too.
func (p *Process) Run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "gatehouse-envoy-")
	if err != nil {
		return fmt.Errorf("making a folder for the bootstrap: %w", err)
	}
	defer os.RemoveAll(dir)
	bootstrap, err := Render(p.config)
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "bootstrap.json")
	if err := os.WriteFile(file, bootstrap, 0o600); err != nil {
		return fmt.Errorf("writing the bootstrap: %w", err)
	}
	return p.supervise(ctx, p.command(file))
}

func (p *Process) command(bootstrap string) *exec.Cmd {
	command := exec.Command(p.path,
		"--config-path", bootstrap,
		"--concurrency", strconv.FormatUint(uint64(p.config.Concurrency), 10),
		"--disable-hot-restart",
		"--file-flush-interval-msec", "1000", // of the access log; 10 s unless told
		"--log-format", logFormat,
		"--drain-time-s", strconv.Itoa(int(drainTime/time.Second)),
	)
	command.Stdout = p.AccessLog
	command.SysProcAttr = &syscall.SysProcAttr{
		// An interrupt at the terminal reaches this process alone, which then
		// drains Envoy.
		Setpgid:   true,
		Pdeathsig: syscall.SIGKILL,
	}
	return command
}

// supervise starts the command and waits for its end. The kernel sends
// Pdeathsig when the thread that started the child ends, so the thread is kept.
func (p *Process) supervise(ctx context.Context, command *exec.Cmd) error {
	log, err := command.StderrPipe()
	if err != nil {
		return fmt.Errorf("reading Envoy's log: %w", err)
	}
	ended, started := make(chan error, 1), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := command.Start()
		started <- err
		if err != nil {
			return
		}
		forwardLog(log, p.logger, &p.ending)
		ended <- command.Wait()
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("starting Envoy %s: %w", p.path, err)
	}
	p.logger.Info("envoy started", "path", p.path, "pid", command.Process.Pid)
	select {
	case err := <-ended:
		return fmt.Errorf("envoy ended by itself (%w): its log above says why", orExit(err))
	case <-ctx.Done():
		return p.stop(command.Process, ended)
	}
}

// stop lets clients leave, then ends Envoy, at the latest by force.
func (p *Process) stop(process *os.Process, ended <-chan error) error {
	if err := p.drain(); err != nil {
		p.logger.Warn("envoy could not be drained", "error", err)
	}
	p.ending.Store(true)
	process.Signal(syscall.SIGTERM)
	hard := time.AfterFunc(killAfter, func() { process.Kill() })
	defer hard.Stop()
	<-ended
	p.logger.Info("envoy ended")
	return nil
}

// drain asks Envoy to turn clients away and waits until they have left, within
// drainTime. Until then it takes connections, for nobody else may; then no more,
// and those that came last are waited for.
func (p *Process) drain() error {
	if err := p.post("/drain_listeners?graceful&skip_exit"); err != nil {
		return err
	}
	if err := p.awaitIdle(drainTime); err != nil {
		return err
	}
	if err := p.post("/drain_listeners"); err != nil {
		return err
	}
	return p.awaitIdle(lastTime)
}

// awaitIdle waits until no client is connected, for so long at most.
func (p *Process) awaitIdle(atMost time.Duration) error {
	deadline := time.After(atMost)
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	for {
		select {
		case <-deadline:
			return nil
		case <-poll.C:
			if idle, err := p.idle(); err != nil || idle {
				return err
			}
		}
	}
}

// idle tells whether no client is connected any more.
func (p *Process) idle() (bool, error) {
	response, err := p.admin.Get(adminURL + `/stats?filter=^http\..*downstream_cx_active$`)
	if err != nil {
		return false, fmt.Errorf("asking Envoy for its connections: %w", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil {
		return false, fmt.Errorf("asking Envoy for its connections: %w", err)
	}
	return noneActive(string(text)), nil
}

func (p *Process) post(path string) error {
	response, err := p.admin.Post(adminURL+path, "", nil)
	if err != nil {
		return fmt.Errorf("asking Envoy to drain: %w", err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("asking Envoy to drain: it answered %s", response.Status)
	}
	return nil
}

// Ready tells whether Envoy serves what the control plane told it; its error
// says what it waits for.
func (p *Process) Ready(ctx context.Context) error {
	response, err := p.get(ctx, "/ready")
	if err != nil {
		return fmt.Errorf("asking Envoy whether it is ready: %w", err)
	}
	response.Body.Close()
	p.alive.Store(true)
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("envoy is not ready yet: %s", response.Status)
	}
	return p.listening(ctx)
}

func (p *Process) get(ctx context.Context, path string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, adminURL+path, nil)
	if err != nil {
		return nil, err
	}
	return p.admin.Do(request)
}

func orExit(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}
