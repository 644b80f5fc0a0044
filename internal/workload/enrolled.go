package workload

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"gatehouse.dev/gatehouse/internal/serve"
	workloadv1 "gatehouse.dev/gatehouse/proto/gatehouse/workload/v1"
)

// answerWithin bounds one call of the CA.
const answerWithin = 15 * time.Second

// Enrolment is how a workload gets its certificate from the workload CA.
type Enrolment struct {
	// Address is the CA's, HOST:PORT; Server is the SPIFFE id that it must have.
	Address, Server string
	// ID is the SPIFFE id that the workload has.
	ID string
	// TokenFile holds a join token; it is read when a certificate is wanted and
	// cannot be renewed. Empty: none.
	TokenFile string
	// Folder keeps the certificate and key over restarts.
	Folder string
}

// enrolled is a source that enrols once, and then renews what it has.
type enrolled struct {
	config Enrolment
	folder folder
	logger *slog.Logger
	now    func() time.Time
	// spent are the digests of join tokens that the CA took or refused.
	spent map[[sha256.Size]byte]bool
}

// NewEnrolled takes up the state of the folder. It contacts nobody.
func NewEnrolled(config Enrolment, deps Deps) (*Source, error) {
	deps.complete()
	e := &enrolled{config: config, folder: folder(config.Folder), logger: deps.Logger, now: deps.Now, spent: map[[sha256.Size]byte]bool{}}
	if err := e.folder.prepare(); err != nil {
		return nil, err
	}
	state, received, err := e.folder.load()
	if err != nil {
		return nil, err
	}
	if state != nil && state.ID != config.ID {
		return nil, fmt.Errorf("the state folder %s belongs to %s, not to %s: choose another folder", config.Folder, state.ID, config.ID)
	}
	if state == nil && config.TokenFile == "" {
		return nil, fmt.Errorf("%s has not enrolled yet: get a join token with `gatehouse workload token`, and name its file with --join-token, or join_token in the part's identity", config.ID)
	}
	s := newSource(e.obtain, deps)
	if state != nil {
		s.renewer.received = received
		s.Set(state)
	}
	s.renewer.keepRoots = e.folder.saveRoots
	return s, nil
}

// obtain renews what is there; where that does not do, a join token that was
// not used yet may.
func (e *enrolled) obtain(ctx context.Context, old *State) (*State, error) {
	if old == nil {
		return e.enrol(ctx)
	}
	next, err := e.renew(ctx, old)
	if err == nil || ctx.Err() != nil || e.now().Before(old.Pair.Leaf.NotAfter) {
		return next, err
	}
	if next, enrolErr := e.enrol(ctx); enrolErr == nil {
		return next, nil
	}
	return nil, err
}

// enrol proves who the CA is by the root's fingerprint in the token before the
// token's secret is sent.
func (e *enrolled) enrol(ctx context.Context) (*State, error) {
	token, err := e.token()
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256([]byte(token.Secret))
	if e.spent[digest] {
		return nil, errors.New("the CA refused the join token: it was used, has ended, or is of another CA; get a new one with `gatehouse workload token`")
	}
	key, csr, err := e.request()
	if err != nil {
		return nil, err
	}
	response, err := call(ctx, e.config.Address, token.TLS(e.config.Server, e.now), func(ctx context.Context, ca workloadv1.EnrolmentClient) (*workloadv1.EnrolResponse, error) {
		return ca.Enrol(ctx, &workloadv1.EnrolRequest{JoinToken: token.Secret, Csr: csr})
	})
	if status.Code(err) == codes.PermissionDenied {
		e.spent[digest] = true
		e.logger.Error("the CA refused the join token: get a new one with `gatehouse workload token`", "token", token)
	}
	if err != nil {
		return nil, fmt.Errorf("enrolling at %s: %w", e.config.Address, err)
	}
	e.spent[digest] = true
	return e.keep(response.GetSvid(), key)
}

func (e *enrolled) token() (JoinToken, error) {
	if e.config.TokenFile == "" {
		return JoinToken{}, errors.New("there is no join token: get one with `gatehouse workload token`, and name its file with --join-token, or join_token in the part's identity")
	}
	text, err := os.ReadFile(e.config.TokenFile)
	if err != nil {
		return JoinToken{}, fmt.Errorf("reading the join token: %w", err)
	}
	token, err := ParseJoinToken(string(text))
	switch {
	case err != nil:
		return JoinToken{}, fmt.Errorf("reading %s: %w", e.config.TokenFile, err)
	case token.ID != e.config.ID:
		return JoinToken{}, fmt.Errorf("the join token in %s is for %s, not for %s: get one for this workload", e.config.TokenFile, token.ID, e.config.ID)
	case !e.now().Before(token.ExpiresAt):
		return JoinToken{}, fmt.Errorf("the join token in %s ended at %s: get a new one with `gatehouse workload token`", e.config.TokenFile, token.ExpiresAt.Format(time.RFC3339))
	}
	return token, nil
}

// renew proves the old key in the message, not in the handshake: a certificate
// that is over may renew, too.
func (e *enrolled) renew(ctx context.Context, old *State) (*State, error) {
	key, csr, err := e.request()
	if err != nil {
		return nil, err
	}
	certificate := old.Pair.Leaf.Raw
	proof, err := Prove(old.signer(), certificate, csr)
	if err != nil {
		return nil, fmt.Errorf("proving the old key: %w", err)
	}
	present := new(Live)
	present.Set(old)
	config := serve.ClientTLS(present, e.config.Server, e.now)
	config.GetClientCertificate = nil
	response, err := call(ctx, e.config.Address, config, func(ctx context.Context, ca workloadv1.EnrolmentClient) (*workloadv1.RenewResponse, error) {
		return ca.Renew(ctx, &workloadv1.RenewRequest{Certificate: certificate, Csr: csr, Proof: proof})
	})
	if err != nil {
		return nil, fmt.Errorf("renewing at %s: %w", e.config.Address, err)
	}
	return e.keep(response.GetSvid(), key)
}

// request is a new key and the request for it.
func (e *enrolled) request() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("making a key: %w", err)
	}
	csr, err := NewRequest(key, e.config.ID)
	return key, csr, err
}

// keep judges what the CA sent, and writes it down before it is used.
func (e *enrolled) keep(svid *workloadv1.Svid, key *ecdsa.PrivateKey) (*State, error) {
	chain, err := parseDER(svid.GetChain())
	if err != nil {
		return nil, fmt.Errorf("reading the chain that the CA sent: %w", err)
	}
	roots, err := parseDER(svid.GetBundle().GetRoots())
	if err != nil {
		return nil, fmt.Errorf("reading the bundle that the CA sent: %w", err)
	}
	state, err := NewState(chain, key, roots)
	if err != nil {
		return nil, fmt.Errorf("judging what the CA sent: %w", err)
	}
	if state.ID != e.config.ID {
		return nil, fmt.Errorf("the CA sent a certificate of %s, not of %s", state.ID, e.config.ID)
	}
	return state, e.folder.save(state)
}

func parseDER(ders [][]byte) (all []*x509.Certificate, err error) {
	for _, der := range ders {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

// call asks the CA once, over a connection of its own.
func call[T any](ctx context.Context, address string, config *tls.Config, ask func(context.Context, workloadv1.EnrolmentClient) (T, error)) (none T, err error) {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(config)), grpc.WithNoProxy())
	if err != nil {
		return none, err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	return ask(ctx, workloadv1.NewEnrolmentClient(conn))
}
