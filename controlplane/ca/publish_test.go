package ca

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	workloadv1 "gatehouse.dev/gatehouse/proto/gatehouse/workload/v1"
	"gatehouse.dev/gatehouse/token"
)

// publishAt publishes as a replica at a place does, whose predecessors' last
// assertions end in two minutes.
func (r *rig) publishAt(replica, place string, keys ...*workloadv1.AssertionKey) {
	r.t.Helper()
	_, err := r.localTrust().PublishAssertionKeys(r.t.Context(), &workloadv1.PublishAssertionKeysRequest{
		Replica: replica, Place: place, Keys: keys, PredecessorsEnd: timestamppb.New(r.now().Add(2 * time.Minute)),
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// ends is how long a key is good for; 0: it is not there.
func (r *rig) ends(key *workloadv1.AssertionKey) time.Duration {
	state, _ := r.State()
	for _, k := range state.GetAssertionKeys() {
		if k.GetId() == key.GetId() {
			return k.GetExpiresAt().AsTime().Sub(r.now())
		}
	}
	return 0
}

// What an authorizer that crashed had published ends soon after it started
// again, and what others published does not.
func TestKeysOfPredecessorsEnd(t *testing.T) {
	r := newRig(t)
	crashed, elsewhere, nowhere, next := r.assertionKey(), r.assertionKey(), r.assertionKey(), r.assertionKey()
	r.publishAt("crashed", "a :1", crashed)
	r.publishAt("elsewhere", "b :1", elsewhere)
	r.publishAt("nowhere", "", nowhere)
	if state, _ := r.State(); !knows(crashed, true)(state) {
		t.Fatal("nobody watches, and the key is not held")
	}
	r.publishAt("next", "a :1", next)
	for name, row := range map[string]struct {
		key  *workloadv1.AssertionKey
		ends time.Duration
	}{
		"of the one that crashed": {crashed, 2 * time.Minute},
		"of another place":        {elsewhere, time.Hour},
		"of no place":             {nowhere, time.Hour},
		"of the next":             {next, time.Hour},
	} {
		if got := r.ends(row.key); got != row.ends {
			t.Errorf("the key %s ends in %s, not %s", name, got, row.ends)
		}
	}
	if state, _ := r.State(); !knows(crashed, true)(state) {
		t.Error("a key that ends sooner is held no more: what it signed is refused")
	}
	r.advance(2 * time.Minute)
	r.trust.refresh()
	if left := r.ends(crashed); left != 0 {
		t.Errorf("the key of the one that crashed is good for %s more", left)
	}
	// One without a place, as of an older release, ends nobody's keys.
	r.publishAt("another from nowhere", "", r.assertionKey())
	if left := r.ends(nowhere); left != time.Hour-2*time.Minute {
		t.Errorf("the key of no place is good for %s more", left)
	}
}

// Two machines that look the same: the first sees its keys end too soon and says
// that it is still there, and from then on neither harms the other.
func TestReplicasAtOnePlaceLive(t *testing.T) {
	r := newRig(t)
	one, two := r.assertionKey(), r.assertionKey()
	r.publishAt("one", "a :1", one)
	r.publishAt("two", "a :1", two)
	for range 3 {
		r.publishAt("one", "a :1", one)
		r.publishAt("two", "a :1", two)
		if r.ends(one) != time.Hour || r.ends(two) != time.Hour {
			t.Fatalf("they end in %s and %s", r.ends(one), r.ends(two))
		}
	}
}

// There are never more keys than whoever verifies keeps: the publication that
// would be too much is refused, says why, and changes nothing.
func TestAllKeysAreBounded(t *testing.T) {
	r := newRig(t)
	several := func(n int) (keys []*workloadv1.AssertionKey) {
		for range n {
			keys = append(keys, r.assertionKey())
		}
		return keys
	}
	for i := range maxAllKeys / maxKeys {
		r.publishAt(fmt.Sprint("replica ", i), "", several(maxKeys)...)
	}
	refused := func(replica string, keys ...*workloadv1.AssertionKey) {
		t.Helper()
		_, err := r.localTrust().PublishAssertionKeys(t.Context(), &workloadv1.PublishAssertionKeysRequest{Replica: replica, Keys: keys})
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "run fewer authorizers") {
			t.Errorf("one key too many: %v", err)
		}
	}
	refused("one more", several(1)...)
	r.publishAt("replica 0", "", several(1)...) // in place of ten
	r.publishAt("nine more", "", several(maxKeys-1)...)
	refused("nine more", several(maxKeys)...)
	state, _ := r.State()
	if len(state.GetAssertionKeys()) != maxAllKeys {
		t.Errorf("%d keys", len(state.GetAssertionKeys()))
	}
	var jwks [][]byte
	for range maxKeys { // an authorizer's own that are not published yet
		key, err := token.NewAssertionKey()
		if err != nil {
			t.Fatal(err)
		}
		jwks = append(jwks, key.JWK())
	}
	if set := token.ParseAssertionKeys(jwks); set.Len()+len(state.GetAssertionKeys()) > token.MaxKeys {
		t.Errorf("with %d keys of its own an authorizer leaves some out", set.Len())
	}
	// Where there are too many from an older release, nobody loses what it has.
	over := keysRow{}
	for _, k := range several(maxKeys) {
		over.Keys = append(over.Keys, keyRow{ID: k.GetId(), JWK: k.GetJwk(), Expires: k.GetExpiresAt().AsTime()})
	}
	if err := r.store.bolt.Update(func(tx *bbolt.Tx) error { return put(tx, keysBucket, []byte("old"), over) }); err != nil {
		t.Fatal(err)
	}
	r.publishAt("replica 0", "", several(1)...)
	refused("replica 0", several(2)...)
	r.publishAt("nine more", "")

	r.advance(time.Hour)
	r.publishAt("later", "", several(maxKeys)...)
}
