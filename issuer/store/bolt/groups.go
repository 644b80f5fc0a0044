package bolt

import (
	"context"
	"errors"
	"fmt"

	"gatehouse.dev/gatehouse/issuer/store"
)

// CreateGroup implements store.Groups.
func (db *DB) CreateGroup(ctx context.Context, g store.Group) error {
	if err := checkID("group", g.ID); err != nil {
		return err
	}
	if err := checkID("group's name", g.Name); err != nil {
		return err
	}
	return db.write(ctx, func(t *txn) error {
		if t.has(groups, []byte(g.ID)) || t.has(groupNames, []byte(g.Name)) {
			return refuse(fmt.Errorf("group %q: %w", g.Name, store.ErrConflict))
		}
		row := g
		row.CreatedAt = t.now
		return errors.Join(
			putRow(t, groups, []byte(g.ID), row),
			t.put(groupNames, []byte(g.Name), []byte(g.ID)),
			t.audit(store.Event{Name: store.EventGroupCreate, Detail: g.Name}),
		)
	})
}

// Group implements store.Groups.
func (db *DB) Group(ctx context.Context, id string) (g store.Group, err error) {
	err = db.read(ctx, func(t *txn) error {
		g, err = need[store.Group](t, groups, []byte(id))
		return err
	})
	return g, about("group", id, err)
}

// GroupByName implements store.Groups.
func (db *DB) GroupByName(ctx context.Context, name string) (g store.Group, err error) {
	err = db.read(ctx, func(t *txn) error {
		g, err = need[store.Group](t, groups, t.Bucket(groupNames).Get([]byte(name)))
		return err
	})
	return g, about("group", name, err)
}

// ListGroups implements store.Groups.
func (db *DB) ListGroups(ctx context.Context, after string, limit int) (some []store.Group, err error) {
	err = db.read(ctx, func(t *txn) error {
		some, err = indexed[store.Group](t, groupNames, groups, []byte(after), limit)
		return err
	})
	return some, err
}

// UpdateGroup implements store.Groups.
func (db *DB) UpdateGroup(ctx context.Context, id string, edit func(*store.Group) error) (g store.Group, err error) {
	err = db.write(ctx, func(t *txn) error {
		g, err = t.updateGroup(id, edit)
		return err
	})
	return g, about("group", id, err)
}

func (t *txn) updateGroup(id string, edit func(*store.Group) error) (store.Group, error) {
	was, err := need[store.Group](t, groups, []byte(id))
	if err != nil {
		return was, err
	}
	g := was
	if err := edit(&g); err != nil {
		return was, refuse(err)
	}
	g.ID, g.CreatedAt = was.ID, was.CreatedAt
	if g.Name != was.Name {
		if g.Name == "" || len(g.Name) > maxID || t.has(groupNames, []byte(g.Name)) {
			return was, refuse(fmt.Errorf("name %q: %w", g.Name, store.ErrConflict))
		}
		if err := errors.Join(t.delete(groupNames, []byte(was.Name)), t.put(groupNames, []byte(g.Name), []byte(id))); err != nil {
			return was, err
		}
	}
	return g, errors.Join(
		putRow(t, groups, []byte(id), g),
		t.audit(store.Event{Name: store.EventGroupUpdate, Detail: g.Name + ": " + changed(was, g)}),
	)
}

// DeleteGroup implements store.Groups. Users keep the id among their groups:
// it gives them nothing, and is never used again.
func (db *DB) DeleteGroup(ctx context.Context, id string) error {
	return about("group", id, db.write(ctx, func(t *txn) error {
		g, err := need[store.Group](t, groups, []byte(id))
		if err != nil {
			return err
		}
		return errors.Join(
			t.delete(groupNames, []byte(g.Name)),
			t.delete(groups, []byte(id)),
			t.audit(store.Event{Name: store.EventGroupDelete, Detail: g.Name}),
		)
	}))
}
