package controlplane

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// eachChild calls visit for every message that is directly in m: fields, list
// elements, map values, and what an Any holds.
func eachChild(m proto.Message, visit func(proto.Message)) {
	if packed, ok := m.(*anypb.Any); ok {
		if inner, err := packed.UnmarshalNew(); err == nil {
			visit(inner)
		}
		return
	}
	m.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsMap():
			if field.MapValue().Message() != nil {
				value.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
					visit(v.Message().Interface())
					return true
				})
			}
		case field.Message() == nil:
		case field.IsList():
			for i := range value.List().Len() {
				visit(value.List().Get(i).Message().Interface())
			}
		default:
			visit(value.Message().Interface())
		}
		return true
	})
}
