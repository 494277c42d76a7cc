package peertest

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"testing"

	"ringfort/internal/blob"
	"ringfort/internal/catalog"
	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/peer"
)

// wholeCopy is the coding under which a fragment's bytes are the blob's.
var wholeCopy = catalog.Coding{K: 1, M: 1, BlockSize: 64 << 10}

// fragment is one fragment and its place.
type fragment struct {
	target peer.Target
	header peer.FragmentHeader
}

func (x *suite) fragment(size int64) *fragment {
	k := x.key()
	return &fragment{x.Target(peer.Objects, k), peer.FragmentHeader{Owner: k, ID: x.blobID(), Coding: wholeCopy, Size: size}}
}

func (f *fragment) name() peer.FragmentName {
	return peer.FragmentName{Owner: f.header.Owner, ID: f.header.ID, Index: f.header.Index}
}

// put writes data in pieces of the given size.
func (x *suite) put(t *testing.T, f *fragment, data []byte, piece int) {
	t.Helper()
	w, err := x.node.CreateFragment(x.ctx(t), f.target, &f.header)
	if err != nil {
		t.Fatalf("CreateFragment: %v", err)
	}
	defer w.Abort()
	scratch := make([]byte, piece)
	for rest := data; len(rest) > 0; {
		n := copy(scratch, rest)
		rest = rest[n:]
		if m, err := w.Write(scratch[:n]); m != n || err != nil {
			t.Fatalf("Write of %d bytes: %d, %v", n, m, err)
		}
		clear(scratch) // it may be used again
	}
	if err := w.Commit(x.ctx(t), int64(len(data))); err != nil {
		t.Fatalf("Commit: %v", err)
	}
}

