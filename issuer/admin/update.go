package admin

import (
	"slices"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"gatehouse.dev/gatehouse/internal/conf"
)

// maxPage bounds a page of a list: some hundred KB of gRPC's 4 MB.
const maxPage = 500

func pageSize(asked int32) int {
	if asked < 1 || asked > maxPage {
		return maxPage
	}
	return int(asked)
}

// next is what the following page comes after; empty: there is none.
func next[T any](page []T, limit int, key func(T) string) string {
	if len(page) < limit {
		return ""
	}
	return key(page[len(page)-1])
}

// overlay sets the fields of a mask in a message to what they are in another.
// Only the fields named in allowed can be changed.
func overlay(to, from proto.Message, mask *fieldmaskpb.FieldMask, allowed ...string) error {
	var vs conf.Violations
	if len(mask.GetPaths()) == 0 {
		vs.Add("update_mask", nil, "is empty", "say what to change")
	}
	fields := to.ProtoReflect().Descriptor().Fields()
	for _, path := range mask.GetPaths() {
		field := fields.ByTextName(path)
		if field == nil || !slices.Contains(allowed, path) {
			vs.Add(path, nil, "cannot be changed", "remove the record and add it anew")
			continue
		}
		if source := from.ProtoReflect(); source.Has(field) {
			to.ProtoReflect().Set(field, source.Get(field))
		} else {
			to.ProtoReflect().Clear(field)
		}
	}
	return invalid(vs)
}

// invalid is what is wrong with a request, all of it, each with its field; nil:
// nothing.
func invalid(vs conf.Violations) error {
	if len(vs) == 0 {
		return nil
	}
	details := &errdetails.BadRequest{}
	for _, v := range vs {
		bare := v
		bare.Key, bare.Line = "", 0
		details.FieldViolations = append(details.FieldViolations, &errdetails.BadRequest_FieldViolation{Field: v.Key, Description: bare.String()})
	}
	plain := status.New(codes.InvalidArgument, vs.Error())
	detailed, err := plain.WithDetails(details)
	if err != nil {
		return plain.Err()
	}
	return detailed.Err()
}
