package issuer

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"gatehouse.dev/gatehouse/issuer/admin"
	"gatehouse.dev/gatehouse/issuer/backchannel"
	"gatehouse.dev/gatehouse/issuer/feed"
	"gatehouse.dev/gatehouse/issuer/journal"
	"gatehouse.dev/gatehouse/issuer/keys"
	"gatehouse.dev/gatehouse/issuer/login"
	"gatehouse.dev/gatehouse/issuer/password"
	"gatehouse.dev/gatehouse/issuer/store"
	"gatehouse.dev/gatehouse/issuer/store/bolt"
	"gatehouse.dev/gatehouse/token"
)

// skew is how long after its exp a token may still be taken somewhere: the most
// that a verifier may allow. Whatever refuses tokens has to outlive them by it.
const skew = token.MaxSkew

// server is the issuer with its database and keys open.
type server struct {
	config  Config
	logger  *slog.Logger
	now     func() time.Time
	catalog *catalog
	store   store.Store
	keys    *keys.Ring
	tokens  *keys.AccessTokens
	// refreshKey derives refresh tokens from their predecessors.
	refreshKey []byte
	// userCodeKey keys the hashes of user codes.
	userCodeKey    []byte
	vouchers       vouchers
	login          *login.Pages
	feed           *feed.Server
	admin          *admin.Service
	audit          *audit
	metadata       metadata
	logouts        *backchannel.Sender
	browserClients originPolicy
	registration   *registration
	// clientKeys and authorities are what clients prove themselves by.
	clientKeys  *clientKeys
	authorities *x509.CertPool
	proofs      *proofs
	pushes      pushes
}

// open opens the database and the keys; close must follow.
func (i *Issuer) open(ctx context.Context) (opened *server, err error) {
	c := i.config
	s := &server{
		config: c, logger: i.deps.Logger, now: i.deps.Now, catalog: newCatalog(c),
		audit:      &audit{logger: i.deps.Logger, metrics: i.metrics},
		clientKeys: newClientKeys(c.InternalClientKeys, i.deps.Logger, i.deps.Now), proofs: newProofs(), pushes: newPushes(), registration: newRegistration(),
	}
	if s.authorities, err = loadAuthorities(string(c.ClientAuthorities)); err != nil {
		return nil, fmt.Errorf("reading issuer.client_authorities %q: %w", c.ClientAuthorities, err)
	}
	kek, err := i.openKEK()
	if err != nil {
		return nil, err
	}
	if s.store, err = openStore(c, kek, i.deps.Now); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.audit.journal, err = journal.New(journal.Deps{Store: s.store, Logger: s.logger, Registerer: i.deps.Registerer, Now: s.now}); err != nil {
		return nil, err
	}
	if err := s.openKeys(ctx, kek, i.deps); err != nil {
		return nil, err
	}
	if s.vouchers, err = newVouchers(c, i.deps); err != nil {
		return nil, err
	}
	s.browserClients = (&browserOrigins{clients: s.store, now: s.now}).allows
	return s, s.openParts(kek, i.deps)
}

// openKEK is the key-encryption key: the one that was given, or that of the
// file.
func (i *Issuer) openKEK() (*keys.KEK, error) {
	if i.deps.KEK != nil {
		return i.deps.KEK, nil
	}
	if err := i.config.MakeKEK(); err != nil {
		return nil, fmt.Errorf("opening issuer.key_encryption_key: %w", err)
	}
	path := string(i.config.KeyEncryptionKey)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("opening issuer.key_encryption_key: %q is missing, yet the database %q is sealed with it: restore it from a backup, give it in %s, or move the database away to begin anew", path, i.config.Database, keys.KEKVariable)
	}
	kek, err := keys.LoadKEK(path)
	if err != nil {
		return nil, fmt.Errorf("opening issuer.key_encryption_key: %w", err)
	}
	return kek, nil
}

