package app

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

//go:embed scaffold/gatehouse.yaml
var scaffold []byte

// Init writes a configuration to start from into dir, a folder for policies,
// and the keys and certificates. It overwrites nothing, and returns what it
// made.
func Init(dir string) (made []string, err error) {
	folder := filepath.Join(dir, "policies")
	if _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) {
		made = append(made, folder+string(filepath.Separator))
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, fmt.Errorf("making the folder of policies: %w", err)
	}
	path := filepath.Join(dir, "gatehouse.yaml")
	wrote, err := writeNew(path, scaffold)
	if err != nil {
		return made, err
	}
	if wrote {
		made = append(made, path)
	}
	config, err := Load(path)
	if err != nil {
		return made, err
	}
	if _, err := os.Stat(string(config.DataDir)); errors.Is(err, fs.ErrNotExist) {
		made = append(made, string(config.DataDir)+string(filepath.Separator))
	}
	return made, config.Prepare(config.All(), time.Now)
}

// writeNew writes a file unless it is there.
func writeNew(path string, content []byte) (wrote bool, err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("writing %s: %w", path, err)
	}
	_, err = file.Write(content)
	return true, errors.Join(err, file.Close())
}
