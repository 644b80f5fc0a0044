package token

import (
	"fmt"
	"slices"
)

// jwk is what we read of a JSON Web Key (RFC 7517 §4).
type jwk struct {
	kty, use, alg, kid string
	crv, x, y, n, e    string
	ops                []string
	hasOps             bool
	private            string // the name of a private member, if there is one
	fault              string // why a member cannot be read
}

// maxKeyOps bounds key_ops: RFC 7517 §4.3 knows eight.
const maxKeyOps = 16

// member reads one member. A value of the wrong kind spoils this key and not
// its set (RFC 7517 §5).
func (k *jwk) member(s *scanner, name string) (err error) {
	texts := map[string]*string{
		"kty": &k.kty, "use": &k.use, "alg": &k.alg, "kid": &k.kid,
		"crv": &k.crv, "x": &k.x, "y": &k.y, "n": &k.n, "e": &k.e,
	}
	text, known := texts[name]
	switch {
	case isPrivate(name):
		k.private = name
		return s.skip()
	case name == "key_ops" && s.peek() == '[':
		return k.operations(s)
	case known && s.peek() == '"':
		if *text, err = s.text(); *text == "" {
			k.fault = fmt.Sprintf("%q is empty", name)
		}
		return err
	case known || name == "key_ops":
		k.fault = fmt.Sprintf("%q is of the wrong kind", name)
	}
	return s.skip()
}

func (k *jwk) operations(s *scanner) (err error) {
	k.hasOps = true
	return s.array(func(s *scanner) error {
		if s.peek() != '"' || len(k.ops) >= maxKeyOps {
			k.fault = `"key_ops" is not a short array of strings`
			return s.skip()
		}
		op, err := s.text()
		if slices.Contains(k.ops, op) {
			k.fault = `"key_ops" has a value twice` // RFC 7517 §4.3
		}
		k.ops = append(k.ops, op)
		return err
	})
}

// isPrivate knows the private and symmetric members of RFC 7518 §6.2.2, §6.3.2,
// §6.4 and RFC 8037 §2.
func isPrivate(name string) bool {
	return slices.Contains([]string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"}, name)
}

// key makes the Key, if it may verify tokens with one of the algorithms.
func (k *jwk) key(allowed []Algorithm) (*Key, error) {
	if err := k.checkUse(); err != nil {
		return nil, err
	}
	alg, err := k.algorithm(allowed)
	if err != nil {
		return nil, err
	}
	public, err := k.public()
	if err != nil {
		return nil, err
	}
	return newKey(k.kid, k.thumbprint(), alg, public)
}

// checkUse refuses keys that are not for verifying, or not for everyone's eyes.
func (k *jwk) checkUse() error {
	switch {
	case k.fault != "":
		return fmt.Errorf("%s", k.fault)
	case k.private != "": // whoever read it can sign as the issuer
		return fmt.Errorf("it has the private member %q", k.private)
	case k.kid == "":
		return fmt.Errorf("it has no kid")
	case checkLabel(k.kid, maxKeyID) != nil:
		return fmt.Errorf("its kid: %w", checkLabel(k.kid, maxKeyID))
	case k.use != "" && k.use != "sig": // RFC 7517 §4.2
		return fmt.Errorf("its use is %s, not \"sig\"", quoted(k.use))
	case k.hasOps && !slices.Contains(k.ops, "verify"): // RFC 7517 §4.3
		return fmt.Errorf("its key_ops do not include \"verify\"")
	}
	return nil
}

// algorithm is the key's own alg, or the only one that its kind leaves open.
func (k *jwk) algorithm(allowed []Algorithm) (Algorithm, error) {
	fitting := k.fitting()
	if len(fitting) == 0 {
		return "", fmt.Errorf("its kty %s with crv %s is not supported", quoted(k.kty), quoted(k.crv))
	}
	fitting = slices.DeleteFunc(fitting, func(alg Algorithm) bool {
		return !slices.Contains(allowed, alg) || k.alg != "" && alg != Algorithm(k.alg)
	})
	switch len(fitting) {
	case 0:
		return "", fmt.Errorf("its alg %s does not fit its kind, or is none of %v", quoted(k.alg), allowed)
	case 1:
		return fitting[0], nil
	default:
		return "", fmt.Errorf("it has no alg, and %v are all possible", fitting)
	}
}

// fitting are the algorithms that a key of this kind could be for.
func (k *jwk) fitting() []Algorithm {
	switch k.kty {
	case ktyEC:
		if c, ok := curveNamed(k.crv); ok {
			return []Algorithm{c.alg}
		}
	case ktyRSA:
		return []Algorithm{RS256, PS256}
	case ktyOKP:
		if k.crv == crvEd25519 {
			return []Algorithm{EdDSA}
		}
	}
	return nil
}
