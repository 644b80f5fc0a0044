package admin

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"gatehouse.dev/gatehouse/internal/conf"
	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
)

const ofProof = "proof."

// exclusive are fields of a proof of which one takes the place of the others.
var exclusive = [][]string{{"jwks", "jwks_uri"}, {"subject_dn", "san_dns", "san_uri", "san_ip", "san_email"}}

// overlayClient changes what a mask names: fields of the client, and single
// fields of its proof, such as proof.algorithms.
func overlayClient(to, from *adminv1.Client, mask *fieldmaskpb.FieldMask) error {
	var whole, parts []string
	for _, path := range mask.GetPaths() {
		if field, found := strings.CutPrefix(path, ofProof); found {
			parts = append(parts, field)
		} else {
			whole = append(whole, path)
		}
	}
	if len(parts) > 0 {
		if err := overlayProof(to, from.GetProof(), parts); err != nil || len(whole) == 0 {
			return err
		}
	}
	return overlay(to, from, &fieldmaskpb.FieldMask{Paths: whole}, ClientFields()...)
}

// overlayProof changes the fields of a client's proof that are named. Another
// method begins anew.
func overlayProof(client *adminv1.Client, given *adminv1.ClientProof, named []string) error {
	was := client.GetProof()
	is := proto.CloneOf(was)
	if is == nil || slices.Contains(named, "method") && given.GetMethod() != was.GetMethod() {
		is = &adminv1.ClientProof{}
	}
	var vs conf.Violations
	to, from := is.ProtoReflect(), given.ProtoReflect()
	fields := to.Descriptor().Fields()
	for _, group := range exclusive {
		if slices.ContainsFunc(group, func(name string) bool { return slices.Contains(named, name) }) {
			for _, name := range group {
				to.Clear(fields.ByTextName(name))
			}
		}
	}
	for _, name := range named {
		field := fields.ByTextName(name)
		switch {
		case field == nil:
			vs.Add(ofProof+name, nil, "cannot be changed", "name a field that a client's proof has")
		case from.Has(field):
			to.Set(field, from.Get(field))
		default:
			to.Clear(field)
		}
	}
	client.Proof = is
	return invalid(vs)
}
