package app

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
)

// consents come after the users and clients that they are between.
func (p *planner) consents(have, want *Site) {
	there := map[[2]string]SiteConsent{}
	for _, u := range have.Users {
		for _, c := range u.Consents {
			there[[2]string{u.Login, c.Client}] = c
		}
	}
	known := map[string]bool{}
	for _, c := range slices.Concat(have.Clients, want.Clients) {
		known[c.ID] = true
	}
	for i, u := range want.Users {
		for j, c := range u.Consents {
			was, found := there[[2]string{u.Login, c.Client}]
			delete(there, [2]string{u.Login, c.Client})
			if found && sameSet(was.Scopes, c.Scopes) {
				continue
			}
			text := "+ consent of " + u.Login + " to " + c.Client
			if found {
				text = "~ consent of " + u.Login + " to " + c.Client + ": scopes"
			}
			p.add(fmt.Sprintf("users[%d].consents[%d]", i, j), text, func(ctx context.Context, check bool) error {
				if !known[c.Client] {
					return status.Errorf(codes.NotFound, "there is no client %q: write it under clients, or leave the consent out", c.Client)
				}
				_, err := p.admin.SetConsent(ctx, &adminv1.SetConsentRequest{Login: u.Login, ClientId: c.Client, Scopes: c.Scopes, CheckOnly: check})
				return err
			})
		}
	}
	p.oldConsents = map[string]Change{}
	for between := range there {
		login, client := between[0], between[1]
		if p.goes(login, client) {
			continue // with the user or the client
		}
		name := "consent of " + login + " to " + client
		p.oldConsents[name] = removal(name, func(ctx context.Context) error {
			_, err := p.admin.RevokeConsent(ctx, &adminv1.RevokeConsentRequest{Login: login, ClientId: client})
			return err
		})
	}
}

// goes tells whether a consent goes with one of its two sides.
func (p *planner) goes(login, client string) bool {
	_, user := p.oldUsers[login]
	_, side := p.oldClients[client]
	return user || side
}

// sameSet: the store keeps scopes in an order of its own.
func sameSet(a, b []string) bool {
	x, y := slices.Clone(a), slices.Clone(b)
	slices.Sort(x)
	slices.Sort(y)
	return slices.Equal(slices.Compact(x), slices.Compact(y))
}
