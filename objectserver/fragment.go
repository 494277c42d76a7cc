package objectserver

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"time"

	"ringfort/internal/blob"
	"ringfort/internal/catalog"
	"ringfort/internal/erasure"
	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/peer"
	"ringfort/internal/timestamp"
	"ringfort/internal/volume"
	"ringfort/objectserver/fragfile"
)

// The entry of a fragment in the index begins with where it is; the header
// follows, so that a sweeper can tell whose it is without reading it. Any change of
// an entry's form is a new number: one that is not known was written by a newer
// program.
const (
	inLog  = 1 // the entry's tail is the fragment, packed
	inFile = 2 // the fragment is a file
)

// fragmentKey is owner (16 bytes), blob id (36) and index (1).
func fragmentKey(n fragfile.Name) []byte {
	b := append(make([]byte, 0, 16+blob.IDSize+1), n.Owner[:]...)
	return append(n.Blob.AppendTo(b), byte(n.Index))
}

func parseFragmentKey(b []byte) (n fragfile.Name, ok bool) {
	if len(b) != 16+blob.IDSize+1 {
		return n, false
	}
	copy(n.Owner[:], b)
	n.Blob, ok = blob.Decode(b[16:])
	n.Index = erasure.Index(b[len(b)-1])
	return n, ok
}

// nameOf returns the name of a fragment. An index that no blob can have is refused:
// cut to its low bits it would name another fragment.
func nameOf(f peer.FragmentName) (fragfile.Name, error) {
	if f.Index < 0 || f.Index >= erasure.MaxFragments {
		return fragfile.Name{}, errs.New("objectserver", errs.Invalid, "fragment %d", f.Index)
	}
	return fragfile.Name{Owner: f.Owner, Blob: f.ID, Index: erasure.Index(f.Index)}, nil
}

// CreateFragment begins a fragment of a policy: in memory while it may be packed, in
// a file when it is known, or turns out, to be longer than PackMax.
func (s *Server) CreateFragment(ctx context.Context, policy uint32, h *peer.FragmentHeader) (peer.FragmentWriter, error) {
	if h.Index < 0 || h.Index >= int(h.Coding.K)+int(h.Coding.M) {
		return nil, errs.New("objectserver.CreateFragment", errs.Invalid, "fragment %d of ec(%d,%d)", h.Index, h.Coding.K, h.Coding.M)
	}
	name, err := nameOf(peer.FragmentName{Owner: h.Owner, ID: h.ID, Index: h.Index})
	if err != nil {
		return nil, err
	}
	w := &fragmentWriter{s: s, h: fragfile.Header{
		Name: name,
		K:    h.Coding.K, M: h.Coding.M, BlockSize: h.Coding.BlockSize, Policy: policy, Size: h.Size,
	}}
	if h.Size < 0 {
		w.h.Size = fragfile.SizeUnknown
		return w, w.h.Validate()
	}
	if err := w.h.Validate(); err != nil {
		return nil, err
	}
	n := w.h.Layout().FragmentSize()
	if n > s.cfg.PackMax {
		return w, w.spill(ctx)
	}
	w.want = int(fragfile.PackedSize(n))
	return w, nil
}

type fragmentWriter struct {
	s      *Server
	h      fragfile.Header
	want   int              // length of the packed fragment, where it is known
	packed []byte           // room for a header, and the data, while it may be packed
	lent   *erasure.Buffer  // that packed lies in, if it was lent by the pool
	held   int64            // of the server's packed bytes, if it was not
	file   *fragfile.Writer // else
}

