package workload

import (
	"crypto/sha256"
	"encoding/hex"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"gatehouse.dev/gatehouse/envoy"
)

const secretType = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"

// version is a digest of what is public of a secret, so that it tells nothing
// of the key.
func version(name string, state *State) string {
	public := state.rootsPEM()
	if name == envoy.IdentitySecret {
		public = state.certificatePEM()
	}
	sum := sha256.Sum256(public)
	return hex.EncodeToString(sum[:8])
}

// secret is a state's secret under a name.
func secret(name string, state *State) (*discoveryv3.Resource, error) {
	s := &tlsv3.Secret{Name: name}
	if name == envoy.IdentitySecret {
		key, err := state.keyPEM()
		if err != nil {
			return nil, err
		}
		s.Type = &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
			CertificateChain: inline(state.certificatePEM()), PrivateKey: inline(key),
		}}
	} else {
		s.Type = &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: inline(state.rootsPEM())}}
	}
	packed := new(anypb.Any)
	if err := anypb.MarshalFrom(packed, s, proto.MarshalOptions{Deterministic: true}); err != nil {
		return nil, err
	}
	return &discoveryv3.Resource{Name: name, Version: version(name, state), Resource: packed}, nil
}

func inline(content []byte) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: content}}
}
