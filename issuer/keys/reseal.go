package keys

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"gatehouse.dev/gatehouse/issuer/store"
)

const (
	auditPurpose = "audit log"
	// auditKeyID is what earlier keys of the audit log are sealed under; no key
	// that signs has such an id.
	auditKeyID = "audit log"
)

// AuditKey seals the records of the audit log.
func (k *KEK) AuditKey() []byte { return k.Derive(auditPurpose) }

// OpenAuditKey opens a key that records were sealed with under an earlier
// key-encryption key.
func (k *KEK) OpenAuditKey(sealed []byte) ([]byte, error) {
	s, err := newSealer(k)
	if err != nil {
		return nil, err
	}
	key, err := s.unseal(auditKeyID, sealed)
	if err != nil {
		return nil, fmt.Errorf("opening the earlier keys of the audit log: %w", err)
	}
	return key, nil
}

// Reseal is how all that is sealed under one key-encryption key comes under
// another.
func Reseal(from, to *KEK) (store.Resealing, error) {
	if bytes.Equal(from.secret, to.secret) {
		return store.Resealing{}, errors.New("the new key-encryption key is the present one: make another")
	}
	before, err := newSealer(from)
	if err != nil {
		return store.Resealing{}, err
	}
	after, err := newSealer(to)
	if err != nil {
		return store.Resealing{}, err
	}
	return store.Resealing{
		Key: func(k store.Key) ([]byte, error) {
			private, err := before.unseal(k.ID, k.Sealed)
			if err != nil {
				return nil, err
			}
			return after.seal(k.ID, private), nil
		},
		AuditKey: to.AuditKey(),
		Keep:     func(key []byte) []byte { return after.seal(auditKeyID, key) },
	}, nil
}

// Opens tells whether a key-encryption key is the one that the stored keys are
// sealed with: store.ErrOtherKEK.
func Opens(ctx context.Context, s store.Keys, k *KEK) error {
	sealer, err := newSealer(k)
	if err != nil {
		return err
	}
	stored, err := s.ListKeys(ctx)
	if err != nil {
		return fmt.Errorf("reading the signing keys: %w", err)
	}
	return sealer.opens(stored)
}

func (s sealer) opens(stored []store.Key) error {
	for _, k := range stored {
		if k.Sealed == nil {
			continue
		}
		if _, err := s.unseal(k.ID, k.Sealed); err != nil {
			return err
		}
	}
	return nil
}
