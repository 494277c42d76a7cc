package objectserver

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"

	"ringfort/internal/blob"
	"ringfort/internal/catalog"
	"ringfort/internal/erasure"
	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/peer"
	"ringfort/internal/register"
	"ringfort/internal/timestamp"
	"ringfort/internal/vfs/faultfs"
	"ringfort/internal/volume"
	"ringfort/objectserver/fragfile"
)

const testPackMax = 8 << 10

// device is a server on a disk in memory, whose power can be cut.
type device struct {
	t     testing.TB
	mem   *faultfs.Mem
	fs    *faultfs.FS
	vol   *volume.Volume
	s     *Server
	clock *timestamp.Clock
	now   time.Time
}

func newDevice(t testing.TB) *device {
	d := &device{t: t, mem: faultfs.NewMem(), clock: timestamp.NewClock(1, nil), now: time.UnixMicro(1e15)}
	d.open()
	t.Cleanup(func() { d.vol.Close() })
	return d
}

// open opens the device on its disk; it reports false if the power was cut on the way.
func (d *device) open() bool {
	d.t.Helper()
	d.fs = faultfs.Wrap(d.mem)
	return d.start()
}

func (d *device) start() bool {
	d.t.Helper()
	var err error
	d.vol, err = volume.Open(context.Background(), testVolume(d))
	if err == nil {
		d.s, err = Open(context.Background(), Config{
			Volume: d.vol, FS: d.fs, Dir: "/files", PackMax: testPackMax, Grace: time.Minute,
			Now: func() time.Time { return d.now },
		})
		if err != nil {
			d.vol.Close()
		}
	}
	if err != nil && !d.fs.IsCut() {
		d.t.Fatal(err)
	}
	return err == nil
}

func (d *device) restart() {
	d.t.Helper()
	if err := d.vol.Close(); err != nil && !d.fs.IsCut() {
		d.t.Fatal(err)
	}
	d.open()
}

// cut cuts the power and opens what is left.
func (d *device) cut(rng *rand.Rand) {
	d.t.Helper()
	d.fs.Cut()
	d.vol.Close()
	d.mem = d.mem.Crash(rng)
	d.open()
}

// testPolicy is the policy of all fragments here.
const testPolicy = 9

func header(owner keyhash.Hash, group timestamp.T, part uint32, size int64) *peer.FragmentHeader {
	return &peer.FragmentHeader{
		Owner: owner, ID: blob.ID{Group: group, Part: part, Attempt: 1},
		Coding: catalog.Coding{K: 1, M: 1, BlockSize: 4096}, Size: size,
	}
}

func nameIn(h *peer.FragmentHeader) peer.FragmentName {
	return peer.FragmentName{Owner: h.Owner, ID: h.ID, Index: h.Index}
}

