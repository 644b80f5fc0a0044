package admin

import (
	"google.golang.org/grpc"

	"gatehouse.dev/gatehouse/issuer/store"
	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
)

// chunk is how much of a backup one message carries.
const chunk = 256 << 10

// Backup implements adminv1.AdminServer.
func (s *Service) Backup(_ *adminv1.BackupRequest, stream grpc.ServerStreamingServer[adminv1.BackupResponse]) error {
	if err := s.deps.Store.RecordEvents(stream.Context(), []store.Event{{Name: store.EventBackup}}); err != nil {
		return answer(err, "database", "")
	}
	if err := s.deps.Store.Backup(stream.Context(), chunks{stream}); err != nil {
		return answer(err, "database", "")
	}
	s.deps.Logger.Info("the database was backed up")
	return nil
}

// chunks writes into a stream.
type chunks struct {
	stream grpc.ServerStreamingServer[adminv1.BackupResponse]
}

// Write implements io.Writer.
func (c chunks) Write(data []byte) (written int, err error) {
	for len(data) > 0 {
		part := data[:min(len(data), chunk)]
		if err := c.stream.Send(&adminv1.BackupResponse{Chunk: part}); err != nil {
			return written, err
		}
		written, data = written+len(part), data[len(part):]
	}
	return written, nil
}
