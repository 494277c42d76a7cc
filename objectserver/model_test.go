package objectserver

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/peer"
	"ringfort/internal/register"
	"ringfort/internal/timestamp"
)

var (
	modelSeeds = flag.Int("objectserver.seeds", 60, "how many seeds TestModel tries")
	modelSeed  = flag.Uint64("objectserver.seed", 0, "the one seed that TestModel tries, 0: many")
)

// TestModel stores objects, replaces them, settles, clears and drops, with the
// power cut at any file operation. An acknowledged object is there until it was
// replaced by a settled one or dropped; in the end nothing is left that nobody
// names.
func TestModel(t *testing.T) {
	first, n := uint64(1), *modelSeeds
	if *modelSeed != 0 {
		first, n = *modelSeed, 1
	} else if testing.Short() {
		n = min(n, 20)
	}
	for seed := first; seed < first+uint64(n) && !t.Failed(); seed++ {
		m := &model{device: newDevice(t), seed: seed, rng: rand.New(rand.NewPCG(seed, 3)), keys: make([]modelKey, 4)}
		for range 3 + m.rng.IntN(4) {
			m.cycle()
		}
		m.end()
		if err := m.vol.Close(); err != nil {
			m.failf("close: %v", err)
		}
	}
}

type model struct {
	*device
	seed uint64
	rng  *rand.Rand
	keys []modelKey
}

// modelKey is what should be known of one key.
type modelKey struct {
	// blobs are those acknowledged and not known to be dropped.
	blobs []modelBlob
	// record is the newest acknowledged one; maybe is one whose outcome a power cut
	// has left open.
	record, maybe *register.Record
}

type modelBlob struct {
	h    *peer.FragmentHeader
	data []byte
}

func (m *model) failf(format string, args ...any) {
	m.t.Helper()
	m.t.Errorf("seed %d: %s\nrepeat with: go test ./objectserver -run TestModel -objectserver.seed=%d", m.seed, fmt.Sprintf(format, args...), m.seed)
}

// cycle works until the power is cut, and looks at what is left.
func (m *model) cycle() {
	m.fs.CutAt(m.fs.Count()+1+m.rng.IntN(1<<(2+m.rng.IntN(8))), m.rng.IntN(2) == 0)
	for range 40 {
		if m.step(); m.fs.IsCut() {
			break
		}
	}
	m.cut(m.rng)
	m.check()
}

func (m *model) owner(i int) keyhash.Hash { return keyhash.Hash{byte(i), 1} }

func (m *model) step() {
	i := m.rng.IntN(len(m.keys))
	k, owner := &m.keys[i], m.owner(i)
	switch m.rng.IntN(8) {
	case 0: // a fragment that no record will name, dropped by its writer
		h := header(owner, m.clock.Now(), 0, -1)
		if m.store(h, make([]byte, m.rng.IntN(2*testPackMax))) == nil {
			m.err(m.s.DropBlobs(context.Background(), owner, append(ids(h), ids(header(owner, h.ID.Group, 3, 0))...)))
		}
	case 1:
		if k.record != nil {
			m.settle(owner, k.record)
		}
	case 2:
		m.now = m.now.Add(time.Duration(m.rng.Int64N(int64(2 * time.Minute))))
		_, err := m.s.Clear(context.Background(), 1+m.rng.IntN(5))
		m.err(err)
	case 3:
		_, err := m.s.Prepare(context.Background(), owner, m.clock.Now(), timestamp.T{})
		m.err(err)
	default:
		m.put(k, owner)
	}
}

// err reports an error that no power cut explains.
func (m *model) err(err error) {
	m.t.Helper()
	if err != nil && !m.fs.IsCut() {
		m.failf("%v", err)
	}
}

