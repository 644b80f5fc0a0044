package workload

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/internal/serve"
)

const secretType = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"

// SDS serves a workload's certificate, key and trust bundle to the Envoy beside
// it (envoy.service.secret.v3, delta), and each new one at once. Its socket is
// the only place where the key leaves the process.
type SDS struct {
	secretv3.UnimplementedSecretDiscoveryServiceServer

	live     *Live
	logger   *slog.Logger
	stopping context.Context
}

// ServeSDS serves live on a 0600 Unix socket until ctx ends.
func ServeSDS(ctx context.Context, listener net.Listener, live *Live, logger *slog.Logger) error {
	server := grpc.NewServer(grpc.MaxRecvMsgSize(64 << 10))
	secretv3.RegisterSecretDiscoveryServiceServer(server, &SDS{live: live, logger: logger, stopping: ctx})
	return serve.GRPC(ctx, listener, server)
}

// DeltaSecrets implements SecretDiscoveryServiceServer. Envoy opens one stream
// for each secret that something names.
func (s *SDS) DeltaSecrets(stream secretv3.SecretDiscoveryService_DeltaSecretsServer) error {
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	requests := make(chan *discoveryv3.DeltaDiscoveryRequest)
	go func() { cancel(receive(ctx, stream, requests)) }()
	w := &secretWatch{stream: stream, logger: s.logger, sent: map[string]string{}}
	for {
		state, changed := s.live.Current()
		if err := w.bring(state); err != nil {
			return err
		}
		select {
		case <-s.stopping.Done():
			return status.Error(codes.Unavailable, "the agent is ending")
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		case request := <-requests:
			w.take(request)
		}
	}
}

// receive passes requests on until the stream ends, with nil where Envoy closed
// it.
func receive(ctx context.Context, stream secretv3.SecretDiscoveryService_DeltaSecretsServer, to chan<- *discoveryv3.DeltaDiscoveryRequest) error {
	for {
		request, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case to <- request:
		case <-ctx.Done():
			return nil
		}
	}
}

// secretWatch is one stream: which secrets it wants and has.
type secretWatch struct {
	stream secretv3.SecretDiscoveryService_DeltaSecretsServer
	logger *slog.Logger
	wanted []string
	sent   map[string]string // the version, by name
	nonce  int
}

func (w *secretWatch) take(r *discoveryv3.DeltaDiscoveryRequest) {
	if fault := r.GetErrorDetail(); fault != nil {
		w.logger.Error("Envoy refused a certificate or bundle: it goes on with the last good one", "secrets", w.wanted, "message", fault.GetMessage())
	}
	for _, name := range r.GetResourceNamesSubscribe() {
		if (name == envoy.IdentitySecret || name == envoy.TrustSecret) && !slices.Contains(w.wanted, name) {
			w.wanted = append(w.wanted, name)
		}
	}
	for _, name := range r.GetResourceNamesUnsubscribe() {
		w.wanted = slices.DeleteFunc(w.wanted, func(n string) bool { return n == name })
		delete(w.sent, name)
	}
	for name, version := range r.GetInitialResourceVersions() {
		w.sent[name] = version // what it has from before a reconnect
	}
}

// bring sends what is wanted and not there yet.
func (w *secretWatch) bring(state *State) error {
	if state == nil {
		return nil
	}
	var resources []*discoveryv3.Resource
	for _, name := range w.wanted {
		r, err := secret(name, state)
		if err != nil {
			return err
		}
		if w.sent[name] != r.GetVersion() {
			resources = append(resources, r)
		}
	}
	if len(resources) == 0 {
		return nil
	}
	w.nonce++
	err := w.stream.Send(&discoveryv3.DeltaDiscoveryResponse{
		TypeUrl: secretType, Nonce: strconv.Itoa(w.nonce), Resources: resources,
	})
	if err != nil {
		return err
	}
	for _, r := range resources {
		w.sent[r.GetName()] = r.GetVersion()
	}
	return nil
}

// secret is a state's secret under a name. Its version is a digest: of the
// certificate for an identity, so that it tells nothing of the key.
func secret(name string, state *State) (*discoveryv3.Resource, error) {
	s := &tlsv3.Secret{Name: name}
	public := state.rootsPEM()
	if name == envoy.IdentitySecret {
		key, err := state.keyPEM()
		if err != nil {
			return nil, err
		}
		public = state.certificatePEM()
		s.Type = &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
			CertificateChain: inline(public), PrivateKey: inline(key),
		}}
	} else {
		s.Type = &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: inline(public)}}
	}
	sum := sha256.Sum256(public)
	packed := new(anypb.Any)
	if err := anypb.MarshalFrom(packed, s, proto.MarshalOptions{Deterministic: true}); err != nil {
		return nil, err
	}
	return &discoveryv3.Resource{Name: name, Version: hex.EncodeToString(sum[:8]), Resource: packed}, nil
}

func inline(content []byte) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: content}}
}
