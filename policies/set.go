package policies

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"
)

// ScopePolicy is the name of the built-in policy that has a say on every
// request.
const ScopePolicy = "gatehouse.scopes"

// evaluationTime bounds one evaluation. A policy takes microseconds; this is
// long enough not to be met by a process that waits for a processor.
const evaluationTime = 250 * time.Millisecond

// ErrUnknownPolicy is wrapped by Decide's error when a route names a policy
// that is not loaded.
var ErrUnknownPolicy = errors.New("no such policy is loaded")

// Set is the policies of one revision, compiled and ready. It does not change
// and may be used by many goroutines at once.
type Set struct {
	revision string
	policies map[string]*policy
	// readsClaims is set where some policy may read input.token.claims.
	readsClaims bool
}

// Verdict is what the policies say.
type Verdict struct {
	// Allow is true only where every policy asked said exactly true.
	Allow bool
	// DeniedBy is the name of the policy that denied; empty where Allow.
	DeniedBy string
	// Reason is the denying policy's own words, if it has any. It is for the
	// operator's log, never for the caller.
	Reason string
}

// Load compiles the built-in policy and every *.rego below dir, *_test.rego
// excepted; an empty dir means the built-in policy alone. The error is Faults:
// everything that is wrong, with file and line.
func Load(dir string) (*Set, error) {
	found, err := read(dir)
	if err != nil {
		return nil, err
	}
	return build(dir, found.sources)
}

func build(dir string, sources []source) (*Set, error) {
	sources = slices.DeleteFunc(slices.Clone(sources), source.test)
	program, err := compile(dir, sources)
	if err != nil {
		return nil, err
	}
	set := &Set{revision: revision(sources), policies: map[string]*policy{}, readsClaims: readsClaims(program.compiler)}
	for _, name := range program.policies {
		if set.policies[name], err = prepare(program.compiler, name); err != nil {
			return nil, Faults{{File: dir, Reason: err.Error()}}
		}
	}
	return set, nil
}

// Revision changes with every change of a policy's text or name, and with the
// version of the language. It is the same on every machine.
func (s *Set) Revision() string { return s.revision }

// Has tells whether a route may name this policy.
func (s *Set) Has(name string) bool { return s.policies[name] != nil }

// Names are the policies that a route may name, sorted. A package without a
// rule allow is a library and not among them.
func (s *Set) Names() []string { return slices.Sorted(maps.Keys(s.policies)) }

// Decide asks the scope policy and, where it allows, the named one; an empty
// name means the scope policy alone. On an error there is no verdict and the
// caller denies: the policy is not loaded, took too long, or could not be
// evaluated.
func (s *Set) Decide(ctx context.Context, name string, in Input) (Verdict, error) {
	if s == nil {
		return Verdict{}, errors.New("deciding: no policies are loaded")
	}
	limit := newDeadline(ctx, evaluationTime)
	defer limit.stop()
	verdict, err := s.ask(ctx, ScopePolicy, in.scopesDocument(), limit)
	if err != nil || !verdict.Allow || name == "" || name == ScopePolicy {
		return verdict, err
	}
	document, err := in.document(s.readsClaims)
	if err != nil {
		return Verdict{}, err
	}
	return s.ask(ctx, name, document, limit)
}
