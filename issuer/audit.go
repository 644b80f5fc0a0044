package issuer

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"gatehouse.dev/gatehouse/issuer/journal"
	"gatehouse.dev/gatehouse/issuer/login"
	"gatehouse.dev/gatehouse/issuer/store"
	"gatehouse.dev/gatehouse/token"
)

// audit records what happened to whom, as one structured event each, in the
// process's log and in the audit log; never a secret, a code or a token. What
// the store changes it records itself: that is not entered here again.
type audit struct {
	logger  *slog.Logger
	metrics *metrics
	journal *journal.Recorder
}

// issued records tokens that left.
func (a *audit) issued(ctx context.Context, grantType, clientID string) {
	a.metrics.tokens.WithLabelValues(grantType).Inc()
	a.logger.LogAttrs(ctx, slog.LevelInfo, "token issued", slog.String("event", "token"), slog.String("result", "success"),
		slog.String("grant_type", grantType), slog.String("client_id", clientID))
	switch grantType {
	case grantAuthorizationCode, grantRefreshToken, grantDeviceCode: // entered with the grant
	case grantTokenExchange: // entered with its subject
	default:
		a.enter(ctx, store.Event{
			Name: store.EventToken, Result: store.Success, Client: clientID, Address: callerOf(ctx).address, Detail: grantType,
		})
	}
}

// enter enters an event of the caller.
func (a *audit) enter(ctx context.Context, e store.Event) {
	if callerOf(ctx).proven {
		a.journal.Record(e)
		return
	}
	a.journal.RecordStranger(e)
}

// exchanged records that a client got a token in somebody's name.
func (a *audit) exchanged(ctx context.Context, clientID string, subject *token.Claims, target string, scopes []string) {
	a.logger.LogAttrs(ctx, slog.LevelInfo, "token exchanged", slog.String("event", "exchange"), slog.String("result", "success"),
		slog.String("client_id", clientID), slog.String("subject", subject.Subject()), slog.String("subject_jti", subject.ID()),
		slog.String("target", target), slog.Any("scopes", scopes))
	a.enter(ctx, store.Event{
		Name: store.EventToken, Result: store.Success, Client: clientID, Subject: subject.Subject(), Session: subject.SessionID(), Grant: subject.GrantID(),
		Address: callerOf(ctx).address, Detail: grantTokenExchange + " " + target,
	})
}

// refused records a request that a machine got an error for. 500s are ours and
// logged as errors.
func (a *audit) refused(ctx context.Context, endpoint string, f *failure) {
	a.metrics.refusals.WithLabelValues(endpoint, f.code).Inc()
	level, message := slog.LevelInfo, "request refused"
	if f.status == http.StatusInternalServerError {
		level, message = slog.LevelError, "request failed"
	}
	attrs := []slog.Attr{slog.String("event", "refusal"), slog.String("endpoint", endpoint), slog.String("error", f.code), slog.String("reason", f.description)}
	if f.cause != nil {
		attrs = append(attrs, slog.String("cause", f.cause.Error()))
	}
	a.logger.LogAttrs(ctx, level, message, attrs...)
	a.enterRefusal(ctx, endpoint, f)
}

// entered are the endpoints whose refusals are entered: those where something
// is given, taken or asked for by a client that has to prove itself.
var entered = map[string]bool{"token": true, "revoke": true, "introspect": true, "register": true, "par": true, "device": true}

// maxCause bounds what an entry tells of a cause, in bytes: callers write it.
const maxCause = 256

// causeOf is what the operator may know beside the reason.
func causeOf(f *failure) string {
	if f.cause == nil {
		return ""
	}
	cause := f.cause.Error()
	return strings.ToValidUTF8(cause[:min(len(cause), maxCause)], "")
}

// enterRefusal enters a refusal under the client that the request named. Who
// did not prove to be that client, or named none, is a stranger: the name of a
// public client is anybody's to write.
func (a *audit) enterRefusal(ctx context.Context, endpoint string, f *failure) {
	// A device that waits is told so every few seconds; a replay that goes on was
	// counted.
	if !entered[endpoint] || f.code == codeAuthorizationPending || f.code == codeSlowDown || errors.Is(f.cause, store.ErrReplayed) {
		return
	}
	c := callerOf(ctx)
	e := store.Event{
		Name: endpoint + ".refuse", Result: store.Failure, Reason: f.code + ": " + f.description, Detail: causeOf(f), Client: c.client, Address: c.address,
	}
	if !c.proven {
		a.journal.RecordStranger(e)
		return
	}
	a.journal.RecordRefusal(e)
}

