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

// maxPage bounds a page of a list, and maxPageBytes its size: gRPC takes no
// message of more than 4 MiB.
const (
	maxPage      = 500
	maxPageBytes = 1 << 20
)

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

// cut leaves of a page what fits one answer, and tells what the rest comes
// after. The first always fits: no single record comes near the limit.
func cut[M proto.Message, T any](messages []M, page []T, limit int, key func(T) string) ([]M, string) {
	size := 0
	for i, m := range messages {
		if size += proto.Size(m); size > maxPageBytes && i > 0 {
			return messages[:i], key(page[i-1])
		}
	}
	return messages, next(page, limit, key)
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
