package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"gatehouse.dev/gatehouse/internal/conf"
	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
)

// Change is one step of an import.
type Change struct {
	// Text says what it does, such as "+ user ada".
	Text string
	// key is where the record stands in the file; empty: it is removed.
	key   string
	apply func(ctx context.Context, checkOnly bool) error
}

// Plan reads a site's file and says what leads from what there is to it. Each
// change is one transaction; applied again, a plan is empty. prune also removes
// what is not in the file.
func Plan(ctx context.Context, admin adminv1.AdminClient, path string, prune bool) ([]Change, *conf.Document, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the import: %w", err)
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, nil, err
	}
	want := &Site{}
	doc, found := conf.Decode(data, dir, want)
	if len(found) == 0 {
		found = doc.Locate(want.violations())
	}
	if len(found) > 0 {
		return nil, nil, &Invalid{Path: path, Violations: found}
	}
	have, err := Export(ctx, admin, true)
	if err != nil {
		return nil, nil, err
	}
	p := &planner{admin: admin}
	p.groups(have, want)
	if err := p.clients(have, want); err != nil {
		return nil, nil, err
	}
	p.users(have, want)
	p.consents(have, want)
	if !prune {
		return p.changes, doc, nil
	}
	return append(p.changes, p.removals()...), doc, nil
}

// Check tries every change without making it: what is wrong with the file is
// reported together, with its lines.
func Check(ctx context.Context, path string, doc *conf.Document, changes []Change) error {
	var vs conf.Violations
	for _, c := range changes {
		if c.key == "" {
			continue
		}
		if err := c.apply(ctx, true); err != nil {
			vs = append(vs, under(c.key, err)...)
		}
	}
	if len(vs) > 0 {
		return &Invalid{Path: path, Violations: doc.Locate(vs)}
	}
	return nil
}

// Apply makes changes that Check found nothing wrong with, in order.
func Apply(ctx context.Context, changes []Change) error {
	for _, c := range changes {
		if err := c.apply(ctx, false); err != nil {
			return fmt.Errorf("%s: %s (what came before it is done: mend it and import again)", c.Text, status.Convert(err).Message())
		}
	}
	return nil
}

// under are the violations of a request, with the record's key in front.
func under(key string, err error) (vs conf.Violations) {
	for _, detail := range status.Convert(err).Details() {
		if bad, ok := detail.(*errdetails.BadRequest); ok {
			for _, v := range bad.GetFieldViolations() {
				vs.Add(strings.TrimSuffix(key+"."+v.GetField(), "."), nil, v.GetDescription(), "")
			}
		}
	}
	if len(vs) == 0 {
		vs.Add(key, nil, status.Convert(err).Message(), "")
	}
	return vs
}

type planner struct {
	admin     adminv1.AdminClient
	changes   []Change
	newGroups []string
	// What is not in the file, by name.
	oldGroups, oldClients, oldUsers, oldConsents map[string]Change
}

func (p *planner) add(key, text string, apply func(context.Context, bool) error) {
	p.changes = append(p.changes, Change{text, key, apply})
}

// matched goes through the records of a file, each with the one of its name that
// there is; nil: there is none. It is what is not in the file: how to remove it,
// by name.
func matched[T any](kind string, have, want []T, name func(T) string, each func(key string, is T, was *T), remove func(context.Context, string) error) map[string]Change {
	there := map[string]*T{}
	for i := range have {
		there[name(have[i])] = &have[i]
	}
	for i, is := range want {
		each(fmt.Sprintf("%ss[%d]", kind, i), is, there[name(is)])
		delete(there, name(is))
	}
	left := map[string]Change{}
	for name := range there {
		left[name] = removal(kind+" "+name, func(ctx context.Context) error { return remove(ctx, name) })
	}
	return left
}

func removal(text string, apply func(context.Context) error) Change {
	return Change{"- " + text, "", func(ctx context.Context, _ bool) error { return apply(ctx) }}
}

// removals takes away what hangs on other things before those: consents, then
// users, clients and groups, each by name.
func (p *planner) removals() (all []Change) {
	for _, old := range []map[string]Change{p.oldConsents, p.oldUsers, p.oldClients, p.oldGroups} {
		for _, name := range slices.Sorted(maps.Keys(old)) {
			all = append(all, old[name])
		}
	}
	return all
}

