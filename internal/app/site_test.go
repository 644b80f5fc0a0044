package app

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/google/go-cmp/cmp"

	"gatehouse.dev/gatehouse/internal/conf"
	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
)

// fillMessage sets every field, but those left out.
func fillMessage(m protoreflect.Message, leftOut map[string]bool) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if leftOut[string(f.Name())] {
			continue
		}
		switch {
		case f.IsMap():
			m.Mutable(f).Map().Set(protoreflect.ValueOfString("plan").MapKey(), protoreflect.ValueOfString(string(f.Name())))
		case f.IsList() && f.Kind() == protoreflect.MessageKind:
			fillMessage(m.Mutable(f).List().AppendMutable().Message(), leftOut)
		case f.IsList():
			m.Mutable(f).List().Append(protoreflect.ValueOfString(string(f.Name())))
		case f.Kind() == protoreflect.MessageKind:
			fillMessage(m.Mutable(f).Message(), leftOut)
		default:
			m.Set(f, valueOf(f))
		}
	}
}

func valueOf(f protoreflect.FieldDescriptor) protoreflect.Value {
	switch f.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(string(f.Name()))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(f.Name()))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(1)
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(7)
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(7)
	default:
		panic(fmt.Sprintf("%s: a field of kind %s: teach this test to fill it", f.FullName(), f.Kind()))
	}
}

// Whatever the administration tells of clients, users and groups is in the file
// that an export writes and an import reads, or is named here.
func TestSiteHasEveryField(t *testing.T) {
	client, user, group := &adminv1.Client{}, &adminv1.User{}, &adminv1.Group{}
	// Kept by the store; who registered themselves is not exported.
	fillMessage(client.ProtoReflect(), map[string]bool{"created_at": true, "self_registered": true})
	// Made anew or worked out; when a consent was given is when it came in.
	fillMessage(user.ProtoReflect(), map[string]bool{"id": true, "created_at": true, "all_roles": true, "given_at": true})
	fillMessage(group.ProtoReflect(), map[string]bool{"created_at": true})
	site := &Site{
		Groups:  []SiteGroup{{group.GetName(), group.GetDescription(), group.GetRoles()}},
		Clients: []SiteClient{siteClient(client)},
		Users:   []SiteUser{siteUser(user, map[string]bool{"client_id": true})},
	}
	text, err := site.YAML()
	if err != nil {
		t.Fatal(err)
	}
	read := &Site{}
	if _, vs := conf.Decode(text, t.TempDir(), read); len(vs) > 0 {
		t.Fatal(vs)
	}
	g := read.Groups[0]
	u := read.Users[0].message()
	for _, c := range read.Users[0].Consents {
		u.Consents = append(u.Consents, &adminv1.Consent{ClientId: c.Client, Scopes: c.Scopes})
	}
	for want, got := range map[proto.Message]proto.Message{
		client: read.Clients[0].message(), user: u,
		group: &adminv1.Group{Name: g.Name, Description: g.Description, Roles: g.Roles},
	} {
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Errorf("exported and imported (-want +got):\n%s", diff)
		}
	}
}