// MakeKEK makes the file of the key-encryption key where it is missing, yet only
// together with the database: a new key cannot open what is already sealed.
func (c Config) MakeKEK() error {
	if _, err := os.Stat(string(c.Database)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_, err := keys.EnsureKEK(string(c.KeyEncryptionKey))
	return err
}

func boltOptions(c Config, kek *keys.KEK, now func() time.Time) bolt.Options {
	return bolt.Options{Now: now, AuditRetention: c.AuditRetention, AuditKey: kek.AuditKey(), OpenAuditKey: kek.OpenAuditKey}
}

func openStore(c Config, kek *keys.KEK, now func() time.Time) (store.Store, error) {
	path := string(c.Database)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of issuer.database: %w", err)
	}
	db, err := bolt.Open(path, boltOptions(c, kek, now))
	if err != nil {
		return nil, fmt.Errorf("opening issuer.database %q: %w", path, err)
	}
	return db, nil
}

func (s *server) openKeys(ctx context.Context, kek *keys.KEK, d Deps) (err error) {
	s.refreshKey, s.userCodeKey = kek.Derive("refresh successor"), kek.Derive("user code")
	s.keys, err = keys.New(keys.Config{
		Algorithms:  s.config.algorithms(),
		PublishLead: s.config.Keys.PublishLead, RotateEvery: s.config.Keys.RotateEvery,
		Retention: max(s.config.AccessTokenLifetime, s.config.IDTokenLifetime) + 2*skew,
	}, keys.Deps{Store: s.store, KEK: kek, Logger: d.Logger, Registerer: d.Registerer, Now: d.Now})
	if err != nil {
		return err
	}
	if err := s.keys.Load(ctx); err != nil {
		return err
	}
	s.tokens, err = keys.NewAccessTokens(s.keys, keys.AccessRules{Issuer: s.config.URL, Skew: skew, MaxLifetime: maxAccessTokenLifetime})
	return err
}

// openParts makes what stands beside the protocol: pages, feed, administration.
func (s *server) openParts(kek *keys.KEK, d Deps) (err error) {
	passwords, err := password.NewHasher(runtime.GOMAXPROCS(0))
	if err != nil {
		return err
	}
	s.login, err = login.New(
		login.Config{Origin: s.config.URL, SessionLifetime: s.config.SessionLifetime, Key: kek.Derive("login state"), Theme: string(s.config.Templates)},
		login.Deps{People: s.store, Passwords: passwords, Authority: s, Attempted: s.audit.attempted, Logger: d.Logger, Now: d.Now},
	)
	if err != nil {
		return err
	}
	if err = s.openLogouts(d); err != nil {
		return err
	}
	s.metadata = describe(s.config, s.catalog.scopes, s.login.Locales())
	s.feed, err = feed.New(
		feed.Config{Issuer: s.config.URL, Clients: s.config.FeedClients, LocalIdentity: s.config.FeedClients[0]},
		feed.Deps{Store: s.store, Logger: d.Logger, Registerer: d.Registerer, Now: d.Now},
	)
	if err != nil {
		return err
	}
	s.admin, err = admin.New(
		admin.Config{
			Scopes: s.catalog.scopes, Roles: s.catalog.roleNames(),
			Algorithms: s.config.algorithms(), AccessTokenLifetime: s.config.AccessTokenLifetime,
		},
		admin.Deps{Store: s.store, Keys: s.keys, Passwords: passwords, Logger: d.Logger, Now: d.Now},
	)
	return err
}

func (s *server) openLogouts(d Deps) error {
	config := backchannel.Config{Issuer: s.config.URL, AllowInternal: s.config.BackchannelLogout.AllowInternal}
	var err error
	if config.Roots, err = loadAuthorities(string(s.config.BackchannelLogout.CA)); err != nil {
		return fmt.Errorf("reading issuer.backchannel_logout.ca %q: %w", s.config.BackchannelLogout.CA, err)
	}
	s.logouts, err = backchannel.New(config, backchannel.Deps{
		Store: s.store, Sign: s.signFor, Logger: d.Logger, Registerer: d.Registerer, Now: d.Now,
	})
	return err
}

// close writes what the audit log still has to get, and closes the database.
func (s *server) close() error {
	if s.audit.journal != nil {
		if err := s.audit.journal.Flush(context.Background()); err != nil {
			s.logger.Error("the last events did not get into the audit log", "error", err)
		}
	}
	if err := s.store.Close(); err != nil {
		return fmt.Errorf("closing issuer.database: %w", err)
	}
	return nil
}
