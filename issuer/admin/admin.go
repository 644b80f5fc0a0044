// Package admin administers the issuer: clients, people and signing keys. It
// is served on the 0600 admin socket of a running issuer, and used in process
// (Local) where no issuer runs.
//
// Everything wrong with a request is reported together, worded for the person
// who types the command. Secrets go out once, when they are made; the store
// has only their hashes.
package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/issuer/keys"
	"gatehouse.dev/gatehouse/issuer/password"
	"gatehouse.dev/gatehouse/issuer/store"
	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
)

// Config is what clients and users may be given.
type Config struct {
	// Scopes are those that APIs declare. Those of OpenID Connect are known
	// without.
	Scopes []string
	// Roles are those that the configuration declares.
	Roles []string
	// Algorithms are those that there are signing keys for.
	Algorithms []string
	// AccessTokenLifetime bounds a client's own.
	AccessTokenLifetime time.Duration
}

// Deps are what the administration works on.
type Deps struct {
	Store interface {
		store.Clients
		store.Registrations
		store.Users
		store.Groups
		store.Sessions
		store.Consents
		store.Audit
		Backup(ctx context.Context, w io.Writer) error
	}
	Keys      *keys.Ring
	Passwords *password.Hasher
	Logger    *slog.Logger
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Service implements adminv1.AdminServer.
type Service struct {
	adminv1.UnimplementedAdminServer

	config Config
	scopes []string
	roles  []string
	deps   Deps
}

// openIDScopes need no API (OpenID Connect Core §5.4, §11).
var openIDScopes = []string{"openid", "profile", "email", "offline_access"}

// New makes a Service.
func New(c Config, d Deps) (*Service, error) {
	if d.Store == nil || d.Keys == nil || d.Passwords == nil || d.Logger == nil {
		return nil, errors.New("making the administration: it needs a store, keys, a password hasher and a logger")
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	return &Service{config: c, scopes: slices.Concat(c.Scopes, openIDScopes), roles: slices.Clone(c.Roles), deps: d}, nil
}

// answer is an error of the store as it is told to the caller, who is an
// administrator of this machine and may know the cause.
func answer(err error, what, id string) error {
	if _, ours := status.FromError(err); ours {
		return err // nil, or what an edit found wrong
	}
	var refused interface{ GRPCStatus() *status.Status }
	switch {
	case errors.As(err, &refused):
		return refused.GRPCStatus().Err()
	case errors.Is(err, store.ErrNotFound):
		return status.Errorf(codes.NotFound, "there is no %s %q: see what there is with: gatehouse %s list", what, id, command[what])
	case errors.Is(err, store.ErrConflict):
		return status.Errorf(codes.AlreadyExists, "there is a %s %q already: choose another, or remove it first", what, id)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(err).Err()
	default:
		return status.Error(codes.Internal, fmt.Sprintf("%s %q: %v", what, id, err))
	}
}

var command = map[string]string{
	"client": "client", "user": "user", "group": "group", "key": "keys", "session": "session", "consent": "consent",
	"registration token": "client registration-token",
}

// unknown reports the values of a list that are not among those known, or are
// there twice.
func unknown(vs *conf.Violations, key string, values, known []string, problem, remedy string) {
	for i, value := range values {
		at := fmt.Sprintf("%s[%d]", key, i)
		if !slices.Contains(known, value) {
			vs.Add(at, value, problem, remedy)
		}
		if slices.Index(values, value) != i {
			vs.Add(at, value, "is there twice", "remove one")
		}
	}
}
