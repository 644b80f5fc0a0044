package ca

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"time"

	"go.etcd.io/bbolt"
)

// renewWithin is how long after its end a certificate may still be renewed, so
// that an outage needs no human.
const renewWithin = 24 * time.Hour

// skew is how far another machine's clock may be behind ours.
const skew = 30 * time.Second

// issuedRow is a certificate that was issued, under its SHA-256.
type issuedRow struct {
	ID       string    `json:"id"`
	Serial   string    `json:"serial"`
	Issued   time.Time `json:"issued"`
	NotAfter time.Time `json:"not_after"`
	Root     []byte    `json:"root"` // fingerprint
	sum      []byte
}

// workloadRow is what is known of an id.
type workloadRow struct {
	Serial   string    `json:"serial,omitempty"`
	Issued   time.Time `json:"issued,omitzero"`
	NotAfter time.Time `json:"not_after,omitzero"` // the latest of all
	Revoked  time.Time `json:"revoked,omitzero"`
	// Barred is when it was last revoked before it was allowed again.
	Barred time.Time `json:"barred,omitzero"`
}

func sumOf(certificate *x509.Certificate) []byte {
	sum := sha256.Sum256(certificate.Raw)
	return sum[:]
}

// admitted refuses an id that was revoked.
func admitted(tx *bbolt.Tx, id string) error {
	row, _, err := get[workloadRow](tx, workloadsBucket, []byte(id))
	if err == nil && !row.Revoked.IsZero() {
		err = refuse("%s was revoked at %s", id, row.Revoked.Format(time.RFC3339))
	}
	return err
}

// record keeps a certificate before it leaves; not for an id that was revoked
// while it was signed.
func record(tx *bbolt.Tx, c issuedRow) error {
	if err := admitted(tx, c.ID); err != nil {
		return err
	}
	row, _, err := get[workloadRow](tx, workloadsBucket, []byte(c.ID))
	if err != nil {
		return err
	}
	row.Serial, row.Issued = c.Serial, c.Issued
	if c.NotAfter.After(row.NotAfter) {
		row.NotAfter = c.NotAfter
	}
	if err := put(tx, workloadsBucket, []byte(c.ID), row); err != nil {
		return err
	}
	return put(tx, issuedBucket, c.sum, c)
}

func (s *store) record(c issuedRow) error {
	return s.bolt.Batch(func(tx *bbolt.Tx) error { return record(tx, c) })
}

// renewable is the id of a certificate that this CA issued and may renew.
func (s *store) renewable(certificate *x509.Certificate) (id string, err error) {
	err = s.bolt.View(func(tx *bbolt.Tx) error {
		row, found, err := get[issuedRow](tx, issuedBucket, sumOf(certificate))
		switch {
		case err != nil:
			return err
		case !found:
			return refuse("the certificate %x was not issued here, or ended long ago", certificate.SerialNumber)
		case s.now().After(row.NotAfter.Add(renewWithin)):
			return refuse("the certificate of %s ended at %s, more than %s ago: make a join token", row.ID, row.NotAfter.Format(time.RFC3339), renewWithin)
		}
		id = row.ID
		return unbarred(tx, id, "certificate", row.Issued)
	})
	return id, err
}

// unbarred refuses an id that was revoked, and of one that was allowed again
// what was made before: who stole a key then could renew it, for longer than its
// certificate itself was good.
func unbarred(tx *bbolt.Tx, id, what string, made time.Time) error {
	if err := admitted(tx, id); err != nil {
		return err
	}
	row, _, err := get[workloadRow](tx, workloadsBucket, []byte(id))
	if err == nil && !row.Barred.IsZero() && !made.After(row.Barred) {
		err = refuse("the %s of %s was made before it was revoked at %s: make a join token", what, id, row.Barred.Format(time.RFC3339))
	}
	return err
}

// revoke puts an id on the deny list; a second time changes nothing.
func (s *store) revoke(id ID) error {
	return s.change(id, func(row *workloadRow) error {
		if row.Revoked.IsZero() {
			row.Revoked = s.now()
		}
		return nil
	})
}

// allow takes an id off the deny list, once nobody can hold a certificate that
// it was revoked for.
func (s *store) allow(id ID) error {
	return s.change(id, func(row *workloadRow) error {
		if row.Revoked.IsZero() {
			return nil
		}
		if s.now().Before(row.NotAfter.Add(skew)) {
			return refuse("the last certificate of %s ends at %s: whoever has it would be let in again; allow it after that", id, row.NotAfter.Add(skew).UTC().Format(time.RFC3339))
		}
		row.Barred, row.Revoked = row.Revoked, time.Time{}
		return nil
	})
}

func (s *store) change(id ID, edit func(*workloadRow) error) error {
	return s.bolt.Update(func(tx *bbolt.Tx) error {
		row, _, err := get[workloadRow](tx, workloadsBucket, []byte(id.String()))
		if err == nil {
			err = edit(&row)
		}
		if err != nil {
			return err
		}
		return put(tx, workloadsBucket, []byte(id.String()), row)
	})
}

// workloads are all ids, in their order.
func (s *store) workloads(visit func(id string, row workloadRow)) error {
	return s.bolt.View(func(tx *bbolt.Tx) error {
		return each(tx, workloadsBucket, func(key []byte, row workloadRow) error {
			visit(string(key), row)
			return nil
		})
	})
}

// rootsInUse are the roots that certificates which have not ended lead to, and
// when the last of them ends.
func (s *store) rootsInUse() (map[string]time.Time, error) {
	until, now := map[string]time.Time{}, s.now()
	err := s.bolt.View(func(tx *bbolt.Tx) error {
		return each(tx, issuedBucket, func(_ []byte, row issuedRow) error {
			if row.NotAfter.After(now) && row.NotAfter.After(until[string(row.Root)]) {
				until[string(row.Root)] = row.NotAfter
			}
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("reading the certificates in use: %w", err)
	}
	return until, nil
}
