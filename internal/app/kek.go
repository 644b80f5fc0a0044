package app

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"

	"gatehouse.dev/gatehouse/issuer/keys"
)

// environmentKEK is the key-encryption key that the process was started with;
// nil: none. It is taken once, for then the environment has it no more.
var environmentKEK = sync.OnceValues(func() (*keys.KEK, error) { return keys.TakeKEK(keys.KEKVariable) })

// Reseal brings everything of a stopped issuer's database that is sealed with
// the key-encryption key under another: that of a file, which is made where it is
// missing, or of the environment where file is empty. It says where that key has
// to be given from then on.
func Reseal(ctx context.Context, c *Config, file string) (remedy string, err error) {
	next, remedy, err := nextKEK(file)
	if err != nil {
		return "", err
	}
	i, err := Offline(c)
	if err != nil {
		return "", err
	}
	return remedy, i.Reseal(ctx, next)
}

func nextKEK(file string) (next *keys.KEK, remedy string, err error) {
	given, err := keys.TakeKEK(keys.NewKEKVariable)
	switch {
	case err != nil:
		return nil, "", err
	case (file == "") == (given == nil):
		return nil, "", fmt.Errorf("there is no new key-encryption key, or there are two: name its file with --key-file, or give it in %s", keys.NewKEKVariable)
	case given != nil:
		return given, "give the issuer that key in " + keys.KEKVariable, nil
	}
	if file, err = filepath.Abs(file); err != nil {
		return nil, "", err
	}
	if _, err := keys.EnsureKEK(file); err != nil {
		return nil, "", err
	}
	next, err = keys.LoadKEK(file)
	return next, "write issuer.key_encryption_key: " + file, err
}
