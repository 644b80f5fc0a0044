package app

import (
	"sync"

	"gatehouse.dev/gatehouse/issuer/keys"
)

// environmentKEK is the key-encryption key that the process was started with;
// nil: none. It is taken once, for then the environment has it no more.
var environmentKEK = sync.OnceValues(keys.TakeKEK)
