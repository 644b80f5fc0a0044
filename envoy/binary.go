package envoy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Find is the path of a supported Envoy: the configured one, else $ENVOY, else
// `envoy` on the PATH where its version is supported, else .tools/envoy in the
// working folder or beside bin/gatehouse. An Envoy that was asked for by name
// and does not do is an error, not passed over.
func Find(ctx context.Context, configured string) (string, error) {
	for _, named := range []string{configured, os.Getenv("ENVOY")} {
		if named != "" {
			_, err := CheckVersion(ctx, named)
			return named, err
		}
	}
	var tried error
	for _, path := range candidates() {
		_, err := CheckVersion(ctx, path)
		if err == nil {
			return path, nil
		}
		tried = errors.Join(tried, err)
	}
	if tried != nil {
		return "", fmt.Errorf("finding Envoy: %w", tried)
	}
	return "", fmt.Errorf("no Envoy was found: run `make tools`, put Envoy %s to %s on the PATH, or set envoy.path or $ENVOY", Oldest, Newest)
}

// candidates are the places that have a file.
func candidates() (found []string) {
	if path, err := exec.LookPath("envoy"); err == nil {
		found = append(found, path)
	}
	places := []string{".tools/envoy"}
	if self, err := os.Executable(); err == nil {
		places = append(places, filepath.Join(filepath.Dir(self), "..", ".tools", "envoy"))
	}
	for _, path := range places {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			found = append(found, path)
		}
	}
	return found
}
