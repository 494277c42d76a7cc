package node

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"

	"ringfort/internal/errs"
	"ringfort/ring"
)

// stateFile is the node's small state, a bbolt database. Every device has a copy:
// the loss of any of them loses no more than that device.
const stateFile = "node.db"

var (
	bucketNode = []byte("node")
	keyState   = []byte("state")
)

// state is what a node of one process knows of itself and its cluster: what
// `ringfort server DIR...` sets up at its first start.
type state struct {
	Serial  uint64        `json:"serial"` // rises with each change: the highest copy counts
	Cluster string        `json:"cluster"`
	Secret  []byte        `json:"secret"` // the key of the placement hash, 32 bytes
	Tokens  []byte        `json:"tokens"` // the key that signs Swift tokens
	Policy  string        `json:"policy"`
	Devices []deviceState `json:"devices"`
	Root    rootKeys      `json:"root"`
	Created time.Time     `json:"created"`
	// Rings are ring files by name: "account", "container", "object-0".
	Rings map[string][]byte `json:"rings"`
}

type deviceState struct {
	ID    ring.DeviceID `json:"id"`
	UUID  ring.UUID     `json:"uuid"`
	Path  string        `json:"path"` // when it was set up, for messages
	Mount bool          `json:"mount"`
}

// rootKeys are the root identity's, when they were generated.
type rootKeys struct {
	AccessKey string `json:"access_key,omitempty"`
	Secret    string `json:"secret,omitempty"`
}

func openState(dir string) (*bbolt.DB, error) {
	db, err := bbolt.Open(filepath.Join(dir, stateFile), 0o600, &bbolt.Options{Timeout: 2 * time.Second})
	if err != nil {
		return nil, errs.New("node.openState", errs.Unavailable,
			"%s: %v (is another ringfort server running on it?)", filepath.Join(dir, stateFile), err)
	}
	return db, nil
}

// readState returns a device's copy, nil if it has none.
func readState(dir string) (*state, error) {
	if _, err := os.Stat(filepath.Join(dir, stateFile)); os.IsNotExist(err) {
		return nil, nil
	}
	db, err := openState(dir)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	var st *state
	err = db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketNode)
		if b == nil || b.Get(keyState) == nil {
			return nil
		}
		st = new(state)
		return json.Unmarshal(b.Get(keyState), st)
	})
	if err != nil {
		return nil, errs.Wrap("node.readState", errs.Corrupt, err)
	}
	return st, nil
}

// writeState stores a copy on a device.
func writeState(dir string, st *state) error {
	db, err := openState(dir)
	if err != nil {
		return err
	}
	defer db.Close()
	b, err := json.Marshal(st)
	if err != nil {
		return err
	}
	return db.Update(func(tx *bbolt.Tx) error {
		bucket, err := tx.CreateBucketIfNotExists(bucketNode)
		if err != nil {
			return err
		}
		return bucket.Put(keyState, b)
	})
}

// newestState returns the newest of the copies on the devices; nil if none has
// one. Copies that cannot be read are passed over as long as another can.
func newestState(dirs []string) (*state, error) {
	var newest *state
	var failed error
	for _, dir := range dirs {
		st, err := readState(dir)
		if err != nil {
			failed = err
			continue
		}
		if st != nil && (newest == nil || newest.Serial < st.Serial) {
			newest = st
		}
	}
	if newest == nil {
		return nil, failed
	}
	return newest, nil
}

var keyRings = []byte("rings")

// sameRings remembers on a device which rings it holds data by, and refuses
// others: this version moves no data when a ring changes, so a changed ring would
// look for it where it is not.
func sameRings(dir string, rings *Rings) error {
	now := map[string]string{"account": ringName(rings.Account), "container": ringName(rings.Container)}
	for _, p := range rings.Policies {
		now["policy "+p.Name] = fmt.Sprintf("%s, index %d, %v", ringName(p.Ring), p.Index, p.Spec)
	}
	db, err := openState(dir)
	if err != nil {
		return err
	}
	defer db.Close()
	return db.Update(func(tx *bbolt.Tx) error {
		bucket, err := tx.CreateBucketIfNotExists(bucketNode)
		if err != nil {
			return err
		}
		was := map[string]string{}
		if b := bucket.Get(keyRings); b != nil {
			if err := json.Unmarshal(b, &was); err != nil {
				return errs.Wrap("node.Open", errs.Corrupt, err)
			}
		}
		for name, ring := range now {
			if was[name] != "" && was[name] != ring {
				return errs.New("node.Open", errs.Invalid,
					"the ring of %s is %s, and the data on %s was placed by %s: this version does not move data, so start with the ring that it was placed by",
					name, ring, dir, was[name])
			}
			was[name] = ring
		}
		b, err := json.Marshal(was)
		if err != nil {
			return err
		}
		return bucket.Put(keyRings, b)
	})
}

func ringName(r *ring.Ring) string { return fmt.Sprintf("%v epoch %d", r.ID(), r.Epoch()) }