// replayed records that something came a second time that counts once: somebody
// else may hold it. What comes again and again is counted (store.ErrReplayed):
// whoever holds a used code could fill the log with it.
func (a *audit) replayed(ctx context.Context, what, clientID string, err error) {
	a.metrics.replays.WithLabelValues(what).Inc()
	if errors.Is(err, store.ErrReplayed) {
		a.journal.Repeated()
		return
	}
	a.logger.LogAttrs(ctx, slog.LevelWarn, "a used credential came again; what it gave is revoked",
		slog.String("event", "replay"), slog.String("credential", what), slog.String("client_id", clientID))
	a.journal.Watch(store.Event{Name: store.EventReplay, Result: store.Failure, Client: clientID, Address: callerOf(ctx).address})
}

// revoked records what a client revoked of its own.
func (a *audit) revoked(ctx context.Context, kind, id, clientID string) {
	a.metrics.revocations.WithLabelValues(kind).Inc()
	a.logger.LogAttrs(ctx, slog.LevelInfo, "revoked", slog.String("event", "revocation"),
		slog.String("kind", kind), slog.String("id", id), slog.String("client_id", clientID))
}

// granted records that a person's authorization went to a client.
func (a *audit) granted(ctx context.Context, userID, clientID, sessionID string, scopes []string) {
	a.logger.LogAttrs(ctx, slog.LevelInfo, "authorization granted", slog.String("event", "grant"), slog.String("result", "success"),
		slog.String("subject", userID), slog.String("client_id", clientID), slog.String("sid", sessionID), slog.Any("scopes", scopes))
}

// denied records an authorization that went back to the client as an error.
func (a *audit) denied(ctx context.Context, clientID string, f *failure) {
	a.metrics.refusals.WithLabelValues("authorize", f.code).Inc()
	attrs := []slog.Attr{
		slog.String("event", "grant"), slog.String("result", "failure"), slog.String("client_id", clientID),
		slog.String("error", f.code), slog.String("reason", f.description),
	}
	if f.cause != nil {
		attrs = append(attrs, slog.String("cause", f.cause.Error()))
	}
	a.logger.LogAttrs(ctx, slog.LevelInfo, "authorization refused", attrs...)
	a.enterDenied(ctx, clientID, f)
}

// enterDenied enters an authorization that was refused. Without a client nobody
// was told but the person: the client that was named is none, or the redirect
// URI is not its own, which is how codes are fished for.
func (a *audit) enterDenied(ctx context.Context, clientID string, f *failure) {
	a.journal.RecordStranger(store.Event{
		Name: "authorization.refuse", Result: store.Failure, Reason: f.code + ": " + f.description, Detail: causeOf(f), Client: clientID, Address: callerOf(ctx).address,
	})
}

// attempted records a login attempt. A failure for an account that does not
// exist has no subject.
func (a *audit) attempted(ctx context.Context, attempt login.Attempt) {
	a.metrics.logins.WithLabelValues(attempt.Result).Inc()
	level := slog.LevelInfo
	if attempt.Result != "success" {
		level = slog.LevelWarn
	}
	a.logger.LogAttrs(ctx, level, "login attempt", slog.String("event", "authentication"), slog.String("result", attempt.Result),
		slog.String("subject", attempt.UserID), slog.String("address", attempt.Address))
	e := store.Event{Name: journal.EventLogin, Result: attempt.Result, Subject: attempt.UserID, Address: attempt.Address}
	if attempt.Result == store.Success {
		a.journal.Record(e)
		return
	}
	a.journal.RecordStranger(e)
}

// metrics are counted by labels that a caller cannot multiply.
type metrics struct {
	tokens, refusals, replays, revocations, logins *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "gatehouse", Subsystem: "issuer", Name: name, Help: help}, labels)
	}
	m := &metrics{
		tokens:      counter("tokens_total", "Token responses, by grant type.", "grant_type"),
		refusals:    counter("refusals_total", "Requests answered with an error, by endpoint and error code.", "endpoint", "error"),
		replays:     counter("replays_total", "Used codes and refresh tokens that came again.", "credential"),
		revocations: counter("revocations_total", "Revocations by clients, by kind.", "kind"),
		logins:      counter("logins_total", "Login attempts, by result.", "result"),
	}
	for _, c := range []prometheus.Collector{m.tokens, m.refusals, m.replays, m.revocations, m.logins} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
