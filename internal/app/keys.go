package app

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"strings"

	"gatehouse.dev/gatehouse/internal/whole"
)

// keepRuleKey makes the key that signs rules, and writes its public half, which
// authorizers need, beside it: rule.key, rule.pub.
func keepRuleKey(path string) error {
	err := keepSecret(path, func() ([]byte, error) {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("making the rule key: %w", err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, fmt.Errorf("encoding the rule key: %w", err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
	})
	if err != nil {
		return err
	}
	public, err := publicHalf(path)
	if err != nil {
		return err
	}
	beside := strings.TrimSuffix(path, ".key") + ".pub"
	if present, err := os.ReadFile(beside); err == nil && bytes.Equal(present, public) {
		return nil
	}
	return whole.WriteFile(beside, public, 0o644)
}

func publicHalf(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading controlplane.rule_key: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("controlplane.rule_key: %s holds no PEM: it must be an Ed25519 key in PKCS #8", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("controlplane.rule_key: parsing %s: %w", path, err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("controlplane.rule_key: %s holds another kind of key than Ed25519", path)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("encoding the public rule key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}
