package admin

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"gatehouse.dev/gatehouse/issuer/store"
)

// fill sets every field of a struct to something, so that one that is lost on
// its way shows.
func fill(v reflect.Value, name string) {
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(time.Unix(1_000_000_000, 0).UTC()))
		return
	case time.Duration:
		v.SetInt(int64(7 * time.Second))
		return
	case []byte:
		v.SetBytes([]byte(name))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(name)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint8:
		v.SetUint(uint64(store.Confidential))
	case reflect.Array:
		fill(v.Index(0), name)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), name)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("plan"), reflect.ValueOf(name))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), name)
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), name+"."+v.Type().Field(i).Name)
		}
	default:
		panic(fmt.Sprintf("%s: a field of kind %s: teach this test to fill it", name, v.Kind()))
	}
}

func filled[T any]() (row T) {
	v := reflect.ValueOf(&row).Elem()
	fill(v, v.Type().Name())
	return row
}

// compareFields wants every field to be the same, but those that are left out
// on purpose.
func compareFields(t *testing.T, want, got any, leftOut ...string) {
	t.Helper()
	a, b := reflect.ValueOf(want), reflect.ValueOf(got)
	for i := range a.NumField() {
		name := a.Type().Field(i).Name
		same := reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface())
		if left := slices.Contains(leftOut, name); left == same {
			t.Errorf("%T.%s: the same afterwards: %v, left out on purpose: %v (a new field is exported and imported, or named here)", want, name, same, left)
		}
	}
}

// Every field of a record goes out and comes in again by the administration.
func TestEveryFieldIsAdministered(t *testing.T) {
	c := filled[store.Client]()
	again := fromMessage(proto.CloneOf(listedClient(c, true)))
	if err := again.Secret.UnmarshalText([]byte(listedClient(c, true).GetSecretHash())); err != nil {
		t.Error(err)
	}
	// How a client manages itself is its own; the rest is kept by the store.
	compareFields(t, c, again, "Registration", "CreatedAt", "NotBefore")

	f := newFixture(t)
	f.group(t, "staff", "approver")
	known, err := f.service.groupNames(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	u := filled[store.User]()
	u.Email, u.Roles, u.Login = "a@b.example", []string{"customer"}, "ada"
	for id := range known {
		u.Groups = []string{id}
	}
	m := messageOf(u, known)
	user, vs := f.service.checkedUser(m, known)
	user.Password = u.Password // beside it, as asked for
	if len(vs) > 0 {
		t.Error(vs)
	}
	// Ids are made anew; what a user may do is worked out from the rest.
	compareFields(t, u, user, "ID", "AllRoles", "GroupNames", "CreatedAt", "NotBefore")

	g := filled[store.Group]()
	message := groupMessage(g)
	compareFields(t, g, store.Group{Name: message.GetName(), Description: message.GetDescription(), Roles: message.GetRoles()}, "ID", "CreatedAt")
}
