package envoy

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
)

// The supported Envoy versions, MAJOR.MINOR, both included. With each of them
// ($ENVOY) the tests of this package and of the control plane pass, those
// against the running Envoy included.
const (
	Oldest = "1.36"
	Newest = "1.40"
)

// versionLine is how `envoy --version` names itself:
// "envoy  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL".
var versionLine = regexp.MustCompile(`version: [^/\s]*/(\d+\.\d+)(\.\d+)?[^/\s]*/`)

// CheckVersion runs `path --version` and returns the full version, or an error
// that says what to do where it is not a supported Envoy.
func CheckVersion(ctx context.Context, path string) (string, error) {
	out, err := exec.CommandContext(ctx, path, "--version").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("running %s --version: %w: %s (is it an Envoy for this machine?)", path, err, firstLine(out))
	}
	version, minor, err := parseVersion(string(out))
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	if !supported(minor) {
		return "", fmt.Errorf("%s is Envoy %s, and %s to %s are supported: run `make tools` or set envoy.path to another", path, version, Oldest, Newest)
	}
	return version, nil
}

func parseVersion(out string) (version, minor string, err error) {
	m := versionLine.FindStringSubmatch(out)
	if m == nil {
		return "", "", errors.New("does not say its version as Envoy does: set envoy.path to an Envoy binary")
	}
	return m[1] + m[2], m[1], nil
}

// supported compares MAJOR.MINOR; Oldest and Newest share their major.
func supported(version string) bool {
	major, minor := split(version)
	oldMajor, oldMinor := split(Oldest)
	newMajor, newMinor := split(Newest)
	return major == oldMajor && major == newMajor && minor >= oldMinor && minor <= newMinor
}

func split(version string) (major, minor int) {
	a, b, _ := strings.Cut(version, ".")
	major, _ = strconv.Atoi(a)
	minor, _ = strconv.Atoi(b)
	return major, minor
}

func firstLine(out []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line
}
