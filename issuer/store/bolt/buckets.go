package bolt

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"gatehouse.dev/gatehouse/issuer/store"
)

// Buckets, and what is in them.
var (
	meta          = []byte("meta")
	clients       = []byte("clients")        // id → Client
	users         = []byte("users")          // id → User
	logins        = []byte("logins")         // login → user id
	sessions      = []byte("sessions")       // id → Session
	cookies       = []byte("cookies")        // hash → session id
	sessionGrants = []byte("session_grants") // session id, grant id → nothing
	consents      = []byte("consents")       // user id, client id → Consent
	codes         = []byte("codes")          // hash → Code
	grants        = []byte("grants")         // id → Grant
	refreshTokens = []byte("refresh_tokens") // hash → refresh row
	signingKeys   = []byte("signing_keys")   // id → Key
	revocationLog = []byte("revocation_log") // sequence → when, revocation
	revoked       = []byte("revoked")        // kind, id → revocation in force
	expiry        = []byte("expiry")         // time, kind, key → nothing

	logouts        = []byte("logouts")         // when due, id → Logout
	usedOnce       = []byte("used_once")       // hash → nothing
	pushedRequests = []byte("pushed_requests") // hash → PushedRequest

	// Since schema 4.
	groups             = []byte("groups")              // id → Group
	groupNames         = []byte("group_names")         // name → group id
	userSessions       = []byte("user_sessions")       // user id, session id → nothing
	registrationTokens = []byte("registration_tokens") // id → RegistrationToken
	registrationHashes = []byte("registration_hashes") // hash → registration token id
	auditLog           = []byte("audit_log")           // sequence → seal, when, Event

	// Since schema 5.
	devices       = []byte("devices")        // hash → Device
	userCodes     = []byte("user_codes")     // keyed hash → device hash
	clientDevices = []byte("client_devices") // client id, device hash → nothing

	bucketsV1 = [][]byte{
		meta, clients, users, logins, sessions, cookies, sessionGrants, consents, codes,
		grants, refreshTokens, signingKeys, revocationLog, revoked, expiry,
	}
	bucketsV2 = [][]byte{
		logouts,
	}
	bucketsV3 = [][]byte{usedOnce, pushedRequests}
	bucketsV4 = [][]byte{groups, groupNames, userSessions, registrationTokens, registrationHashes, auditLog}
	bucketsV5 = [][]byte{devices, userCodes, clientDevices}

	schemaKey = []byte("schema")
	epochKey  = []byte("epoch")
)

// txn is a transaction, the moment it stands for, and what it changed.
type txn struct {
	*bbolt.Tx
	now            time.Time
	origin         store.Origin // of the operation
	retention      time.Duration
	auditRetention time.Duration
	auditKey       []byte
	eras           []era
	dirty          bool // something was written: the group must be committed
	logged         bool // the revocation log grew: its readers must be woken
}

func (t *txn) put(bucket, key, value []byte) error {
	t.dirty = true
	if err := t.Bucket(bucket).Put(key, value); err != nil {
		return fmt.Errorf("writing to %s: %w", bucket, err)
	}
	return nil
}

func (t *txn) delete(bucket, key []byte) error {
	t.dirty = true
	if err := t.Bucket(bucket).Delete(key); err != nil {
		return fmt.Errorf("deleting from %s: %w", bucket, err)
	}
	return nil
}

func (t *txn) has(bucket, key []byte) bool { return t.Bucket(bucket).Get(key) != nil }

// putRow stores a record as JSON.
func putRow[T any](t *txn, bucket, key []byte, row T) error {
	value, err := json.Marshal(row)
	if err != nil {
		return fmt.Errorf("encoding a row of %s: %w", bucket, err)
	}
	return t.put(bucket, key, value)
}

// row reads a record; found is false where there is none.
func row[T any](t *txn, bucket, key []byte) (record T, found bool, err error) {
	value := t.Bucket(bucket).Get(key)
	if value == nil {
		return record, false, nil
	}
	record, err = decode[T](bucket, value)
	return record, err == nil, err
}

// need reads a record that must be there: else the verdict is ErrNotFound.
func need[T any](t *txn, bucket, key []byte) (T, error) {
	record, found, err := row[T](t, bucket, key)
	if err == nil && !found {
		err = refuse(store.ErrNotFound)
	}
	return record, err
}

func decode[T any](bucket, value []byte) (record T, err error) {
	if err := json.Unmarshal(value, &record); err != nil {
		return record, fmt.Errorf("decoding a row of %s: %w", bucket, err)
	}
	return record, nil
}

// page reads at most limit records with a key after this one, by key.
func page[T any](t *txn, bucket, after []byte, limit int) (some []T, err error) {
	cursor := t.Bucket(bucket).Cursor()
	key, value := cursor.Seek(after)
	if key != nil && bytes.Equal(key, after) {
		key, value = cursor.Next()
	}
	for ; key != nil && len(some) < limit; key, value = cursor.Next() {
		record, err := decode[T](bucket, value)
		if err != nil {
			return nil, err
		}
		some = append(some, record)
	}
	return some, nil
}

// indexed is page for the records that an index of ids names.
func indexed[T any](t *txn, index, bucket, after []byte, limit int) (some []T, err error) {
	cursor := t.Bucket(index).Cursor()
	key, id := cursor.Seek(after)
	if key != nil && bytes.Equal(key, after) {
		key, id = cursor.Next()
	}
	for ; key != nil && len(some) < limit; key, id = cursor.Next() {
		record, found, err := row[T](t, bucket, id)
		if err != nil {
			return nil, err
		}
		if found {
			some = append(some, record)
		}
	}
	return some, nil
}

// rows reads every record of a bucket, by key.
func rows[T any](t *txn, bucket []byte) (all []T, err error) {
	err = t.Bucket(bucket).ForEach(func(_, value []byte) error {
		record, err := decode[T](bucket, value)
		all = append(all, record)
		return err
	})
	return all, err
}

// pair is a key of two ids. The first has its length in front: no choice of
// ids makes two pairs the same, or one the prefix of another's.
func pair(a, b string) []byte {
	key := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(a)+len(b)), uint16(len(a)))
	return append(append(key, a...), b...)
}

// keysUnder are the keys of a bucket that begin with prefix.
func keysUnder(t *txn, bucket, prefix []byte) (keys [][]byte) {
	cursor := t.Bucket(bucket).Cursor()
	for key, _ := cursor.Seek(prefix); key != nil && len(key) >= len(prefix) && string(key[:len(prefix)]) == string(prefix); key, _ = cursor.Next() {
		keys = append(keys, append([]byte(nil), key...))
	}
	return keys
}

// maxID bounds ids: far above ours, far below what bbolt takes.
const maxID = 1024

func checkID(kind, id string) error {
	if id == "" || len(id) > maxID {
		return fmt.Errorf("a %s's id has 1 to %d bytes, not %d", kind, maxID, len(id))
	}
	return nil
}