func (x *suite) get(t *testing.T, f *fragment, off, n int64) []byte {
	t.Helper()
	r, err := x.node.OpenFragment(x.ctx(t), f.target, f.name(), off, n)
	if err != nil {
		t.Fatalf("OpenFragment: %v", err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("reading a fragment: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	return b
}

func (x *suite) wantAbsent(t *testing.T, f *fragment) {
	t.Helper()
	r, err := x.node.OpenFragment(x.ctx(t), f.target, f.name(), 0, 10)
	if err == nil {
		r.Close()
	}
	wantKind(t, err, errs.NotFound)
}

func (x *suite) fragments(t *testing.T) {
	for _, c := range []struct{ size, piece int }{
		{0, 1}, {1, 1}, {1000, 7}, {64 << 10, 4 << 10}, {128 << 10, 128 << 10}, {300_000, 50_000},
		{1<<20 + 1, 1 << 20}, {3<<20 + 12345, 200_001}, {2 << 20, 4 << 20},
	} {
		t.Run(fmt.Sprintf("%d by %d", c.size, c.piece), func(t *testing.T) {
			f := x.fragment(int64(c.size))
			data := x.bytes(c.size)
			x.put(t, f, data, c.piece)
			if got := x.get(t, f, 0, int64(c.size)); !bytes.Equal(got, data) {
				t.Fatalf("%d bytes came back as %d others", len(data), len(got))
			}
		})
	}
	x.wantAbsent(t, x.fragment(0))
}

func (x *suite) fragmentRanges(t *testing.T) {
	const size = 700_000
	f := x.fragment(size)
	data := x.bytes(size)
	x.put(t, f, data, 100_000)
	for _, c := range []struct{ off, n int64 }{
		{0, 1}, {0, size}, {0, 1 << 40}, {size - 1, 1}, {size - 1, 100}, {65535, 2}, {65536, 65536}, {1, 0}, {123_457, 400_001},
	} {
		want := data[c.off:min(c.off+c.n, size)]
		if got := x.get(t, f, c.off, c.n); !bytes.Equal(got, want) {
			t.Errorf("%d bytes from %d: %d bytes, wrong ones", c.n, c.off, len(got))
		}
	}
	// A reader that is closed early, or twice, or read in tiny pieces.
	r, err := x.node.OpenFragment(x.ctx(t), f.target, f.name(), 10, size)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		var b [1]byte
		if n, err := r.Read(b[:]); n != 1 || err != nil || b[0] != data[10+i] {
			t.Fatalf("byte %d: %v, %d, %v", i, b, n, err)
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if got := x.get(t, f, 5, 10); !bytes.Equal(got, data[5:15]) {
		t.Error("wrong bytes after an early close")
	}
}

func (x *suite) fragmentAbort(t *testing.T) {
	f := x.fragment(1000)
	w, err := x.node.CreateFragment(x.ctx(t), f.target, &f.header)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(x.bytes(1000)); err != nil {
		t.Fatal(err)
	}
	x.wantAbsent(t, f) // not before it is committed
	w.Abort()
	w.Abort()
	x.wantAbsent(t, f)
	if err := w.Commit(x.ctx(t), 1000); err == nil {
		t.Error("committed after Abort")
	}
	x.wantAbsent(t, f)

	data := x.bytes(1000)
	w, err = x.node.CreateFragment(x.ctx(t), f.target, &f.header)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(x.ctx(t), 1000); err != nil {
		t.Fatal(err)
	}
	w.Abort() // after Commit: nothing
	if got := x.get(t, f, 0, 1000); !bytes.Equal(got, data) {
		t.Error("Abort after Commit harmed the fragment")
	}
}

func (x *suite) fragmentSizeUnknown(t *testing.T) {
	f := x.fragment(-1)
	data := x.bytes(200_000)
	x.put(t, f, data, 30_000)
	if got := x.get(t, f, 0, 200_000); !bytes.Equal(got, data) {
		t.Error("wrong bytes")
	}
}

func (x *suite) dropBlobs(t *testing.T) {
	a := x.fragment(10)
	b := &fragment{a.target, a.header}
	b.header.ID.Attempt++
	c := &fragment{a.target, a.header}
	c.header.ID.Part++
	d := &fragment{a.target, a.header}
	d.header.ID = x.blobID()
	for _, f := range []*fragment{a, b, c, d} {
		x.put(t, f, x.bytes(10), 10)
	}
	drop := func(owner keyhash.Hash, ids ...blob.ID) {
		t.Helper()
		if err := x.node.DropBlobs(x.ctx(t), a.target, owner, ids); err != nil {
			t.Fatalf("DropBlobs: %v", err)
		}
	}
	drop(x.key(), a.header.ID) // of another owner
	drop(a.header.Owner)
	x.get(t, a, 0, 10)
	drop(a.header.Owner, a.header.ID, x.blobID())
	drop(a.header.Owner, a.header.ID)
	x.wantAbsent(t, a)
	x.get(t, b, 0, 10)
	if err := x.node.DropGroup(x.ctx(t), a.target, a.header.Owner, a.header.ID.Group); err != nil {
		t.Fatalf("DropGroup: %v", err)
	}
	x.wantAbsent(t, b)
	x.wantAbsent(t, c)
	x.get(t, d, 0, 10)

	var wg sync.WaitGroup // many at once
	for i := range 8 {
		f := x.fragment(int64(100_000 + i))
		data := x.bytes(100_000 + i)
		wg.Go(func() {
			w, err := x.node.CreateFragment(x.ctx(t), f.target, &f.header)
			if err != nil {
				t.Errorf("CreateFragment: %v", err)
				return
			}
			defer w.Abort()
			if _, err = w.Write(data); err == nil {
				err = w.Commit(x.ctx(t), int64(len(data)))
			}
			if err != nil {
				t.Errorf("writing a fragment: %v", err)
				return
			}
			r, err := x.node.OpenFragment(x.ctx(t), f.target, f.name(), 0, int64(len(data)))
			if err != nil {
				t.Errorf("OpenFragment: %v", err)
				return
			}
			defer r.Close()
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes came back as %d others, %v", len(data), len(got), err)
			}
		})
	}
	wg.Wait()
}
