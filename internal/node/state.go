package node

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/ring"
)

// stateFile is the node's small state, a bbolt database with the bucket "node".
// Every device has a copy: the loss of any of them loses no more than that device.
//
//	state  of a node by itself: a state
//	rings  of a node of many: by the name of a ring, "account", "container" or
//	       "policy " and a policy's name, which ring the device's data was placed by
//
// Both values are JSON in the form of sealed.
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
	const op = "node.openState"
	path := filepath.Join(dir, stateFile)
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: 2 * time.Second})
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, errs.New(op, errs.Unavailable, "%s is in use: is another ringfort server running on it?", path)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch):
		return nil, errs.New(op, errs.Corrupt, "%s is damaged: %v", path, err)
	case err != nil:
		return nil, errs.New(op, errs.Unavailable, "%s: %v", path, err)
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
		return unseal("the state in "+db.Path(), b.Get(keyState), st)
	})
	if err != nil {
		return nil, err
	}
	if st != nil && (len(st.Secret) != len(keyhash.Secret{}) || st.Cluster == "") {
		return nil, errs.New("node.readState", errs.Corrupt, "the state in %s is damaged: a field is missing or cannot be", filepath.Join(dir, stateFile))
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
	b, err := seal(st)
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

// sealFormat is the version of the values in node.db.
const sealFormat = 1

// sealed is the form of a value in node.db: JSON with its own checksum, since bbolt
// checks its own pages alone.
type sealed struct {
	Format int             `json:"format"` // sealFormat
	SHA256 string          `json:"sha256"` // of the value's bytes, as hexadecimal digits
	Value  json.RawMessage `json:"value"`
}

// seal returns the stored form of a value.
func seal(value any) ([]byte, error) {
	b, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b)
	return json.Marshal(&sealed{Format: sealFormat, SHA256: hex.EncodeToString(sum[:]), Value: b})
}

// unseal reads what seal wrote. errs.Corrupt: it is damaged; errs.NotImplemented: it
// is a newer program's.
func unseal(what string, b []byte, value any) error {
	const op = "node.readState"
	var s sealed
	if err := json.Unmarshal(b, &s); err != nil {
		return errs.New(op, errs.Corrupt, "%s is damaged: %v", what, err)
	}
	if s.Format > sealFormat {
		return errs.New(op, errs.NotImplemented, "%s has format %d: written by a newer program", what, s.Format)
	}
	if sum := sha256.Sum256(s.Value); s.Format != sealFormat || s.SHA256 != hex.EncodeToString(sum[:]) {
		return errs.New(op, errs.Corrupt, "%s is damaged: its checksum does not match", what)
	}
	if err := json.Unmarshal(s.Value, value); err != nil {
		return errs.New(op, errs.Corrupt, "%s is damaged: %v", what, err)
	}
	return nil
}

// newestState returns the newest of the copies on the devices; nil if none has
// one. Copies that cannot be read are passed over as long as another can, but for
// those of a newer program, which may say what this one does not know.
func newestState(dirs []string) (*state, error) {
	var newest *state
	var failed error
	for _, dir := range dirs {
		st, err := readState(dir)
		if errs.Is(err, errs.NotImplemented) {
			return nil, err
		}
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
			if err := unseal("the list of rings in "+db.Path(), b, &was); err != nil {
				return err
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
		b, err := seal(was)
		if err != nil {
			return err
		}
		return bucket.Put(keyRings, b)
	})
}

func ringName(r *ring.Ring) string { return fmt.Sprintf("%v epoch %d", r.ID(), r.Epoch()) }
