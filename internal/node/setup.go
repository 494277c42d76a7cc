package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/policy"
	"ringfort/ring"
	"ringfort/ring/builder"
)

// soloPower is the partition power of a node by itself: 4096 partitions spread
// evenly over some dozens of devices.
const soloPower = 12

// listingReplicas is on how many devices account and container listings are kept.
const listingReplicas = 3

// solo is a node that is a cluster by itself, as it is set up on its directories.
type solo struct {
	state *state
	fresh bool // set up just now
	// problems says why a device is not in service, by position; "" if it is.
	problems []string
}

// openSolo reads what the directories say, or sets them up if all are empty.
// spec is the policy that was asked for, "" if none was.
func openSolo(dirs []string, spec string) (*solo, error) {
	const op = "node.Open"
	dirs, err := cleanDirs(dirs)
	if err != nil {
		return nil, err
	}
	st, err := newestState(dirs)
	if err != nil {
		return nil, err
	}
	if st == nil {
		return setUp(dirs, spec)
	}
	if len(dirs) != len(st.Devices) {
		return nil, errs.New(op, errs.Invalid,
			"this node was set up with %d directories and was given %d. Start it with the same ones, in the same order:\n\n    ringfort server %s\n",
			len(st.Devices), len(dirs), strings.Join(st.paths(), " "))
	}
	if spec != "" {
		want, err := policy.Parse(spec)
		if err != nil {
			return nil, err
		}
		if want.String() != st.Policy {
			return nil, errs.New(op, errs.Invalid, "this node keeps its objects under %s, which cannot be changed to %v in place: leave --policy out", st.Policy, want)
		}
	}
	s := &solo{state: st, problems: make([]string, len(dirs))}
	for i, dir := range dirs {
		if c, err := readClaim(dir); err == nil && c != nil && c.Cluster == st.Cluster {
			if err := c.checkPlacement(dir, st.placement()); err != nil {
				return nil, err
			}
		}
		if s.problems[i], err = st.check(i, dir, dirs); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// cleanDirs makes the directories absolute and refuses one that is given twice.
func cleanDirs(dirs []string) ([]string, error) {
	out := make([]string, len(dirs))
	seen := map[string]bool{}
	for i, d := range dirs {
		abs, err := filepath.Abs(d)
		if err != nil {
			return nil, err
		}
		if real, err := filepath.EvalSymlinks(abs); err == nil {
			abs = real
		}
		if seen[abs] {
			return nil, errs.New("node.Open", errs.Invalid, "directory %s is given twice", d)
		}
		seen[abs] = true
		out[i] = abs
	}
	if len(out) == 0 {
		return nil, errs.New("node.Open", errs.Invalid, "give at least one directory")
	}
	return out, nil
}

// placement returns the key of the placement hash.
func (st *state) placement() (k keyhash.Secret) {
	copy(k[:], st.Secret)
	return k
}

func (st *state) paths() []string {
	out := make([]string, len(st.Devices))
	for i, d := range st.Devices {
		out[i] = d.Path
	}
	return out
}

// check says why the device at position i is not in service, and refuses
// directories that stand in each other's place.
func (st *state) check(i int, dir string, dirs []string) (string, error) {
	d := st.Devices[i]
	why, _ := problem(dir, &claim{Cluster: st.Cluster, UUID: d.UUID, Mount: d.Mount})
	if why != "" {
		return why, nil
	}
	c, err := readClaim(dir)
	if err != nil {
		return "", err
	}
	if c.UUID == d.UUID {
		return "", nil
	}
	for j, other := range st.Devices {
		if other.UUID == c.UUID {
			return "", errs.New("node.Open", errs.Invalid,
				"%s is directory %d of this node and was given as directory %d. Give the directories in their order:\n\n    ringfort server %s\n",
				dir, j+1, i+1, strings.Join(st.inOrder(dirs), " "))
		}
	}
	return fmt.Sprintf("it holds device %v and not %v", c.UUID, d.UUID), nil
}

// inOrder sorts the given directories as they were at set-up.
func (st *state) inOrder(dirs []string) []string {
	out := st.paths()
	for _, dir := range dirs {
		if c, err := readClaim(dir); err == nil && c != nil {
			for i, d := range st.Devices {
				if d.UUID == c.UUID {
					out[i] = dir
				}
			}
		}
	}
	return out
}

// setUp claims empty directories for a new cluster of one node. All claims stand
// before the first copy of the state: a set-up that was cut short before leaves
// claims without data, which are made again, and one cut short after is complete.
func setUp(dirs []string, spec string) (*solo, error) {
	const op = "node.Open"
	p := policy.Default(len(dirs))
	if spec != "" {
		var err error
		if p, err = policy.Parse(spec); err != nil {
			return nil, err
		}
	}
	if p.Fragments() > len(dirs) {
		return nil, errs.New(op, errs.Invalid, "%v needs %d directories, each on a disk of its own; %d were given", p, p.Fragments(), len(dirs))
	}
	for _, dir := range dirs {
		c, err := readClaim(dir)
		if err != nil {
			return nil, err
		}
		if c != nil && exists(filepath.Join(dir, "volume")) {
			return nil, errs.New(op, errs.Corrupt, "%s is claimed as a device of cluster %s, but no directory has the node's state (%s)", dir, c.Cluster, stateFile)
		}
	}
	secret := keyhash.Secret{}
	copy(secret[:], newKey(32))
	st := &state{
		Serial: 1, Cluster: newID(), Secret: secret[:], Tokens: []byte(newKey(32)), Policy: p.String(),
		Root: rootKeys{AccessKey: newKey(20), Secret: newKey(40)}, Created: time.Now().UTC(),
	}
	for i, dir := range dirs {
		c := &claim{Cluster: st.Cluster, UUID: newUUID(), Placement: placementCheck(secret)}
		if err := writeClaim(dir, c); err != nil {
			return nil, err
		}
		st.Devices = append(st.Devices, deviceState{ID: ring.DeviceID(i + 1), UUID: c.UUID, Path: dir, Mount: c.Mount})
	}
	if err := st.makeRings(p); err != nil {
		return nil, err
	}
	for _, dir := range dirs {
		if err := writeState(dir, st); err != nil {
			return nil, err
		}
	}
	return &solo{state: st, fresh: true, problems: make([]string, len(dirs))}, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !os.IsNotExist(err)
}

// soloNode is the name of a node that is a cluster by itself.
const soloNode = "solo"

func (st *state) makeRings(p policy.Spec) error {
	devices := make([]ring.Device, len(st.Devices))
	for i, d := range st.Devices {
		devices[i] = ring.Device{ID: d.ID, UUID: d.UUID, Node: soloNode, Weight: 1}
	}
	st.Rings = map[string][]byte{}
	listings := min(listingReplicas, len(devices))
	for name, replicas := range map[string]int{"account": listings, "container": listings, "object-0": p.Fragments()} {
		seed := uint64(len(name)) // any will do, as long as it is the same again
		r, err := builder.Simple(devices, replicas, soloPower, seed)
		if err != nil {
			return errs.Wrap("node.Open", errs.Other, err)
		}
		st.Rings[name] = r.Encode()
	}
	return nil
}

// rings decodes the state's rings.
func (st *state) rings() (*Rings, error) {
	p, err := policy.Parse(st.Policy)
	if err != nil {
		return nil, err
	}
	out := &Rings{}
	object := RingPolicy{Name: DefaultPolicy, Spec: p, Default: true}
	for name, to := range map[string]**ring.Ring{"account": &out.Account, "container": &out.Container, "object-0": &object.Ring} {
		if *to, err = ring.Decode(st.Rings[name]); err != nil {
			return nil, errs.Wrap("node.Open", errs.Corrupt, err)
		}
	}
	out.Policies = []RingPolicy{object}
	return out, out.Validate()
}

// DefaultPolicy is the name of the policy that a node by itself has.
const DefaultPolicy = "default"