func randomBytes(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// store writes a fragment in pieces.
func (d *device) store(h *peer.FragmentHeader, data []byte) error {
	w, err := d.s.CreateFragment(context.Background(), testPolicy, h)
	if err != nil {
		return err
	}
	for rest := data; len(rest) > 0; {
		n := min(len(rest), 5000)
		if _, err := w.Write(rest[:n]); err != nil {
			w.Abort()
			return err
		}
		rest = rest[n:]
	}
	return w.Commit(context.Background(), int64(len(data)))
}

func (d *device) fetch(n peer.FragmentName, off, length int64) ([]byte, error) {
	r, err := d.s.OpenFragment(context.Background(), n, off, length)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// listed returns the groups of an owner's fragments in the index.
func (d *device) listed() (list []Fragment) {
	d.t.Helper()
	if err := d.s.Fragments(nil, func(_ []byte, f Fragment) bool { list = append(list, f); return true }); err != nil {
		d.t.Fatal(err)
	}
	return list
}

func (d *device) write(owner keyhash.Hash, group timestamp.T) *register.Record {
	d.t.Helper()
	r := d.record(group)
	a, err := d.s.Write(context.Background(), owner, r)
	if err != nil || !a.Accepted {
		d.t.Fatalf("%+v, %v", a, err)
	}
	return r
}

func (d *device) record(group timestamp.T) *register.Record {
	ts := d.clock.Now()
	return &register.Record{Ballot: ts, TS: ts, Op: ts, Root: ts, Mod: ts, Group: group, Value: []byte("v")}
}

func (d *device) settle(owner keyhash.Hash, r *register.Record) {
	d.s.Settle([]register.Settled{{Key: owner, Ballot: r.Ballot}})
	// Lazy: a commit behind it in the queue says when it is done.
	b := d.vol.NewBatch(volume.Meta)
	b.Delete(spaceSuspects, []byte("none"), volume.Ref{})
	if err := d.vol.Commit(context.Background(), b); err != nil && !d.fs.IsCut() {
		d.t.Fatal(err)
	}
}

func (d *device) suspects() (list []timestamp.T) {
	d.t.Helper()
	if err := d.s.Suspects(func(g Group) bool { list = append(list, g.Group); return true }); err != nil {
		d.t.Fatal(err)
	}
	return list
}

// clear lets an hour pass and deletes what is due.
func (d *device) clear() int {
	d.t.Helper()
	d.now = d.now.Add(time.Hour)
	n, err := d.s.Clear(context.Background(), 1000)
	if err != nil {
		d.t.Fatal(err)
	}
	return n
}

func ids(h *peer.FragmentHeader) []blob.ID { return []blob.ID{h.ID} }

func TestFragments(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	d := newDevice(t)
	var want [][]byte
	var names []*peer.FragmentHeader
	for i, n := range []int{0, 1, 4095, 4096, testPackMax, testPackMax + 1, 40_000, 100_000} {
		for _, known := range []bool{true, false} {
			data := randomBytes(rng, n)
			h := header(keyhash.Hash{byte(i)}, d.clock.Now(), 0, -1)
			if known {
				h.Size = int64(n)
			}
			if err := d.store(h, data); err != nil {
				t.Fatalf("%d bytes, known %v: %v", n, known, err)
			}
			names, want = append(names, h), append(want, data)
		}
	}
	check := func() {
		t.Helper()
		for i, h := range names {
			n := int64(len(want[i]))
			for range 4 {
				off := rng.Int64N(n + 1)
				length := rng.Int64N(n - off + 1)
				if rng.IntN(3) == 0 {
					off, length = 0, n
				}
				got, err := d.fetch(nameIn(h), off, length)
				if err != nil || !bytes.Equal(got, want[i][off:off+length]) {
					t.Errorf("fragment of %d bytes, [%d, +%d): %d bytes, %v", n, off, length, len(got), err)
				}
			}
			if _, err := d.fetch(nameIn(h), n+1, 1); !errs.Is(err, errs.BadRange) {
				t.Errorf("beyond the end: %v", err)
			}
		}
		list := d.listed()
		if len(list) != len(names) {
			t.Fatalf("%d of %d fragments are listed", len(list), len(names))
		}
		for _, f := range list {
			i := slices.IndexFunc(names, func(h *peer.FragmentHeader) bool {
				name, err := nameOf(nameIn(h))
				return err == nil && name == f.Name
			})
			if i < 0 || f.File != (len(want[i]) > testPackMax) || f.Size != int64(len(want[i])) || f.Policy != testPolicy || f.Coding.K != 1 || f.Coding.M != 1 {
				t.Errorf("%+v", f)
			}
		}
	}
	check()
	d.restart()
	check()
	d.cut(rng)
	check()
	if n, err := d.s.Reconcile(context.Background(), time.Now().Add(time.Hour)); err != nil || n != 0 {
		t.Errorf("Reconcile deleted %d files, %v", n, err)
	}
	for _, h := range names {
		if err := d.s.DropBlobs(context.Background(), h.Owner, []blob.ID{h.ID, {Group: h.ID.Group, Part: 5}}); err != nil {
			t.Fatal(err)
		}
		if _, err := d.fetch(nameIn(h), 0, 1); !errs.Is(err, errs.NotFound) {
			t.Errorf("after DropBlobs: %v", err)
		}
	}
	if l := d.listed(); len(l) != 0 {
		t.Errorf("%d fragments are left", len(l))
	}
	if n, err := d.s.Reconcile(context.Background(), time.Now().Add(time.Hour)); err != nil || n != 0 {
		t.Errorf("DropBlobs left %d files, %v", n, err)
	}
}

func TestBadFragments(t *testing.T) {
	d := newDevice(t)
	ctx := context.Background()
	h := header(keyhash.Hash{1}, d.clock.Now(), 0, 100)
	for _, c := range []struct {
		name string
		bend func(h *peer.FragmentHeader)
	}{
		{"index", func(h *peer.FragmentHeader) { h.Index = 2 }},
		{"negative index", func(h *peer.FragmentHeader) { h.Index = -1 }},
		{"block size", func(h *peer.FragmentHeader) { h.Coding.BlockSize = 5 }},
		{"no data", func(h *peer.FragmentHeader) { h.Coding.K = 0 }},
	} {
		bad := *h
		c.bend(&bad)
		if _, err := d.s.CreateFragment(ctx, testPolicy, &bad); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := d.fetch(nameIn(h), 0, 1); !errs.Is(err, errs.NotFound) {
		t.Errorf("absent: %v", err)
	}
	// What does not have the stated length is not stored.
	for _, n := range []int64{100, 20_000} {
		h := header(keyhash.Hash{2}, d.clock.Now(), 0, n)
		w, err := d.s.CreateFragment(ctx, testPolicy, h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, n-1)); err != nil {
			t.Fatal(err)
		}
		if err := w.Commit(ctx, n); err == nil {
			t.Errorf("a fragment that is a byte short of %d is stored", n)
		}
		w.Abort()
		w, err = d.s.CreateFragment(ctx, testPolicy, h)
		if err != nil {
			t.Fatal(err)
		}
		w.Write(make([]byte, n))
		w.Abort()
		if _, err := d.fetch(nameIn(h), 0, 1); !errs.Is(err, errs.NotFound) {
			t.Errorf("an aborted fragment can be read: %v", err)
		}
	}
	if n, err := d.s.Reconcile(ctx, time.Now().Add(time.Hour)); err != nil || n != 0 || len(d.listed()) != 0 {
		t.Errorf("%d files and %d entries are left, %v", n, len(d.listed()), err)
	}
	if lent, _ := d.s.cfg.Buffers.Usage(); lent != 0 {
		t.Errorf("%d bytes of lent memory were not given back", lent)
	}
}

// One who opens uploads and sends nothing holds no memory, what is sent holds as much
// as it may and no more, and all of it is given back.
func TestPackMemory(t *testing.T) {
	d := newDevice(t)
	ctx := context.Background()
	d.s.cfg.Buffers, d.s.cfg.PackMemory = erasure.NewPool(1), 10*testPackMax
	for _, size := range []int64{testPackMax, -1} { // known and unknown
		var open []peer.FragmentWriter
		begin := func() peer.FragmentWriter {
			w, err := d.s.CreateFragment(ctx, testPolicy, header(keyhash.Hash{1}, d.clock.Now(), uint32(len(open)), size))
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, w)
			return w
		}
		for range 1000 {
			begin()
		}
		if n := d.s.packed.Load(); n != 0 {
			t.Fatalf("fragments that nobody sends hold %d bytes", n)
		}
		var err error
		written := 0
		for ; err == nil && written < 20; written++ {
			_, err = begin().Write(make([]byte, testPackMax))
		}
		if !errs.Is(err, errs.Busy) || written < 4 || d.s.packed.Load() > d.s.cfg.PackMemory {
			t.Errorf("after %d fragments of %d bytes: %v, %d bytes are held", written, testPackMax, err, d.s.packed.Load())
		}
		for _, w := range open {
			w.Abort()
		}
		if n := d.s.packed.Load(); n != 0 {
			t.Errorf("%d bytes were not given back", n)
		}
	}
}

// A group's fragments go, and those of its neighbours stay.
func TestDropGroup(t *testing.T) {
	d := newDevice(t)
	owner, other := keyhash.Hash{1}, keyhash.Hash{2}
	g, g2 := d.clock.Now(), d.clock.Now()
	for _, h := range []*peer.FragmentHeader{
		header(owner, g, 1, 10), header(owner, g, 2, 20_000), header(owner, g2, 1, 10), header(other, g, 1, 20_000),
	} {
		if err := d.store(h, make([]byte, h.Size)); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // again does no harm
		if err := d.s.DropGroup(context.Background(), owner, g); err != nil {
			t.Fatal(err)
		}
		if l := d.listed(); len(l) != 2 || l[0].Name.Blob.Group != g2 || l[1].Name.Owner != other {
			t.Fatalf("%+v", l)
		}
	}
	if p, found, err := d.s.PolicyOf(Group{other, g}); err != nil || !found || p != testPolicy {
		t.Errorf("PolicyOf: %d, %v, %v", p, found, err)
	}
	if _, found, err := d.s.PolicyOf(Group{owner, g}); err != nil || found {
		t.Errorf("PolicyOf what was dropped: %v, %v", found, err)
	}
}

// What a settled record replaced goes when the grace is over, and not before; what
// it may have replaced becomes a suspect and stays.
func TestGarbage(t *testing.T) {
	for _, size := range []int64{100, 30_000} {
		d := newDevice(t)
		owner := keyhash.Hash{7}
		var g []timestamp.T
		for range 4 {
			h := header(owner, d.clock.Now(), 0, size)
			if err := d.store(h, make([]byte, size)); err != nil {
				t.Fatal(err)
			}
			g = append(g, h.ID.Group)
		}
		d.settle(owner, d.write(owner, g[0]))
		d.write(owner, g[1]) // never settled
		if n := d.clear(); n != 0 || len(d.listed()) != 4 {
			t.Fatalf("%d groups were deleted before anything replaced them for certain", n)
		}
		last := d.write(owner, g[2])
		d.settle(owner, d.record(timestamp.T{})) // of a record that is not there
		if n := d.clear(); n != 0 {
			t.Fatalf("%d groups were deleted on another record's word", n)
		}
		d.settle(owner, last)
		if n, err := d.s.Clear(context.Background(), 10); err != nil || n != 0 {
			t.Fatalf("%d groups were deleted within the grace, %v", n, err)
		}
		d.restart()
		if n := d.clear(); n != 1 {
			t.Fatalf("%d groups were deleted, not the one that was replaced", n)
		}
		if s := d.suspects(); !slices.Equal(s, []timestamp.T{g[1]}) {
			t.Errorf("suspects: %v", s)
		}
		var left []timestamp.T
		for _, f := range d.listed() {
			left = append(left, f.Name.Blob.Group)
		}
		if !slices.Equal(left, g[1:]) {
			t.Errorf("left: %v", left)
		}
		d.s.Acquit(Group{owner, g[1]})
		d.restart()
		if s := d.suspects(); len(s) != 0 {
			t.Errorf("acquitted, and still a suspect: %v", s)
		}
		if n := d.clear(); n != 0 {
			t.Errorf("%d groups were deleted twice", n)
		}
	}
}

// A record that comes bare was chosen: what it replaced is given up with it.
func TestBareRecordGivesUp(t *testing.T) {
	d := newDevice(t)
	owner := keyhash.Hash{7}
	h := header(owner, d.clock.Now(), 0, 100)
	if err := d.store(h, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	d.settle(owner, d.write(owner, h.ID.Group))
	r := d.record(timestamp.T{})
	r.DataLen, r.DataSum = 5, xxhash.Sum64String("bytes")
	if a, err := d.s.Write(context.Background(), owner, r); err != nil || !a.Accepted || !a.State.Committed || a.State.Held {
		t.Fatalf("%+v, %v", a, err)
	}
	d.restart()
	if st, err := d.s.Read(owner, true); err != nil || !st.Committed || st.Held || st.Record.Data != nil {
		t.Errorf("%+v, %v", st, err)
	}
	if n := d.clear(); n != 1 || len(d.listed()) != 0 {
		t.Errorf("%d groups deleted, %d fragments left", n, len(d.listed()))
	}
	notes := 0
	if err := d.s.Notes(keyhash.Hash{}, 1<<62, func(keyhash.Hash, register.Note) bool { notes++; return true }); err != nil || notes != 0 {
		t.Errorf("%d notes, %v", notes, err)
	}
	// The bytes may still come, and change nothing else.
	full := *r
	full.Data = []byte("bytes")
	if a, err := d.s.Write(context.Background(), owner, &full); err != nil || !a.Accepted || !a.State.Committed || !a.State.Held {
		t.Errorf("%+v, %v", a, err)
	}
	if st, err := d.s.Read(owner, true); err != nil || string(st.Record.Data) != "bytes" || !st.Committed {
		t.Errorf("%+v, %v", st, err)
	}
}

// The rules of a register survive the power being cut.
func TestRegisterSurvives(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	d := newDevice(t)
	key, ctx := keyhash.Hash{3}, context.Background()
	r := d.record(timestamp.T{})
	r.Data = randomBytes(rng, 3000)
	r.DataLen, r.DataSum = len(r.Data), xxhash.Sum64(r.Data)
	if a, err := d.s.Write(ctx, key, r); err != nil || !a.Accepted {
		t.Fatalf("%+v, %v", a, err)
	}
	late, group := d.record(timestamp.T{}), d.clock.Now()
	promise := d.clock.Now()
	if a, err := d.s.Prepare(ctx, key, promise, group); err != nil || !a.Accepted {
		t.Fatalf("%+v, %v", a, err)
	}
	d.cut(rng)
	if st, err := d.s.Read(key, true); err != nil || st.Promised != promise || !bytes.Equal(st.Record.Data, r.Data) || st.Committed || !st.Swept.Has(group) {
		t.Fatalf("%+v, %v", st, err)
	}
	if a, err := d.s.Write(ctx, key, late); err != nil || a.Accepted {
		t.Errorf("accepted below the promise: %+v, %v", a, err)
	}
	if a, err := d.s.Write(ctx, key, d.record(group)); err != nil || a.Accepted || !a.Swept {
		t.Errorf("accepted a swept group: %+v, %v", a, err)
	}
	n := 0
	if err := d.s.Notes(keyhash.Hash{}, d.now.UnixMicro(), func(k keyhash.Hash, note register.Note) bool {
		n++
		if k != key || note.Ballot != r.Ballot {
			t.Errorf("%v: %+v", k, note)
		}
		return true
	}); err != nil || n != 1 {
		t.Errorf("%d notes, %v", n, err)
	}
	d.settle(key, r)
	d.cut(rng)
	if st, err := d.s.Read(key, false); err != nil || !st.Committed || st.Promised != promise {
		t.Errorf("%+v, %v", st, err)
	}
}

// A file without an index entry goes only when it has been seen so for a while: it
// may be a part of an old upload whose entry is about to be written.
func TestReconcileWaits(t *testing.T) {
	d := newDevice(t)
	name := fragfile.Name{Owner: keyhash.Hash{7}, Blob: blob.ID{Group: d.clock.Now(), Part: 1, Attempt: 2}}
	w, err := d.s.files.Create(context.Background(), fragfile.Header{Name: name, K: 1, M: 0, BlockSize: 4096, Size: 10})
	if err != nil {
		t.Fatal(err)
	}
	w.Write(make([]byte, 10))
	if err := w.Commit(context.Background(), 10); err != nil {
		t.Fatal(err)
	}
	later := time.Now().Add(time.Hour)
	for i, want := range []int{0, 0, 1, 0} {
		if n, err := d.s.Reconcile(context.Background(), later); err != nil || n != want {
			t.Errorf("call %d deleted %d files, want %d: %v", i, n, want, err)
		}
		d.now = d.now.Add(strayAge * 2 / 3)
	}
}
