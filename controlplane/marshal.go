package controlplane

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// deterministic makes equal messages equal bytes: anypb.New does not, and then
// replicas and reconnecting Envoys would see changes where there are none.
var deterministic = proto.MarshalOptions{Deterministic: true}

// pack marshals a typed_config. It cannot fail for what Build makes from a
// valid Gateway; if it does, Build recovers the cause.
func pack(m proto.Message) *anypb.Any {
	bytes, err := deterministic.Marshal(m)
	if err != nil {
		panic(packError{fmt.Errorf("marshalling %T: %w", m, err)})
	}
	return &anypb.Any{TypeUrl: "type.googleapis.com/" + string(m.ProtoReflect().Descriptor().FullName()), Value: bytes}
}

type packError struct{ error }

// digest is the version of what has these bytes.
func digest(parts ...[]byte) string {
	h := sha256.New()
	for _, p := range parts {
		// Lengths keep ("ab","c") and ("a","bc") apart.
		fmt.Fprintf(h, "%d:", len(p))
		h.Write(p)
	}
	return hex.EncodeToString(h.Sum(nil)[:10])
}

func seconds(d time.Duration) *durationpb.Duration { return durationpb.New(d) }
func number(n uint32) *wrapperspb.UInt32Value      { return wrapperspb.UInt32(n) }
func yes() *wrapperspb.BoolValue                   { return wrapperspb.Bool(true) }
func no() *wrapperspb.BoolValue                    { return wrapperspb.Bool(false) }
