package workload

import (
	"errors"

	"gatehouse.dev/gatehouse/internal/serve"
)

// Open is the source that a configured identity names. The workload has the
// SPIFFE id, and the workload CA the id of server.
func Open(identity serve.Identity, id, server string, deps Deps) (*Source, error) {
	switch {
	case identity.SPIRE != "":
		return NewSPIRE(identity.SPIRE, id, deps), nil
	case identity.Enrol != "":
		return NewEnrolled(Enrolment{
			Address: identity.Enrol, Server: server, ID: id,
			TokenFile: string(identity.JoinToken), Folder: string(identity.State),
		}, deps)
	case identity.Files():
		return NewFiles(identity, deps)
	default:
		return nil, errors.New("there is no identity: name the workload CA, files or SPIRE's socket")
	}
}
