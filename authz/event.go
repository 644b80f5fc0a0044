package authz

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"

	"gatehouse.dev/gatehouse/token"
)

// verdict is the outcome of a decision; the zero value denies.
type verdict uint8

const (
	denied verdict = iota
	allowed
)

func (v verdict) String() string {
	if v == allowed {
		return "allowed"
	}
	return "denied"
}

// decision is one request on its way through the recipe; what a step found is
// kept for the event.
type decision struct {
	id      string
	started time.Time
	request *request
	caller  string // SPIFFE id of the Envoy that asks
	rule    *rule
	claims  *token.Claims
	// assertion is what claims are from; nil where they are an access token's.
	assertion *token.Assertion
	feed      feedState
	revision  string // of the policies
	verdict   verdict
	reason    Reason
	cause     error
}

// begin starts a decision. Its id is the process's random prefix and a counter:
// unique, and free of a system call.
func (s *Server) begin() *decision {
	return &decision{
		id:      s.idPrefix + strconv.FormatUint(s.ids.Add(1), 36),
		started: s.now(),
		request: &request{},
	}
}

func idPrefix(random [6]byte) string { return hex.EncodeToString(random[:]) + "-" }

// requestID is what the caller of the gateway can quote.
func (d *decision) requestID() string {
	if d.request.id != "" {
		return d.request.id
	}
	return d.id
}

// record counts a decision and logs its one event.
func (s *Server) record(ctx context.Context, d *decision) {
	latency := s.now().Sub(d.started)
	s.metrics.decided(d.verdict, d.reason, latency)
	level := s.levelOf(d)
	if !s.logger.Enabled(ctx, level) {
		return
	}
	attributes := make([]slog.Attr, 0, 24)
	attributes = append(attributes,
		slog.String("decision_id", d.id),
		slog.String("verdict", d.verdict.String()),
		slog.String("reason", string(d.reason)),
		slog.String("method", shorten(d.request.method)),
		slog.String("host", shorten(d.request.host)),
		slog.String("path", shorten(d.request.path)),
		slog.String("source", d.request.source),
		slog.String("request_id", d.requestID()),
		slog.Int64("latency_us", latency.Microseconds()),
	)
	attributes = append(attributes, d.findings()...)
	s.logger.LogAttrs(ctx, level, "decision", attributes...)
}

// findings are the attributes of the steps that the decision got through.
func (d *decision) findings() (attributes []slog.Attr) {
	if d.request.trace != "" {
		attributes = append(attributes, slog.String("trace_id", d.request.trace))
	}
	if d.rule != nil {
		attributes = append(attributes, slog.String("route", d.rule.route), slog.String("service", d.rule.service))
	}
	if d.claims != nil {
		attributes = append(attributes,
			slog.String("issuer", d.claims.Issuer()),
			slog.String("subject", d.claims.Subject()),
			slog.String("subject_type", d.claims.SubjectType()),
			slog.String("client_id", d.claims.ClientID()),
			slog.String("token_id", d.claims.ID()),
			slog.Uint64("feed_sequence", d.feed.sequence),
			slog.Int64("feed_age_ms", d.feed.age.Milliseconds()),
		)
	}
	if d.assertion != nil {
		attributes = append(attributes,
			slog.String("peer", d.request.peer),
			slog.String("transaction", d.assertion.Transaction()),
			slog.Any("actors", d.assertion.Actors()),
		)
	}
	if d.revision != "" {
		attributes = append(attributes, slog.String("policy", d.rule.policy), slog.String("policy_revision", d.revision))
	}
	if d.cause != nil {
		attributes = append(attributes, slog.String("cause", d.cause.Error()))
	}
	return attributes
}

// levelOf makes what an operator has to mend stand out, and lets what is
// allowed be silenced.
func (s *Server) levelOf(d *decision) slog.Level {
	switch {
	case d.verdict == allowed && s.config.AllowedEvents == "debug":
		return slog.LevelDebug
	case d.verdict == denied && answerTo(d.reason).status == unavailable.status:
		return slog.LevelWarn
	default:
		return slog.LevelInfo
	}
}

// maxShown bounds what a client chose in an event, in bytes.
const maxShown = 512

func shorten(s string) string {
	if len(s) <= maxShown {
		return s
	}
	return s[:maxShown] + "…"
}

// panicked counts and logs a panic. Its value may quote a request, so only
// runtime errors are shown, which do not.
func (s *Server) panicked(fault any) error {
	s.metrics.panics.Inc()
	what := fmt.Sprintf("a %T", fault)
	var known runtime.Error
	if err, ok := fault.(error); ok && errors.As(err, &known) {
		what = known.Error()
	}
	s.logger.Error("panic while deciding; the request was denied", "panic", what, "stack", string(debug.Stack()))
	return deny(ReasonInternal, "a panic: %s", what)
}
