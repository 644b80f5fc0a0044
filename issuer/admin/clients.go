package admin

import (
	"context"
	"maps"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gatehouse.dev/gatehouse/issuer/store"
	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
)

// Prefixes tell people, and scanners of leaked secrets, what they found.
const (
	secretPrefix   = "ghcs_"
	clientIDPrefix = "app_"
)

var clientTypes = map[adminv1.ClientType]store.ClientType{
	adminv1.ClientType_CLIENT_TYPE_CONFIDENTIAL: store.Confidential,
	adminv1.ClientType_CLIENT_TYPE_PUBLIC:       store.Public,
	adminv1.ClientType_CLIENT_TYPE_NATIVE:       store.Native,
}

// CreateClient implements adminv1.AdminServer.
func (s *Service) CreateClient(ctx context.Context, request *adminv1.CreateClientRequest) (*adminv1.CreateClientResponse, error) {
	c := fromMessage(request.GetClient())
	vs := s.checkClient(c)
	hash, secret := newSecret(&vs, c, request)
	if err := invalid(vs); err != nil || request.GetCheckOnly() {
		return &adminv1.CreateClientResponse{Client: clientMessage(c)}, err
	}
	c.Secret = hash
	if err := s.deps.Store.CreateClient(ctx, c); err != nil {
		return nil, answer(err, "client", c.ID)
	}
	stored, err := s.deps.Store.Client(ctx, c.ID)
	if err != nil {
		return nil, answer(err, "client", c.ID)
	}
	s.deps.Logger.Info("created a client", "client", c.ID)
	return &adminv1.CreateClientResponse{Client: clientMessage(stored), Secret: secret}, nil
}

// fromMessage is a new client, with what follows from its type filled in.
func fromMessage(m *adminv1.Client) store.Client {
	c := store.Client{
		ID: m.GetId(), Name: m.GetName(), Type: clientTypes[m.GetType()],
		GrantTypes:   slices.Clone(m.GetGrantTypes()),
		RedirectURIs: slices.Clone(m.GetRedirectUris()), Scopes: slices.Clone(m.GetScopes()),
		AccessTokenLifetime: m.GetAccessTokenLifetime().AsDuration(), IDTokenAlgorithm: m.GetIdTokenAlgorithm(),
		IntrospectionAlgorithm: m.GetIntrospectionAlgorithm(),
		Attributes:             maps.Clone(m.GetAttributes()),
		Disabled:               m.GetDisabled(),
		Proof:                  proofFrom(m.GetProof()),
		RequirePushed:          m.GetRequirePushed(),
		BindToKey:              m.GetBindToKey(),
		BindToCertificate:      m.GetBindToCertificate(),
		PostLogoutRedirectURIs: slices.Clone(m.GetPostLogoutRedirectUris()), BackchannelLogoutURI: m.GetBackchannelLogoutUri(),
	}
	if c.ID == "" {
		c.ID = store.NewID(clientIDPrefix)
	}
	if c.Name == "" {
		c.Name = c.ID
	}
	if len(c.GrantTypes) == 0 {
		c.GrantTypes = []string{authorizationCode, refreshToken}
		if c.Type == store.Confidential && len(c.RedirectURIs) == 0 {
			c.GrantTypes = []string{clientCredentials}
		}
	}
	return c
}

func clientMessage(c store.Client) *adminv1.Client {
	m := &adminv1.Client{
		Id: c.ID, Name: c.Name, GrantTypes: c.GrantTypes, RedirectUris: c.RedirectURIs,
		Scopes: c.Scopes, CreatedAt: timestamppb.New(c.CreatedAt), IdTokenAlgorithm: c.IDTokenAlgorithm,
		Proof: proofMessage(c.Proof), RequirePushed: c.RequirePushed, BindToKey: c.BindToKey, BindToCertificate: c.BindToCertificate,
		IntrospectionAlgorithm: c.IntrospectionAlgorithm, Attributes: c.Attributes,
		Disabled: c.Disabled, SelfRegistered: c.Registration != nil,
		PostLogoutRedirectUris: c.PostLogoutRedirectURIs, BackchannelLogoutUri: c.BackchannelLogoutURI,
	}
	if c.AccessTokenLifetime > 0 {
		m.AccessTokenLifetime = durationpb.New(c.AccessTokenLifetime)
	}
	for message, kind := range clientTypes {
		if kind == c.Type {
			m.Type = message
		}
	}
	return m
}

// ListClients implements adminv1.AdminServer.
func (s *Service) ListClients(ctx context.Context, request *adminv1.ListClientsRequest) (*adminv1.ListClientsResponse, error) {
	limit := pageSize(request.GetLimit())
	clients, err := s.deps.Store.ListClients(ctx, request.GetAfter(), limit)
	if err != nil {
		return nil, answer(err, "client", "")
	}
	response := &adminv1.ListClientsResponse{}
	for _, c := range clients {
		response.Clients = append(response.Clients, listedClient(c, request.GetWithHashes()))
	}
	response.Clients, response.Next = cut(response.Clients, clients, limit, func(c store.Client) string { return c.ID })
	return response, nil
}

// DeleteClient implements adminv1.AdminServer.
func (s *Service) DeleteClient(ctx context.Context, request *adminv1.DeleteClientRequest) (*adminv1.DeleteClientResponse, error) {
	if err := s.deps.Store.DeleteClient(ctx, request.GetId()); err != nil {
		return nil, answer(err, "client", request.GetId())
	}
	s.deps.Logger.Info("deleted a client and revoked what it was issued", "client", request.GetId())
	return &adminv1.DeleteClientResponse{}, nil
}

// RevokeClient implements adminv1.AdminServer.
func (s *Service) RevokeClient(ctx context.Context, request *adminv1.RevokeClientRequest) (*adminv1.RevokeClientResponse, error) {
	if err := s.deps.Store.RevokeClient(ctx, request.GetId()); err != nil {
		return nil, answer(err, "client", request.GetId())
	}
	s.deps.Logger.Info("revoked what a client was issued", "client", request.GetId())
	return &adminv1.RevokeClientResponse{}, nil
}

// RotateClientSecret implements adminv1.AdminServer.
func (s *Service) RotateClientSecret(ctx context.Context, request *adminv1.RotateClientSecretRequest) (*adminv1.RotateClientSecretResponse, error) {
	c, err := s.deps.Store.Client(ctx, request.GetId())
	if err != nil {
		return nil, answer(err, "client", request.GetId())
	}
	if c.Type != store.Confidential || c.Proof.Method != "" {
		return nil, status.Errorf(codes.FailedPrecondition, "client %q has no secret: only confidential clients do, unless they prove themselves otherwise", c.ID)
	}
	secret := store.NewToken(secretPrefix)
	if err := s.deps.Store.SetClientSecret(ctx, c.ID, store.HashOf(secret)); err != nil {
		return nil, answer(err, "client", c.ID)
	}
	s.deps.Logger.Info("replaced a client's secret", "client", c.ID)
	return &adminv1.RotateClientSecretResponse{Secret: secret}, nil
}