// grow makes room for so many more bytes. It is not made before they come: one who
// opens an upload and sends nothing holds no memory.
func (w *fragmentWriter) grow(more int) error {
	length := max(len(w.packed), fragfile.HeaderSize)
	if length+more <= cap(w.packed) {
		return nil
	}
	n := max(w.want, length+more, min(2*cap(w.packed), fragfile.HeaderSize+int(w.s.cfg.PackMax)))
	var packed []byte
	var held int64
	lent := w.s.cfg.Buffers.TryGet(n)
	if lent != nil {
		packed = lent.Bytes[:length]
	} else {
		held = int64(n)
		if w.s.packed.Add(held) > w.s.cfg.PackMemory {
			w.s.packed.Add(-held)
			return errs.New("objectserver.Write", errs.Busy, "fragments being written take %d bytes of memory", w.s.cfg.PackMemory)
		}
		packed = make([]byte, length, n)
	}
	copy(packed, w.packed)
	w.free()
	w.packed, w.lent, w.held = packed, lent, held
	return nil
}

// free gives the memory of a packed fragment back.
func (w *fragmentWriter) free() {
	w.packed = nil
	w.s.packed.Add(-w.held)
	w.held = 0
	if w.lent != nil {
		w.lent.Release()
		w.lent = nil
	}
}

// spill goes over to a file.
func (w *fragmentWriter) spill(ctx context.Context) (err error) {
	defer w.free()
	if w.file, err = w.s.files.Create(ctx, w.h); err != nil {
		return err
	}
	if len(w.packed) > fragfile.HeaderSize {
		_, err = w.file.Write(w.packed[fragfile.HeaderSize:])
	}
	return err
}

func (w *fragmentWriter) Write(p []byte) (int, error) {
	if w.file == nil && int64(max(len(w.packed)-fragfile.HeaderSize, 0)+len(p)) > w.s.cfg.PackMax {
		if err := w.spill(context.Background()); err != nil {
			return 0, err
		}
	}
	if w.file != nil {
		return w.file.Write(p)
	}
	if err := w.grow(len(p)); err != nil {
		return 0, err
	}
	w.packed = append(w.packed, p...)
	return len(p), nil
}

func (w *fragmentWriter) Commit(ctx context.Context, size int64) error {
	h := w.h
	h.Size = size
	if err := h.Validate(); err != nil {
		w.Abort()
		return err
	}
	key := fragmentKey(h.Name)
	if w.file != nil {
		if err := w.file.Commit(ctx, size); err != nil {
			return err
		}
		b := w.s.vol.NewBatch(volume.Meta)
		b.Put(spaceFragments, key, entry(inFile, h), nil, volume.Ref{})
		return w.s.vol.Commit(context.WithoutCancel(ctx), b)
	}
	defer w.free() // the volume has no use for it once Commit has returned
	if w.packed == nil {
		w.packed = make([]byte, fragfile.HeaderSize)
	}
	whole, err := fragfile.Seal(h, w.packed)
	if err != nil {
		return err
	}
	b := w.s.vol.NewBatch(volume.Bulk)
	b.Put(spaceFragments, key, entry(inLog, h), whole, volume.Ref{})
	return w.s.vol.Commit(context.WithoutCancel(ctx), b)
}

func (w *fragmentWriter) Abort() {
	if w.file != nil {
		w.file.Abort()
	}
	w.free()
}

// entrySize is the length of a fragment's index entry.
const entrySize = 15

// entry is the head of a fragment's index entry: where it is, k, m (1 byte each),
// policy (4 bytes) and the blob's size (8 bytes), big-endian. Its tail is the
// fragment, if it is in the log.
func entry(where byte, h fragfile.Header) []byte {
	b := append(make([]byte, 0, entrySize), where, h.K, h.M)
	b = binary.BigEndian.AppendUint32(b, h.Policy)
	return binary.BigEndian.AppendUint64(b, uint64(h.Size))
}

