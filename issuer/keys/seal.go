package keys

import (
	"crypto/aes"
	"crypto/cipher"
	"fmt"

	"gatehouse.dev/gatehouse/issuer/store"
)

// sealVersion begins what is sealed, so that another cipher can follow.
const sealVersion = 1

// sealer encrypts private keys for the database: AES-256-GCM, bound to the
// key's id, so that sealed keys cannot be swapped.
type sealer struct{ aead cipher.AEAD }

func newSealer(k *KEK) (sealer, error) {
	block, err := aes.NewCipher(k.Derive("signing keys"))
	if err != nil {
		return sealer{}, fmt.Errorf("making the key cipher: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return sealer{}, fmt.Errorf("making the key cipher: %w", err)
	}
	return sealer{aead}, nil
}

func (s sealer) seal(id string, private []byte) []byte {
	return s.aead.Seal([]byte{sealVersion}, nil, private, []byte(id))
}

func (s sealer) unseal(id string, sealed []byte) ([]byte, error) {
	if len(sealed) == 0 || sealed[0] != sealVersion {
		return nil, fmt.Errorf("unsealing key %q: it was sealed by another version", id)
	}
	private, err := s.aead.Open(nil, nil, sealed[1:], []byte(id))
	if err != nil {
		return nil, fmt.Errorf("unsealing key %q: %w", id, store.ErrOtherKEK)
	}
	return private, nil
}
