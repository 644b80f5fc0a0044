// Package e2e proves the whole system: issuer, authorizers, control plane and
// Envoy, each a process of its own, with services, browsers, clients and load
// in the test process. Package harness runs all of it; here is one file for
// each promise.
//
// A test of load never retries, and counts what it sent against what was
// answered as it should be. Each such check has a control: a test that breaks
// on purpose what the check watches over, and fails where that is not noticed.
// Nothing is excused but what failed while the whole machine stood still.
//
//	go test ./e2e                        builds what it tests by itself
//	go test -tags soak ./e2e -run Soak   load, faults and kills for GATEHOUSE_SOAK
//
// Logs and configurations of a failed test are kept below artifacts/.
package e2e
