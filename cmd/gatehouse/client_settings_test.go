package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
)

// otherwise are the fields of a client that no setting is about: what it is,
// what the server says of it, and what has flags of its own.
var otherwise = []string{"id", "type", "created_at", "self_registered", "secret_hash", "disabled", "proof"}

// settable are all fields that a client can be given by flags.
func settable() (names []string) {
	fields := func(m proto.Message, prefix string) {
		all := m.ProtoReflect().Descriptor().Fields()
		for i := range all.Len() {
			if name := string(all.Get(i).Name()); prefix != "" || !slices.Contains(otherwise, name) {
				names = append(names, prefix+name)
			}
		}
	}
	fields(&adminv1.Client{}, "")
	fields(&adminv1.ClientProof{}, "proof.")
	return names
}

// A field that a client has is one that can be set, changed and shown.
func TestEverySettingHasAFlag(t *testing.T) {
	rows := map[string]string{}
	for _, row := range settingsOf(&adminv1.Client{}).table {
		rows[row.field] = row.flag
	}
	for _, name := range settable() {
		if rows[name] == "" {
			t.Errorf("no flag of client add and update sets %s", name)
		}
	}
	if len(rows) != len(settable()) {
		t.Errorf("%d settings for %d fields", len(rows), len(settable()))
	}
}

// Each flag sets the field that the update's mask names, and no other; and what
// it sets is shown.
func TestEveryFlagSetsItsField(t *testing.T) {
	for _, row := range settingsOf(&adminv1.Client{}).table {
		if row.flag == "jwks" || row.flag == "tls-certificate" {
			continue // files: see client.txtar
		}
		client := &adminv1.Client{}
		s := settingsOf(client)
		c := &cobra.Command{}
		s.flags(c)
		value := map[string]string{"*time.Duration": "7s", "*bool": "true", "*map[string]string": "plan=pro"}[fmt.Sprintf("%T", row.into)]
		if value == "" {
			value = "some"
		}
		if err := c.ParseFlags([]string{"--" + row.flag + "=" + value}); err != nil {
			t.Fatal(err)
		}
		if err := s.complete(); err != nil {
			t.Fatal(err)
		}
		if paths := changedFields(c, s.fields()); !slices.Equal(paths, []string{row.field}) {
			t.Errorf("--%s asks to change %v, not %s alone", row.flag, paths, row.field)
		}
		if proto.Size(client.GetProof()) == 0 {
			client.Proof = nil
		}
		var set []string
		client.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
			set = append(set, string(f.Name()))
			return true
		})
		if top, _, _ := strings.Cut(row.field, "."); len(set) != 1 || set[0] != top {
			t.Errorf("--%s sets %v, not %s", row.flag, set, top)
		}
		if name, ofProof := strings.CutPrefix(row.field, "proof."); ofProof {
			m := client.GetProof().ProtoReflect()
			if !m.Has(m.Descriptor().Fields().ByTextName(name)) {
				t.Errorf("--%s does not set %s: %v", row.flag, name, client.GetProof())
			}
		}
		shown := false
		for _, pair := range settingsOf(client).pairs() {
			shown = shown || pair[0] == row.flag && pair[1] != ""
		}
		if !shown {
			t.Errorf("--%s is not shown", row.flag)
		}
	}
}
