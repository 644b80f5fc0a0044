// Package harness runs a whole Gatehouse for a test: a folder with a
// configuration, the parts as processes on free ports, services behind the
// gate, and the clients in front of it.
//
// The way of a test: Start writes gatehouse.yaml and starts the parts → the
// test registers clients and users through the command line → it sends
// requests, edits the configuration, kills and starts parts → at its end every
// process is stopped in order, and one left behind fails the test.
package harness
