package token

import (
	"encoding/json"
	"fmt"
	"time"
)

// Ancestor is a token that another was made from (RFC 8693). What revokes it
// ends what was made of it: its jti, its client, its key. Its subject, session
// and grant are those of the token made of it.
type Ancestor struct {
	ID       string
	ClientID string
	KeyID    string
	IssuedAt time.Time
}

// MaxAncestors bounds how many tokens one may descend from.
const MaxAncestors = 16

// ancestors reads derived_from, our own claim: an array of objects with jti,
// client_id, kid and iat. One that is not whole spoils the token, for it could
// not be revoked.
func ancestors(s *scanner) (all []Ancestor, err error) {
	err = s.array(func(s *scanner) error {
		if len(all) >= MaxAncestors {
			return s.fault(fmt.Sprintf("more than %d tokens", MaxAncestors))
		}
		a, err := ancestor(s)
		all = append(all, a)
		return err
	})
	if err == nil && len(all) == 0 {
		err = s.fault("an empty array")
	}
	return all, err
}

func ancestor(s *scanner) (a Ancestor, err error) {
	var issued date
	err = s.object(func(s *scanner, name string) (err error) {
		switch name {
		case "jti":
			a.ID, err = claimLabel(s, maxName)
		case "client_id":
			a.ClientID, err = claimLabel(s, maxName)
		case "kid":
			a.KeyID, err = claimLabel(s, maxKeyID)
		case "iat":
			issued, err = claimDate(s)
		default:
			err = s.skip()
		}
		return err
	})
	a.IssuedAt = issued.time()
	if err == nil && (a.ID == "" || a.ClientID == "" || a.KeyID == "" || !issued.given) {
		err = s.fault("an ancestor without jti, client_id, kid or iat")
	}
	return a, err
}

// Ancestors are the tokens that it was made from, the nearest first; nil: it
// was issued by itself. Whoever asks whether a token is revoked has to ask of
// them too.
func (c *Claims) Ancestors() []Ancestor { return c.ancestors }

// ancestorBody is an ancestor as it travels.
type ancestorBody struct {
	ID       string `json:"jti"`
	ClientID string `json:"client_id"`
	KeyID    string `json:"kid"`
	IssuedAt int64  `json:"iat"`
}

// MarshalJSON implements json.Marshaler: the form in derived_from.
func (a Ancestor) MarshalJSON() ([]byte, error) {
	return json.Marshal(ancestorBody{a.ID, a.ClientID, a.KeyID, a.IssuedAt.Unix()})
}
