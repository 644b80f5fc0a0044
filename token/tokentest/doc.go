// Package tokentest makes tokens for tests: good ones, and any other kind. Its
// keys are real; its functions panic where only the test can be wrong.
package tokentest