func (p *planner) groups(have, want *Site) {
	p.oldGroups = matched("group", have.Groups, want.Groups, func(g SiteGroup) string { return g.Name }, p.group,
		func(ctx context.Context, name string) error {
			_, err := p.admin.DeleteGroup(ctx, &adminv1.DeleteGroupRequest{Name: name})
			return err
		})
}

func (p *planner) group(key string, g SiteGroup, was *SiteGroup) {
	m := &adminv1.Group{Name: g.Name, Description: g.Description, Roles: g.Roles}
	if was == nil {
		p.newGroups = append(p.newGroups, g.Name)
		p.add(key, "+ group "+g.Name, func(ctx context.Context, check bool) error {
			_, err := p.admin.CreateGroup(ctx, &adminv1.CreateGroupRequest{Group: m, CheckOnly: check})
			return err
		})
		return
	}
	if keys := differing(*was, g); len(keys) > 0 {
		p.add(key, "~ group "+g.Name+": "+strings.Join(keys, ", "), func(ctx context.Context, check bool) error {
			_, err := p.admin.UpdateGroup(ctx, &adminv1.UpdateGroupRequest{Name: g.Name, Group: m, UpdateMask: &fieldmaskpb.FieldMask{Paths: keys}, CheckOnly: check})
			return err
		})
	}
}

func (p *planner) clients(have, want *Site) (err error) {
	p.oldClients = matched("client", have.Clients, want.Clients, func(c SiteClient) string { return c.ID },
		func(key string, c SiteClient, was *SiteClient) { err = errors.Join(err, p.client(key, c, was)) },
		func(ctx context.Context, id string) error {
			_, err := p.admin.DeleteClient(ctx, &adminv1.DeleteClientRequest{Id: id})
			return err
		})
	return err
}

func (p *planner) client(key string, c SiteClient, was *SiteClient) error {
	secret, err := c.secret()
	if err != nil {
		return err
	}
	if was == nil {
		p.add(key, "+ client "+c.ID, func(ctx context.Context, check bool) error {
			_, err := p.admin.CreateClient(ctx, &adminv1.CreateClientRequest{Client: c.message(), Secret: secret, NoSecret: secret == "", CheckOnly: check})
			return err
		})
		return nil
	}
	keys := without(differing(*was, c), "secret_file", "secret_hash")
	told := keys
	if sum := sha256.Sum256([]byte(secret)); secret == "" || hex.EncodeToString(sum[:]) == was.SecretHash {
		secret = ""
	} else {
		told = append(slices.Clone(keys), "secret")
	}
	if len(told) > 0 {
		p.add(key, "~ client "+c.ID+": "+strings.Join(told, ", "), func(ctx context.Context, check bool) error {
			_, err := p.admin.UpdateClient(ctx, &adminv1.UpdateClientRequest{Client: c.message(), UpdateMask: &fieldmaskpb.FieldMask{Paths: keys}, Secret: secret, CheckOnly: check})
			return err
		})
	}
	return nil
}

func (p *planner) users(have, want *Site) {
	p.oldUsers = matched("user", have.Users, want.Users, func(u SiteUser) string { return u.Login }, p.user,
		func(ctx context.Context, login string) error {
			_, err := p.admin.DeleteUser(ctx, &adminv1.DeleteUserRequest{Login: login})
			return err
		})
}

func (p *planner) user(key string, u SiteUser, was *SiteUser) {
	// A group that this import makes is not there yet when users are checked.
	checked := u.message()
	checked.Groups = without(u.Groups, p.newGroups...)
	message := func(check bool) *adminv1.User {
		if check {
			return checked
		}
		return u.message()
	}
	if was == nil {
		p.add(key, "+ user "+u.Login, func(ctx context.Context, check bool) error {
			_, err := p.admin.CreateUser(ctx, &adminv1.CreateUserRequest{User: message(check), NoPassword: true, CheckOnly: check})
			return err
		})
		return
	}
	keys := without(differing(*was, u), "consents")
	// A password that somebody has is theirs: the file's would undo that they
	// chose another, and the argon2id hash that an imported one became.
	if u.PasswordHash == "" || was.PasswordHash != "" {
		keys = without(keys, "password_hash")
	}
	if len(keys) > 0 {
		p.add(key, "~ user "+u.Login+": "+strings.Join(keys, ", "), func(ctx context.Context, check bool) error {
			_, err := p.admin.UpdateUser(ctx, &adminv1.UpdateUserRequest{Login: u.Login, User: message(check), UpdateMask: &fieldmaskpb.FieldMask{Paths: keys}, CheckOnly: check})
			return err
		})
	}
}