// decodeEntry reads what entry wrote; the name comes from the key.
func decodeEntry(name fragfile.Name, b []byte) (f Fragment, err error) {
	const op = "objectserver.decodeEntry"
	switch {
	case len(b) == 0:
		return f, errs.New(op, errs.Corrupt, "fragment %v has an empty index entry", name)
	case b[0] > inFile:
		return f, errs.New(op, errs.NotImplemented, "fragment %v is kept in the unknown way %d: written by a newer program", name, b[0])
	case b[0] == 0 || len(b) != entrySize:
		return f, errs.New(op, errs.Corrupt, "index entry %x of fragment %v", b, name)
	}
	f = Fragment{
		Name: name, Coding: catalog.Coding{K: b[1], M: b[2]}, File: b[0] == inFile,
		Policy: binary.BigEndian.Uint32(b[3:]), Size: int64(binary.BigEndian.Uint64(b[7:])),
	}
	if f.Size < 0 {
		return Fragment{}, errs.New(op, errs.Corrupt, "fragment %v of a blob of %d bytes", name, f.Size)
	}
	return f, nil
}

// OpenFragment returns n bytes of a fragment from off, verified.
func (s *Server) OpenFragment(ctx context.Context, f peer.FragmentName, off, n int64) (peer.FragmentReader, error) {
	const op = "objectserver.OpenFragment"
	name, err := nameOf(f)
	if err != nil {
		return nil, err
	}
	val, err := s.vol.Get(spaceFragments, fragmentKey(name))
	if err != nil {
		return nil, err
	}
	known, err := decodeEntry(name, val.Head)
	if err != nil {
		return nil, err
	}
	var r *fragfile.Reader
	if known.File {
		if r, err = s.files.Open(name); errs.Is(err, errs.NotFound) {
			err = errs.New(op, errs.Corrupt, "the file of fragment %v is missing", name)
		}
	} else {
		// Piece by piece into the reader's memory: the fragment's own checksums
		// guard each block, so the entry's checksum over all need not be computed.
		r, err = fragfile.OpenPacked(&tailReader{s.vol, val}, int64(val.TailLen), name)
	}
	if err != nil {
		return nil, err
	}
	if off < 0 || n < 0 || off > r.Len() {
		r.Close()
		return nil, errs.New(op, errs.BadRange, "bytes from %d of %d", off, r.Len())
	}
	return &fragmentReader{r: r, off: off, end: off + min(n, r.Len()-off)}, nil
}

// tailReader reads a volume entry's tail piece by piece.
type tailReader struct {
	vol *volume.Volume
	val volume.Value
}

func (t *tailReader) ReadAt(p []byte, off int64) (int, error) {
	n := min(int64(len(p)), int64(t.val.TailLen)-off)
	if n <= 0 {
		return 0, io.EOF
	}
	got, err := t.vol.ReadTail(t.val, int(off), int(n), p[:0])
	if err == nil && len(got) < len(p) {
		err = io.EOF
	}
	return len(got), err
}

type fragmentReader struct {
	r        *fragfile.Reader
	off, end int64
}

func (f *fragmentReader) Read(p []byte) (int, error) {
	if f.off >= f.end {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), f.end-f.off)]
	n, err := f.r.ReadAt(p, f.off)
	f.off += int64(n)
	if err == io.EOF && n > 0 {
		err = nil
	}
	return n, err
}

// Left returns how many bytes are still to be read.
func (f *fragmentReader) Left() int64 { return f.end - f.off }

func (f *fragmentReader) Close() error { return f.r.Close() }

// DropBlobs deletes the fragments of blobs. Absent ones are no error.
func (s *Server) DropBlobs(ctx context.Context, owner keyhash.Hash, ids []blob.ID) error {
	for _, id := range ids {
		if err := s.dropPrefix(ctx, id.AppendTo(append([]byte{}, owner[:]...))); err != nil {
			return err
		}
	}
	return nil
}

// DropGroup deletes the fragments of all blobs of a group.
func (s *Server) DropGroup(ctx context.Context, owner keyhash.Hash, group timestamp.T) error {
	return s.dropPrefix(ctx, groupKey(owner, group))
}