// put stores an object of one or two blobs, and then the record that names them.
func (m *model) put(k *modelKey, owner keyhash.Hash) {
	group := m.clock.Now()
	for part := range 1 + m.rng.IntN(2) {
		b := modelBlob{header(owner, group, uint32(part), -1), randomBytes(m.rng, m.rng.IntN(3*testPackMax))}
		if m.rng.IntN(2) == 0 {
			b.h.Size = int64(len(b.data))
		}
		if err := m.store(b.h, b.data); err != nil {
			m.err(err)
			return
		}
		k.blobs = append(k.blobs, b)
	}
	r := m.record(group)
	a, err := m.s.Write(context.Background(), owner, r)
	switch {
	case err != nil:
		m.err(err)
		k.maybe = r
	case !a.Accepted:
		m.failf("refused: %+v", a)
	default:
		k.record = r
	}
}

// check looks at each key after a power cut: its record is the acknowledged one or
// the one that was being written, and that one's bytes are there.
func (m *model) check() {
	for i := range m.keys {
		k := &m.keys[i]
		st, err := m.s.Read(m.owner(i), false)
		if err != nil {
			m.failf("key %d: %v", i, err)
			continue
		}
		if k.maybe != nil && st.Ballot() == k.maybe.Ballot {
			k.record = k.maybe
		}
		k.maybe = nil
		if (st.Record == nil) != (k.record == nil) || st.Record != nil && (st.Record.Ballot != k.record.Ballot || st.Record.Group != k.record.Group) {
			m.failf("key %d: %+v is there, not %+v", i, st.Record, k.record)
			continue
		}
		if k.record != nil {
			m.readBack(k, k.record.Group)
		}
	}
}

func (m *model) readBack(k *modelKey, group timestamp.T) {
	for _, b := range k.blobs {
		if b.h.ID.Group != group {
			continue
		}
		got, err := m.fetch(nameIn(b.h), 0, int64(len(b.data)))
		if err != nil || !bytes.Equal(got, b.data) {
			m.failf("%v: %d of %d bytes, %v", b.h.ID, len(got), len(b.data), err)
		}
	}
}

// end settles everything, sweeps what is suspect, and expects that just what the
// records name is left.
func (m *model) end() {
	for i := range m.keys {
		if r := m.keys[i].record; r != nil {
			m.settle(m.owner(i), r)
		}
	}
	m.clear()
	named := func(owner keyhash.Hash, group timestamp.T) bool {
		return slices.ContainsFunc(m.keys, func(k modelKey) bool { return k.record != nil && k.record.Group == group })
	}
	// What the sweeper would do, and the search for orphans.
	for _, f := range m.listed() {
		g := Group{f.Name.Owner, f.Name.Blob.Group}
		if named(g.Owner, g.Group) {
			continue
		}
		if err := m.s.DropGroup(context.Background(), g.Owner, g.Group); err != nil {
			m.failf("%v", err)
		}
		m.s.Acquit(g)
	}
	if _, err := m.s.Reconcile(context.Background(), time.Now().Add(time.Hour)); err != nil {
		m.failf("%v", err)
	}
	m.restart()
	m.check()
	for _, f := range m.listed() {
		if !named(f.Name.Owner, f.Name.Blob.Group) {
			m.failf("left behind: %+v", f)
		}
	}
	if n, err := m.s.Reconcile(context.Background(), time.Now().Add(time.Hour)); err != nil || n != 0 {
		m.failf("%d files without an entry came to be, %v", n, err)
	}
	if lent, _ := m.s.cfg.Buffers.Usage(); lent != 0 {
		m.failf("%d bytes of lent memory were not given back", lent)
	}
	notes := 0
	if err := m.s.Notes(keyhash.Hash{}, 1<<62, func(keyhash.Hash, register.Note) bool { notes++; return true }); err != nil || notes != 0 {
		m.failf("%d notes of settled records, %v", notes, err)
	}
	if _, err := m.fetch(nameIn(header(keyhash.Hash{99}, m.clock.Now(), 0, 0)), 0, 0); !errs.Is(err, errs.NotFound) {
		m.failf("%v", err)
	}
}
