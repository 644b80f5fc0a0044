package app

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"slices"
	"strings"

	"gatehouse.dev/gatehouse/controlplane"
)

// gateway takes over a changed gateway configuration; the control plane does.
type gateway interface {
	Apply(context.Context, controlplane.Gateway) error
	// Refused tells of an edit that did not come as far as Apply.
	Refused(error)
}

// Reloader follows the configuration file while the parts run. The gateway's
// part is applied; a change of another part is told, for it needs a restart;
// a configuration that is not valid changes nothing.
type Reloader struct {
	// started is what the parts were started with.
	started *Config
	// current is the gateway part that runs now.
	current controlplane.Gateway
	gateway gateway // nil: no control plane in this process
	// sidecars is told of it, too, for the sidecars of this machine; nil: this
	// process runs none.
	sidecars func(controlplane.Gateway)
	logger   *slog.Logger

	files *files
	seen  [sha256.Size]byte
	// tls is the digest of the gateway's certificate and key, lists that of its
	// lists of networks.
	tls, lists [sha256.Size]byte
	// told is what was last logged of restarts, and refused what was wrong with
	// the file, to say each once.
	told, refused string
}

// NewReloader prepares following the file of c, which the parts run with.
func NewReloader(c *Config, g gateway, logger *slog.Logger) *Reloader {
	r := &Reloader{started: c, current: c.Gateway, gateway: g, logger: logger}
	r.files = newFiles(r.list, logger)
	// What it names, such as a policy, may arrive after it.
	r.files.retry = func() bool { return r.refused != "" }
	r.tls, r.lists = digest(tlsFiles(c.Gateway), readFile), digest(c.Gateway.ListFiles(), readFile)
	// The file may have been edited since it was read: what was read counts,
	// so that Run notices.
	r.seen = digest(r.list(), func(name string) []byte {
		if name == c.file.path {
			return c.file.data
		}
		return readFile(name)
	})
	return r
}

// Run follows the file until ctx ends.
func (r *Reloader) Run(ctx context.Context) error {
	return r.files.Run(ctx, r.seen, func() { r.reload(ctx) })
}

func (r *Reloader) list() []string {
	if r.gateway == nil {
		return []string{r.started.file.path}
	}
	return slices.Concat([]string{r.started.file.path}, tlsFiles(r.current), r.current.ListFiles())
}

func tlsFiles(g controlplane.Gateway) []string {
	return []string{string(g.TLS.Certificate), string(g.TLS.Key)}
}

func (r *Reloader) reload(ctx context.Context) {
	next, err := Load(r.started.file.path)
	invalid, ok := errors.AsType[*Invalid](err)
	switch {
	case ok && len(invalid.Violations) > 0:
		r.refuse(invalid)
		return
	case err != nil && !ok:
		r.logger.Error("configuration cannot be read: what runs goes on", "error", err)
		return
	}
	// Faults of policies alone are the policy store's to report.
	if r.refused != "" && r.gateway != nil {
		r.gateway.Refused(nil)
	}
	r.refused = ""
	r.tellRestart(next)
	if r.gateway != nil {
		r.apply(ctx, next)
	}
}

func (r *Reloader) refuse(invalid *Invalid) {
	if invalid.Error() == r.refused {
		return
	}
	r.refused = invalid.Error()
	for _, line := range (&Invalid{Path: invalid.Path, Violations: invalid.Violations}).Lines() {
		r.logger.Error("configuration refused: what runs goes on unchanged", "violation", line)
	}
	if r.gateway != nil {
		r.gateway.Refused(invalid)
	}
}

// tellRestart names the keys of other parts that changed.
func (r *Reloader) tellRestart(next *Config) {
	keys := r.restartKeys(next)
	told := strings.Join(keys, " ")
	if told == r.told {
		return
	}
	r.told = told
	if len(keys) > 0 {
		r.logger.Warn("configuration changed beside the gateway part: restart these parts for it to count", "keys", keys, "parts", r.partsToRestart(keys, next))
	}
}

// partsToRestart are the parts that keys belong to, wherever they run, and the
// control plane where what it makes of the gateway follows from them.
func (r *Reloader) partsToRestart(keys []string, next *Config) []Part {
	parts := partsOf(keys, next.All())
	if slices.Contains(parts, ControlPlane) {
		return parts
	}
	asRuns, err := r.merge(next)
	if err != nil {
		return parts
	}
	if asRuns.ControlPlane.Plans != next.ControlPlane.Plans || len(differences("gateway", asRuns.Gateway, next.Gateway)) > 0 {
		parts = append(parts, ControlPlane)
	}
	return parts
}

func (r *Reloader) restartKeys(next *Config) []string {
	before, after := *r.started, *next
	before.Gateway, after.Gateway = controlplane.Gateway{}, controlplane.Gateway{}
	return differences("", before, after)
}

// partsOf are the parts that keys belong to; a key of the top level belongs to
// all of them.
func partsOf(keys []string, all []Part) (named []Part) {
	for _, p := range all {
		if slices.ContainsFunc(keys, func(key string) bool {
			section, _, _ := strings.Cut(key, ".")
			return section == string(p) || !isPart(section)
		}) {
			named = append(named, p)
		}
	}
	return named
}

func isPart(section string) bool {
	return slices.Contains([]Part{Issuer, Authz, RateLimit, ControlPlane, Envoy}, Part(section))
}

// apply hands over the gateway part, completed with the other parts as they
// run, not as the file has them now.
func (r *Reloader) apply(ctx context.Context, next *Config) {
	merged, err := r.merge(next)
	if err != nil {
		r.logger.Error("configuration cannot be applied: what runs goes on unchanged", "error", err)
		return
	}
	tls := digest(tlsFiles(merged.Gateway), readFile)
	keys := differences("gateway", r.current, merged.Gateway)
	lists := digest(merged.Gateway.ListFiles(), readFile)
	if tls != r.tls {
		keys = append(keys, "gateway.tls (the files)")
	}
	if lists != r.lists {
		keys = append(keys, "gateway.ip_lists (the files)")
	}
	if len(keys) == 0 {
		r.logger.Info("configuration read: the gateway part is as it was")
		return
	}
	if err := r.gateway.Apply(ctx, merged.Gateway); err != nil {
		r.logger.Error("gateway change refused: what runs goes on unchanged", "error", err, "keys", keys)
		return
	}
	r.current, r.tls, r.lists = merged.Gateway, tls, lists
	r.logger.Info("gateway change taken over", "keys", keys)
	if r.sidecars != nil {
		r.sidecars(r.current)
	}
}

// merge is what runs with the next gateway part.
func (r *Reloader) merge(next *Config) (*Config, error) {
	merged, found := r.started.file.decode()
	if err := found.Err(); err != nil {
		return nil, err
	}
	written, found := next.file.decode()
	if err := found.Err(); err != nil {
		return nil, err
	}
	merged.Gateway = written.Gateway
	merged.complete()
	return merged, nil
}
