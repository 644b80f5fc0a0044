// Package workload keeps the identity of a workload: its X.509-SVID with the
// key, and the trust bundle that it judges others by.
//
// The data's way: a source (files, the workload CA, SPIRE's Workload API, or
// the CA in this process) → State → Live, which the servers and clients of this
// process read at each handshake → SDS, which brings it to the Envoy beside it.
//
// It follows X509-SVID, SPIFFE-ID and the SPIFFE Workload API, and Envoy's
// secret discovery (envoy.service.secret.v3).
package workload
