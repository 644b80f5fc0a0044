package password

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
)

// hash is a password's hash with what it was made with.
type hash struct {
	params
	salt, sum []byte
}

// String is the PHC form, $argon2id$v=19$m=…,t=…,p=…$salt$hash.
func (h hash) String() string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.memory, h.time, h.lanes,
		base64.RawStdEncoding.EncodeToString(h.salt), base64.RawStdEncoding.EncodeToString(h.sum))
}

// What a stored hash may ask for at most: it must not stop the process.
const (
	maxMemory = 256 << 10 // KiB
	maxTime   = 16
	maxLanes  = 16
	maxPHC    = 512
)

var errMalformed = errors.New("it is no argon2id PHC string of ours")

// parse reads the PHC form, and only the way String writes it.
func parse(phc string) (h hash, err error) {
	if len(phc) > maxPHC {
		return hash{}, errMalformed
	}
	part := strings.Split(phc, "$")
	if len(part) != 6 || part[0] != "" || part[1] != "argon2id" {
		return hash{}, errMalformed
	}
	if _, err := fmt.Sscanf(part[3], "m=%d,t=%d,p=%d", &h.memory, &h.time, &h.lanes); err != nil {
		return hash{}, errMalformed
	}
	encoding := base64.RawStdEncoding.Strict()
	if h.salt, err = encoding.DecodeString(part[4]); err != nil {
		return hash{}, errMalformed
	}
	if h.sum, err = encoding.DecodeString(part[5]); err != nil {
		return hash{}, errMalformed
	}
	switch {
	case h.memory < 8*uint32(h.lanes), h.memory > maxMemory, h.time < 1, h.time > maxTime, h.lanes < 1, h.lanes > maxLanes,
		len(h.salt) < 8, len(h.sum) != hashSize, h.String() != phc:
		return hash{}, errMalformed
	}
	return h, nil
}
