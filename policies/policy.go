package policies

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// maxReason bounds what a policy may put into the log, in bytes: its reason,
// or an error that quotes its values.
const maxReason = 512

// policy is one package, its questions prepared.
type policy struct {
	allow rego.PreparedEvalQuery
	// reason is nil where the package has no such rule.
	reason *rego.PreparedEvalQuery
}

func prepare(compiler *ast.Compiler, name string) (*policy, error) {
	allow, err := question(compiler, name, "allow")
	if err != nil {
		return nil, err
	}
	p := &policy{allow: allow}
	if len(compiler.GetRulesExact(ruleRef(name, "reason"))) > 0 {
		reason, err := question(compiler, name, "reason")
		if err != nil {
			return nil, err
		}
		p.reason = &reason
	}
	return p, nil
}

func question(compiler *ast.Compiler, name, rule string) (rego.PreparedEvalQuery, error) {
	prepared, err := rego.New(
		rego.Compiler(compiler),
		rego.ParsedQuery(ast.NewBody(ast.NewExpr(ast.NewTerm(ruleRef(name, rule))))),
		// By default an error in a built-in function makes the expression
		// undefined, and `not` makes that true.
		rego.StrictBuiltinErrors(true),
	).PrepareForEval(context.Background())
	if err != nil {
		return rego.PreparedEvalQuery{}, fmt.Errorf("preparing %s of policy %s: %w", rule, name, err)
	}
	return prepared, nil
}

// ruleRef is data.orders.approve.allow for "orders.approve" and "allow".
func ruleRef(name, rule string) ast.Ref {
	ref := ast.Ref{ast.DefaultRootDocument}
	for word := range strings.SplitSeq(name+"."+rule, ".") {
		ref = append(ref, ast.StringTerm(word))
	}
	return ref
}

// ask puts the document to one policy.
func (s *Set) ask(ctx context.Context, name string, document ast.Value, limit *deadline) (Verdict, error) {
	p := s.policies[name]
	if p == nil {
		return Verdict{}, fmt.Errorf("policy %q: %w: the loaded ones are %v", name, ErrUnknownPolicy, s.Names())
	}
	answer, err := evaluate(ctx, p.allow, document, limit)
	if err != nil {
		return Verdict{}, fmt.Errorf("evaluating policy %s: %w", name, err)
	}
	if allowed, ok := answer.(bool); ok && allowed {
		return Verdict{Allow: true}, nil
	}
	return Verdict{DeniedBy: name, Reason: p.explain(ctx, document, limit)}, nil
}

// explain is the policy's own reason. A reason that fails changes no verdict.
func (p *policy) explain(ctx context.Context, document ast.Value, limit *deadline) string {
	if p.reason == nil {
		return ""
	}
	answer, err := evaluate(ctx, *p.reason, document, limit)
	if err != nil {
		return "(the policy's reason could not be evaluated: " + err.Error() + ")"
	}
	reason, _ := answer.(string)
	return clip(reason)
}

// evaluate is the value of a rule; nil where it is undefined. A panic inside
// OPA is an error of this one evaluation.
func evaluate(ctx context.Context, q rego.PreparedEvalQuery, document ast.Value, limit *deadline) (answer any, err error) {
	defer func() {
		if panicked := recover(); panicked != nil {
			answer, err = nil, fmt.Errorf("OPA panicked: %v", panicked)
		}
	}()
	results, err := q.Eval(ctx,
		rego.EvalParsedInput(document),
		rego.EvalExternalCancel(limit.cancel),
		rego.EvalMetrics(metrics.NoOp()),
	)
	if ctx.Err() != nil {
		return nil, fmt.Errorf("given up by the caller: %w", ctx.Err())
	}
	if limit.passed() {
		return nil, fmt.Errorf("not finished within %s", limit.after)
	}
	if err != nil {
		return nil, errors.New(clip(strings.Join(strings.Fields(err.Error()), " ")))
	}
	if len(results) != 1 || len(results[0].Expressions) != 1 {
		return nil, nil
	}
	return results[0].Expressions[0].Value, nil
}

func clip(text string) string {
	if len(text) > maxReason {
		return strings.ToValidUTF8(text[:maxReason], "") + "…"
	}
	return text
}

// deadline ends evaluations, by time or with their caller's context. Unlike a
// context of its own it costs no goroutine.
type deadline struct {
	after  time.Duration
	cancel topdown.Cancel
	timer  *time.Timer
	unhook func() bool
}

func newDeadline(ctx context.Context, after time.Duration) *deadline {
	cancel := topdown.NewCancel()
	return &deadline{
		after:  after,
		cancel: cancel,
		timer:  time.AfterFunc(after, cancel.Cancel),
		unhook: context.AfterFunc(ctx, cancel.Cancel),
	}
}

func (d *deadline) passed() bool { return d.cancel.Cancelled() }

func (d *deadline) stop() {
	d.timer.Stop()
	d.unhook()
}
