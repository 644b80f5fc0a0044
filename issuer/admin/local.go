package admin

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
)

// Local is a client of a service in the same process: no socket, no goroutine.
func Local(service adminv1.AdminServer) adminv1.AdminClient {
	return adminv1.NewAdminClient(local{service})
}

// local takes the place of a connection.
type local struct{ service adminv1.AdminServer }

// Invoke implements grpc.ClientConnInterface by calling the method's handler.
// Messages are copied, as a wire would.
func (l local) Invoke(ctx context.Context, method string, args, reply any, _ ...grpc.CallOption) error {
	ctx = Offline(ctx)
	for _, m := range adminv1.Admin_ServiceDesc.Methods {
		if "/"+adminv1.Admin_ServiceDesc.ServiceName+"/"+m.MethodName != method {
			continue
		}
		answer, err := m.Handler(l.service, ctx, func(request any) error { return transfer(request, args) }, nil)
		if err != nil {
			return status.Convert(err).Err()
		}
		return transfer(reply, answer)
	}
	return status.Errorf(codes.Unimplemented, "there is no method %s", method)
}

// NewStream implements grpc.ClientConnInterface: there are no streams.
func (local) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, status.Error(codes.Unimplemented, "the administration has no streams")
}

func transfer(to, from any) error {
	target, ok := to.(proto.Message)
	source, fine := from.(proto.Message)
	if !ok || !fine {
		return fmt.Errorf("passing a message: %T and %T are not both protobuf messages", to, from)
	}
	proto.Merge(target, source)
	return nil
}
