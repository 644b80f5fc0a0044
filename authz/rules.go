package authz

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"

	"gatehouse.dev/gatehouse/envoy"
	"gatehouse.dev/gatehouse/internal/conf"
	rulev1 "gatehouse.dev/gatehouse/proto/gatehouse/rule/v1"
)

const (
	// maxRule bounds the encoded rule of one route, in bytes.
	maxRule = 16 << 10
	// maxRules and maxRuleBytes bound the verified rules that are kept.
	maxRules     = 20_000
	maxRuleBytes = 32 << 20
	// ruleOverhead is roughly what a kept rule costs beside its encoded text,
	// whose length it decodes to about once more.
	ruleOverhead = 512
)

// rules verifies the rules that travel with requests, each distinct one once.
//
// The encoded text itself is the key of what is kept, not a hash of it: equal
// text is the one thing that cannot collide, and a Go map hashes it faster than
// SHA-256 does. Refused text is not kept, so it cannot push out what is good.
type rules struct {
	keys   []ruleKey
	domain string // the trust domain

	mu    sync.RWMutex
	known map[string]*rule
	order []string // by arrival, to forget the oldest first
	bytes int
}

type ruleKey struct {
	id     []byte
	public ed25519.PublicKey
}

// newRules reads the one or two PEM public keys that rules may be signed with.
func newRules(files []conf.Path, domain string) (*rules, error) {
	r := &rules{domain: domain, known: map[string]*rule{}}
	for i, file := range files {
		public, err := readRuleKey(string(file))
		if err != nil {
			return nil, fmt.Errorf("reading rule_keys[%d]: %w", i, err)
		}
		r.keys = append(r.keys, ruleKey{id: envoy.RuleKeyID(public), public: public})
	}
	return r, nil
}

func readRuleKey(file string) (ed25519.PublicKey, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%w (copy it from the control plane, which has it beside its rule_key; where that is this machine, `gatehouse init` makes both)", err)
	}
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "PUBLIC KEY" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("%q is not one PEM block PUBLIC KEY: copy the control plane's public rule key there", file)
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parsing %q: %w", file, err)
	}
	public, ok := parsed.(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%q holds a %T: rules are signed with Ed25519 keys alone", file, parsed)
	}
	return public, nil
}

// verify returns the rule that encoded holds, once its signature is good.
func (r *rules) verify(encoded string) (*rule, error) {
	r.mu.RLock()
	known := r.known[encoded]
	r.mu.RUnlock()
	if known != nil {
		return known, nil
	}
	verified, err := r.decode(encoded)
	if err != nil {
		return nil, err
	}
	r.keep(encoded, verified)
	return verified, nil
}

func (r *rules) decode(encoded string) (*rule, error) {
	if len(encoded) > maxRule {
		return nil, fmt.Errorf("the rule has %d bytes, more than %d", len(encoded), maxRule)
	}
	// Go's decoder skips line breaks even when strict.
	if strings.ContainsAny(encoded, "\r\n") {
		return nil, errors.New("the rule has line breaks in its base64url")
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return nil, fmt.Errorf("decoding the rule's base64url: %w", err)
	}
	var signed rulev1.SignedRule
	if err := proto.Unmarshal(raw, &signed); err != nil {
		return nil, fmt.Errorf("decoding the signed rule: %w", err)
	}
	if len(signed.ProtoReflect().GetUnknown()) > 0 {
		return nil, errors.New("the signed rule has fields that this version does not know")
	}
	if err := r.checkSignature(&signed); err != nil {
		return nil, err
	}
	return parseRule(signed.GetRule(), r.domain)
}

func (r *rules) checkSignature(signed *rulev1.SignedRule) error {
	for _, key := range r.keys {
		if !bytes.Equal(key.id, signed.GetKeyId()) {
			continue
		}
		message := append([]byte(envoy.RuleContext), signed.GetRule()...)
		if !ed25519.Verify(key.public, message, signed.GetSignature()) {
			return errors.New("the rule's signature is wrong")
		}
		return nil
	}
	return fmt.Errorf("the rule is signed with the unknown key %x: add the control plane's public key to authz.rule_keys", signed.GetKeyId())
}

func (r *rules) keep(encoded string, verified *rule) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known[encoded] != nil {
		return
	}
	r.known[encoded] = verified
	r.order = append(r.order, encoded)
	r.bytes += ruleSize(encoded)
	for len(r.order) > maxRules || r.bytes > maxRuleBytes {
		oldest := r.order[0]
		r.order = r.order[1:]
		delete(r.known, oldest)
		r.bytes -= ruleSize(oldest)
	}
}

func ruleSize(encoded string) int { return 2*len(encoded) + ruleOverhead }

// count is the number of rules kept.
func (r *rules) count() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.known)
}
