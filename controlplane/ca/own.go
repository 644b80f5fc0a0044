package ca

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/credentials"
)

// own is the certificate that the enrolment server proves itself with: the
// control plane's SVID, which the CA issues to itself.
type own struct {
	server *Server
	id     string
	pair   atomic.Pointer[tls.Certificate]
}

func newOwn(s *Server, id string) (*own, error) {
	o := &own{server: s, id: id}
	return o, o.refresh(context.Background())
}

// refresh renews at half life, and when another root issues.
func (o *own) refresh(ctx context.Context) error {
	if pair := o.pair.Load(); pair != nil && o.fresh(pair) {
		return nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("making a key for %s: %w", o.id, err)
	}
	id, err := o.server.member(o.id)
	if err != nil {
		return err
	}
	a := o.server.authority
	chain, err := a.issueTo(ctx, a.svid(id, a.config.Life), key)
	if err != nil {
		return err
	}
	root, err := a.rootOf(chain)
	if err != nil {
		return err
	}
	pair := &tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	// The root goes with it: who enrols knows nothing but its fingerprint.
	for _, c := range append(chain, root) {
		pair.Certificate = append(pair.Certificate, c.Raw)
	}
	o.pair.Store(pair)
	return nil
}

func (o *own) fresh(pair *tls.Certificate) bool {
	from, to := pair.Leaf.NotBefore.Add(backdate), pair.Leaf.NotAfter
	issuer := o.server.authority.current.Load().issuer
	same := issuer == nil || string(issuer.Raw) == string(pair.Certificate[len(pair.Certificate)-1])
	return same && o.server.now().Before(from.Add(to.Sub(from)/2))
}

// credentials are TLS 1.3. A client certificate is not needed, for who enrols
// has none; one that is presented is verified, and who watches needs it.
func (o *own) credentials() credentials.TransportCredentials {
	config := &tls.Config{MinVersion: tls.VersionTLS13}
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		pool := x509.NewCertPool()
		for _, c := range o.server.authority.Roots() {
			pool.AddCert(c)
		}
		return &tls.Config{
			MinVersion:   tls.VersionTLS13,
			NextProtos:   []string{"h2"},
			Certificates: []tls.Certificate{*o.pair.Load()},
			ClientAuth:   tls.VerifyClientCertIfGiven,
			ClientCAs:    pool,
			Time:         o.server.now,
			// A resumed session would not notice that its roots are gone.
			SessionTicketsDisabled: true,
		}, nil
	}
	return credentials.NewTLS(config)
}

// connectWithin is how long a TLS handshake may take.
const connectWithin = 5 * time.Second
