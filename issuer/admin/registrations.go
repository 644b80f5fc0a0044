package admin

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/issuer/store"
	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
)

const (
	registrationPrefix  = "ghri_"
	registrationID      = "rgt_"
	maxRegistrationLife = 365 * 24 * time.Hour
	maxRegistrationUses = 100_000
)

// CreateRegistrationToken implements adminv1.AdminServer.
func (s *Service) CreateRegistrationToken(ctx context.Context, request *adminv1.CreateRegistrationTokenRequest) (*adminv1.CreateRegistrationTokenResponse, error) {
	m, lifetime := request.GetToken(), request.GetLifetime().AsDuration()
	secret := store.NewToken(registrationPrefix)
	r := store.RegistrationToken{
		ID: store.NewID(registrationID), Hash: store.HashOf(secret), Note: m.GetNote(), UsesLeft: int(m.GetUsesLeft()),
		Policy: store.RegistrationPolicy{
			GrantTypes: slices.Clone(m.GetGrantTypes()), Scopes: slices.Clone(m.GetScopes()), RedirectHosts: slices.Clone(m.GetRedirectHosts()),
			RedirectSchemes: slices.Clone(m.GetRedirectSchemes()), Require: slices.Clone(m.GetRequire()),
		},
		CreatedAt: s.deps.Now(), ExpiresAt: s.deps.Now().Add(lifetime),
	}
	vs := CheckPolicy(r.Policy, s.config.Scopes)
	checkName(&vs, r.Note)
	if r.UsesLeft < 1 || r.UsesLeft > maxRegistrationUses {
		vs.Add("uses", r.UsesLeft, "is out of bounds", fmt.Sprintf("choose 1 to %d", maxRegistrationUses))
	}
	if lifetime < time.Minute || lifetime > maxRegistrationLife {
		vs.Add("lifetime", lifetime, "is out of bounds", fmt.Sprintf("choose 1m to %s", maxRegistrationLife))
	}
	if err := invalid(vs); err != nil {
		return nil, err
	}
	if err := s.deps.Store.CreateRegistrationToken(ctx, r); err != nil {
		return nil, answer(err, "registration token", r.ID)
	}
	s.deps.Logger.Info("created a registration token", "registration_token", r.ID)
	return &adminv1.CreateRegistrationTokenResponse{Token: registrationMessage(r), Secret: secret}, nil
}

// requirable is what a policy may require.
var requirable = []string{store.RequirePushed, store.RequireKeyBound, store.RequireCertificateBound}

// CheckPolicy reports all that is wrong with a registration policy.
func CheckPolicy(p store.RegistrationPolicy, scopes []string) (vs conf.Violations) {
	if len(p.GrantTypes) == 0 {
		vs.Add("grant_types", nil, "are missing", "say what clients may register: "+strings.Join(grantTypes, ", "))
	}
	unknown(&vs, "grant_types", p.GrantTypes, grantTypes, "is no grant type of Gatehouse", "write "+strings.Join(grantTypes, ", "))
	unknown(&vs, "scopes", p.Scopes, slices.Concat(scopes, openIDScopes), "is no scope of any API", "declare it under issuer.apis")
	unknown(&vs, "require", p.Require, requirable, "is nothing that can be required", "write "+strings.Join(requirable, ", "))
	for i, host := range p.RedirectHosts {
		if bare := strings.TrimPrefix(host, "*."); bare == "" || strings.Trim(bare, hostAlphabet) != "" {
			vs.Add(fmt.Sprintf("redirect_hosts[%d]", i), host, "is no host", "write app.example, or *.app.example for its subdomains")
		}
	}
	for i, scheme := range p.RedirectSchemes { // RFC 3986 §3.1, RFC 8252 §7.1
		if !strings.Contains(scheme, ".") || strings.Trim(scheme, schemeAlphabet) != "" || scheme[0] < 'a' {
			vs.Add(fmt.Sprintf("redirect_schemes[%d]", i), scheme, "is no private-use scheme", "write a domain of yours read backwards: com.example.app")
		}
	}
	if slices.Contains(p.GrantTypes, authorizationCode) && len(p.RedirectHosts)+len(p.RedirectSchemes) == 0 {
		vs.Add("redirect_hosts", nil, "are missing", "say which hosts people may be sent back to")
	}
	return vs
}

// schemeAlphabet is what a private-use scheme is written in; others have
// schemes in capitals, but those would not be compared as they are registered.
const schemeAlphabet = "abcdefghijklmnopqrstuvwxyz0123456789.-+"

func registrationMessage(r store.RegistrationToken) *adminv1.RegistrationToken {
	return &adminv1.RegistrationToken{
		Id: r.ID, Note: r.Note, GrantTypes: r.Policy.GrantTypes, Scopes: r.Policy.Scopes, RedirectHosts: r.Policy.RedirectHosts,
		RedirectSchemes: r.Policy.RedirectSchemes, Require: r.Policy.Require,
		UsesLeft: int32(r.UsesLeft), CreatedAt: timestamppb.New(r.CreatedAt), ExpiresAt: timestamppb.New(r.ExpiresAt),
	}
}

// ListRegistrationTokens implements adminv1.AdminServer.
func (s *Service) ListRegistrationTokens(ctx context.Context, _ *adminv1.ListRegistrationTokensRequest) (*adminv1.ListRegistrationTokensResponse, error) {
	live, err := s.deps.Store.ListRegistrationTokens(ctx)
	if err != nil {
		return nil, answer(err, "registration token", "")
	}
	response := &adminv1.ListRegistrationTokensResponse{}
	for _, r := range live {
		response.Tokens = append(response.Tokens, registrationMessage(r))
	}
	return response, nil
}

// DeleteRegistrationToken implements adminv1.AdminServer.
func (s *Service) DeleteRegistrationToken(ctx context.Context, request *adminv1.DeleteRegistrationTokenRequest) (*adminv1.DeleteRegistrationTokenResponse, error) {
	if err := s.deps.Store.DeleteRegistrationToken(ctx, request.GetId()); err != nil {
		return nil, answer(err, "registration token", request.GetId())
	}
	s.deps.Logger.Info("deleted a registration token", "registration_token", request.GetId())
	return &adminv1.DeleteRegistrationTokenResponse{}, nil
}
