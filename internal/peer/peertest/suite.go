package peertest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"

	"ringfort/internal/blob"
	"ringfort/internal/catalog"
	"ringfort/internal/catalog/catalogtest"
	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/peer"
	"ringfort/internal/register"
	"ringfort/internal/timestamp"
	"ringfort/ring"
)

// Suite is the conformance suite of peer.Node. It asks only for what the
// interface promises and uses names of its own, so it may run on a node that
// holds other things.
type Suite struct {
	// Open returns the node under test; it is called once.
	Open func(t *testing.T) peer.Node
	// Target says how to address a key of a service on the suite's device. Nil:
	// device 1, epoch 0, the partition of 2^8 that the key's prefix names.
	Target func(s peer.Service, key keyhash.Hash) peer.Target
	// Seed makes the suite's names and bytes; 0 draws one. It is printed.
	Seed uint64
}

// Run runs the suite with its defaults.
func Run(t *testing.T, open func(t *testing.T) peer.Node) { Suite{Open: open}.Run(t) }

// Run runs the suite.
func (s Suite) Run(t *testing.T) {
	x := newSuite(s, t)
	for _, c := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"AbsentKey", x.absentKey},
		{"WriteAndRead", x.writeAndRead},
		{"WriteIsOrdered", x.writeIsOrdered},
		{"Prepare", x.prepare},
		{"BareRecord", x.bareRecord},
		{"OnePolicy", x.onePolicy},
		{"BadRecord", x.badRecord},
		{"Lineage", x.lineage},
		{"Sweep", x.sweep},
		{"Tombstone", x.tombstone},
		{"ServicesAreApart", x.servicesAreApart},
		{"Settle", x.settle},
		{"Leases", x.leases},
		{"RowsNeedTheirContainer", x.rowsNeedTheirContainer},
		{"NewestRowStands", x.newestRowStands},
		{"Pages", x.pages},
		{"CommonPrefixes", x.commonPrefixes},
		{"MarkerIsCommonPrefix", x.markerIsCommonPrefix},
		{"ManyLongRows", x.manyLongRows},
		{"AccountRows", x.accountRows},
		{"Fragments", x.fragments},
		{"FragmentRanges", x.fragmentRanges},
		{"FragmentAbort", x.fragmentAbort},
		{"FragmentSizeUnknown", x.fragmentSizeUnknown},
		{"DropBlobs", x.dropBlobs},
		{"EndedContext", x.endedContext},
		{"Concurrency", x.concurrency},
		{"Status", x.status},
	} {
		t.Run(c.name, c.run)
	}
}

type suite struct {
	Suite
	node  peer.Node
	rand  *rand.Rand
	clock *timestamp.Clock
}

func newSuite(s Suite, t *testing.T) *suite {
	if s.Target == nil {
		s.Target = func(_ peer.Service, key keyhash.Hash) peer.Target {
			return peer.Target{Device: 1, Partition: ring.Partition(key.Prefix(8))}
		}
	}
	for s.Seed == 0 {
		s.Seed = rand.Uint64()
	}
	t.Logf("seed %d", s.Seed)
	return &suite{
		Suite: s, node: s.Open(t), rand: rand.New(rand.NewPCG(s.Seed, 1)),
		clock: timestamp.NewClock(timestamp.NewWriter(), nil),
	}
}

// limit bounds every call of the suite: a node that hangs fails its test.
const limit = 20 * time.Second

func (x *suite) ctx(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

func (x *suite) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(x.rand.Uint32())
	}
	return b
}

func (x *suite) key() (k keyhash.Hash) {
	copy(k[:], x.bytes(len(k)))
	return k
}

// object is a key of the object service, and its record's value.
type object struct {
	key    keyhash.Hash
	target peer.Target
	value  []byte
}

func (x *suite) object() object {
	k := x.key()
	o := catalog.Object{
		ContainerAccount: "account", Container: "container", Incarnation: catalog.Incarnation{1},
		Name: "object " + k.String(), ETag: "d41d8cd98f00b204e9800998ecf8427e", TS: x.clock.Now(),
	}
	return object{k, x.Target(peer.Objects, k), catalogtest.Bytes(&o)}
}

// blind is a record as an unconditional write makes it.
func (x *suite) blind(value, data []byte) *register.Record {
	ts := x.clock.Now()
	r := &register.Record{Ballot: ts, TS: ts, Op: ts, Root: ts, Mod: ts, Value: value}
	if len(data) > 0 {
		r.Data, r.DataLen, r.DataSum = data, len(data), xxhash.Sum64(data)
	}
	return r
}

// write writes a record and fails the test unless the outcome is as wanted.
func (x *suite) write(t *testing.T, o object, r *register.Record, accepted bool) register.Answer {
	t.Helper()
	a, err := x.node.Write(x.ctx(t), o.target, peer.Objects, o.key, r)
	if err != nil {
		t.Fatalf("Write: %v", err)
	}
	if a.Accepted != accepted {
		t.Fatalf("Write at %v: accepted %v, state %+v", r.Ballot, a.Accepted, a.State)
	}
	return a
}

func (x *suite) read(t *testing.T, o object, data bool) register.State {
	t.Helper()
	s, err := x.node.Read(x.ctx(t), o.target, peer.Objects, o.key, data)
	if err != nil {
		t.Fatalf("Read: %v", err)
	}
	return s
}

func wantKind(t *testing.T, err error, kind errs.Kind) {
	t.Helper()
	if !errs.Is(err, kind) {
		t.Fatalf("got %v (%v), want %v", err, errs.KindOf(err), kind)
	}
}

// sameRecord compares records; the data only if want has it.
func sameRecord(got, want *register.Record) error {
	switch {
	case got == nil:
		return fmt.Errorf("no record")
	case got.Ballot != want.Ballot || got.TS != want.TS || got.Op != want.Op || got.Root != want.Root || got.Mod != want.Mod:
		return fmt.Errorf("timestamps differ: %+v, want %+v", got, want)
	case fmt.Sprint(got.Chain) != fmt.Sprint(want.Chain):
		return fmt.Errorf("chain is %v, want %v", got.Chain, want.Chain)
	case got.Tombstone != want.Tombstone || got.Group != want.Group || got.Epoch != want.Epoch:
		return fmt.Errorf("got %+v, want %+v", got, want)
	case string(got.Value) != string(want.Value):
		return fmt.Errorf("the values differ (%d and %d bytes)", len(got.Value), len(want.Value))
	case got.DataLen != want.DataLen || got.DataSum != want.DataSum:
		return fmt.Errorf("data of %d bytes and sum %x, want %d and %x", got.DataLen, got.DataSum, want.DataLen, want.DataSum)
	case want.Data != nil && string(got.Data) != string(want.Data):
		return fmt.Errorf("the data differ (%d and %d bytes)", len(got.Data), len(want.Data))
	}
	return nil
}

func (x *suite) blobID() blob.ID { return blob.ID{Group: x.clock.Now(), Attempt: x.rand.Uint64()} }
