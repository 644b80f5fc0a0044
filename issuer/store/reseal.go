package store

// Resealing is how all that a store keeps under the key-encryption key comes
// under another one.
type Resealing struct {
	// Key is the private part of a key, sealed anew.
	Key func(Key) ([]byte, error)
	// AuditKey seals the records of the audit log from now on.
	AuditKey []byte
	// Keep seals a key that records were sealed with so far, so that they can
	// still be verified.
	Keep func(auditKey []byte) []byte
}
