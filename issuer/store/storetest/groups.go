package storetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse.dev/gatehouse/issuer/store"
)

func (e *env) group(name string, roles ...string) store.Group {
	e.t.Helper()
	g := store.Group{ID: store.NewID("grp_"), Name: name, Roles: roles}
	e.ok(e.CreateGroup(e.ctx, g))
	return must[store.Group](e.t)(e.Group(e.ctx, g.ID))
}

func testGroups(t *testing.T, e *env) {
	want := store.Group{ID: "grp_1", Name: "staff", Description: "All of us", Roles: []string{"reader"}}
	e.ok(e.CreateGroup(e.ctx, want))
	want.CreatedAt = e.clock.now()
	if diff := cmp.Diff(want, must[store.Group](t)(e.GroupByName(e.ctx, "staff"))); diff != "" {
		t.Error(diff)
	}
	for name, g := range map[string]store.Group{"id": {ID: "grp_1", Name: "x"}, "name": {ID: "grp_2", Name: "staff"}} {
		if err := e.CreateGroup(e.ctx, g); !errors.Is(err, store.ErrConflict) {
			t.Errorf("a taken %s: %v", name, err)
		}
	}
	e.group("admins")
	rename := func(id, name string) error {
		return second(e.UpdateGroup(e.ctx, id, func(g *store.Group) error {
			g.Name, g.ID, g.CreatedAt = name, "grp_other", time.Time{}
			return nil
		}))
	}
	if err := rename("grp_1", "admins"); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a name that is taken: %v", err)
	}
	e.ok(rename("grp_1", "people"))
	want.Name = "people"
	if diff := cmp.Diff(want, must[store.Group](t)(e.Group(e.ctx, "grp_1"))); diff != "" {
		t.Error(diff)
	}
	refused := errors.New("no")
	for name, err := range map[string]error{
		"the old name": second(e.GroupByName(e.ctx, "staff")),
		"update":       rename("grp_none", "x"),
		"delete":       e.DeleteGroup(e.ctx, "grp_none"),
	} {
		if !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := e.UpdateGroup(e.ctx, "grp_1", func(g *store.Group) error { g.Name = "y"; return refused }); !errors.Is(err, refused) {
		t.Errorf("an edit that fails: %v", err)
	}
	if all := must[[]store.Group](t)(e.ListGroups(e.ctx, "", 10)); len(all) != 2 || all[0].Name != "admins" || all[1].Name != "people" {
		t.Errorf("the list is %v", all)
	}
}

// A user has the roles of their groups as these are now, wherever a user is
// read; a group made anew under the name of a deleted one has no members.
func testGroupRoles(t *testing.T, e *env) {
	f, _, refresh := e.granted("app", "alice")
	staff, boss := e.group("staff", "reader", "customer"), e.group("boss", "approver")
	_, err := e.UpdateUser(e.ctx, f.user.ID, func(u *store.User) error { u.Groups = []string{staff.ID, boss.ID}; return nil })
	e.ok(err)
	expect := func(want ...string) {
		t.Helper()
		issued, err := e.RotateRefresh(e.ctx, rotation("app", refresh))
		e.ok(err)
		refresh = store.Successor(successorKey, refresh)
		_, session, err := e.SessionByCookie(e.ctx, f.session.Cookie)
		e.ok(err)
		for how, u := range map[string]store.User{
			"by id":     must[store.User](t)(e.User(e.ctx, f.user.ID)),
			"by login":  must[store.User](t)(e.UserByLogin(e.ctx, "alice")),
			"listed":    must[[]store.User](t)(e.ListUsers(e.ctx, "", 1))[0],
			"refreshed": issued.User,
			"session":   session,
		} {
			if !slices.IsSorted(u.GroupNames) || len(u.GroupNames) == 0 || u.GroupNames[0] != "boss" {
				t.Errorf("%s: the groups are %v", how, u.GroupNames)
			}
			if !slices.Equal(u.AllRoles, want) || !slices.Equal(u.Roles, []string{"customer"}) {
				t.Errorf("%s: all roles %v, own %v, want %v", how, u.AllRoles, u.Roles, want)
			}
		}
	}
	expect("approver", "customer", "reader")
	_, err = e.UpdateGroup(e.ctx, staff.ID, func(g *store.Group) error { g.Roles = []string{"writer"}; return nil })
	e.ok(err)
	expect("approver", "customer", "writer")
	e.ok(e.DeleteGroup(e.ctx, staff.ID))
	e.group("staff", "reader")
	expect("approver", "customer")
}

func testPages(t *testing.T, e *env) {
	for i := range 7 {
		e.client(fmt.Sprint("c", i))
		e.user(fmt.Sprint("u", i))
		e.group(fmt.Sprint("g", i))
	}
	var clients, users, groups []string
	for after := ""; ; {
		some := must[[]store.Client](t)(e.ListClients(e.ctx, after, 3))
		if len(some) == 0 {
			break
		}
		for _, c := range some {
			clients, after = append(clients, c.ID), c.ID
		}
	}
	for after := store.Login(""); ; {
		some := must[[]store.User](t)(e.ListUsers(e.ctx, after, 3))
		if len(some) == 0 {
			break
		}
		for _, u := range some {
			users, after = append(users, string(u.Login)), u.Login
		}
	}
	for after := ""; ; {
		some := must[[]store.Group](t)(e.ListGroups(e.ctx, after, 3))
		if len(some) == 0 {
			break
		}
		for _, g := range some {
			groups, after = append(groups, g.Name), g.Name
		}
	}
	for prefix, got := range map[string][]string{"c": clients, "u": users, "g": groups} {
		want := []string{prefix + "0", prefix + "1", prefix + "2", prefix + "3", prefix + "4", prefix + "5", prefix + "6"}
		if !slices.Equal(got, want) {
			t.Errorf("the pages add up to %v", got)
		}
	}
}