// dropPrefix deletes the fragments whose index keys begin with prefix: the files
// first, so that none is left without an entry by a crash.
func (s *Server) dropPrefix(ctx context.Context, prefix []byte) error {
	it, err := s.vol.NewIter(spaceFragments, prefix, after(prefix))
	if err != nil {
		return err
	}
	defer it.Close()
	b := s.vol.NewBatch(volume.Meta)
	n := 0
	for ok := it.First(); ok; ok = it.Next() {
		if err := ctx.Err(); err != nil {
			break
		}
		f, err := fragmentAt(it)
		switch {
		case errs.Is(err, errs.Corrupt): // it can go; a newer program's cannot
			err = nil
		case err == nil && f.File:
			if err = s.files.Remove(f.Name); errs.Is(err, errs.NotFound) {
				err = nil
			}
		}
		if err != nil {
			b.Discard()
			return errors.Join(err, it.Err())
		}
		b.Delete(spaceFragments, it.Key(), it.Ref())
		n++
	}
	if err := it.Err(); err != nil || n == 0 {
		b.Discard()
		return errors.Join(err, ctx.Err())
	}
	return errors.Join(ctx.Err(), s.vol.Commit(context.WithoutCancel(ctx), b))
}

// after returns the smallest key that is greater than all with the prefix.
func after(prefix []byte) []byte {
	b := append([]byte{}, prefix...)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i]++; b[i] != 0 {
			return b[:i+1]
		}
	}
	return nil
}

// Fragment describes a fragment that the device has.
type Fragment struct {
	Name   fragfile.Name
	Coding catalog.Coding // without the block size
	Policy uint32
	Size   int64 // of the blob
	File   bool
}

// Fragments calls fn with the fragments from the key after start on, in order,
// until fn answers false.
func (s *Server) Fragments(start []byte, fn func(key []byte, f Fragment) bool) error {
	it, err := s.vol.NewIter(spaceFragments, nil, nil)
	if err != nil {
		return err
	}
	defer it.Close()
	for ok := it.SeekGE(append(append([]byte{}, start...), 0)); ok; ok = it.Next() {
		f, err := fragmentAt(it)
		if err != nil {
			return err
		}
		if !fn(it.Key(), f) {
			return nil
		}
	}
	return it.Err()
}

// PolicyOf returns the policy of a group's fragments on the device, and whether
// there are any.
func (s *Server) PolicyOf(g Group) (policy uint32, found bool, err error) {
	prefix := groupKey(g.Owner, g.Group)
	it, err := s.vol.NewIter(spaceFragments, prefix, after(prefix))
	if err != nil {
		return 0, false, err
	}
	defer it.Close()
	if !it.First() {
		return 0, false, it.Err()
	}
	f, err := fragmentAt(it)
	return f.Policy, err == nil, err
}

// fragmentAt reads the index entry that an iterator stands on.
func fragmentAt(it *volume.Iter) (f Fragment, err error) {
	name, valid := parseFragmentKey(it.Key())
	if !valid {
		return f, errs.New("objectserver", errs.Corrupt, "key %x of a fragment", it.Key())
	}
	return decodeEntry(name, it.Head())
}

// strayAge is how long a file has to be seen without an index entry: a commit
// writes the entry within seconds of the file, however old the upload is.
const strayAge = 30 * time.Minute

// Reconcile deletes files of fragments that were begun before a time and have no
// index entry, now and when an earlier call looked, strayAge ago or more: what a
// crash left between the file and its entry. It returns how many it deleted.
func (s *Server) Reconcile(ctx context.Context, before time.Time) (n int, err error) {
	s.strayMu.Lock()
	defer s.strayMu.Unlock()
	now := s.cfg.Now()
	seen := make(map[fragfile.Name]time.Time)
	err = s.files.Walk(ctx, 0, func(name fragfile.Name) error {
		if !name.Blob.Group.Time().Before(before) {
			return nil
		}
		if known, err := s.vol.Has(spaceFragments, fragmentKey(name)); err != nil || known {
			return err
		}
		first, again := s.strays[name]
		if !again || now.Sub(first) < strayAge {
			if !again {
				first = now
			}
			seen[name] = first
			return nil
		}
		err := s.files.Remove(name)
		if errs.Is(err, errs.NotFound) {
			return nil
		}
		n++
		return err
	}, nil)
	s.strays = seen
	return n, err
}
