package ops

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"

	"ringfort/internal/blob"
	"ringfort/internal/catalog"
	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/peer"
	"ringfort/internal/register"
	"ringfort/internal/timestamp"
)

// checkName refuses names that no protocol allows.
func checkName(name string) error {
	switch {
	case name == "":
		return errs.New("ops", errs.Invalid, "the object's name is empty")
	case len(name) > MaxNameBytes:
		return errs.New("ops", errs.TooLarge, "the object's name is %d bytes long, more than %d", len(name), MaxNameBytes)
	case strings.IndexByte(name, 0) >= 0: // it separates names in the rows of uploads and parts
		return errs.New("ops", errs.Invalid, "the object's name holds a NUL byte")
	case !utf8.ValidString(name):
		return errs.New("ops", errs.Invalid, "the object's name is not UTF-8")
	}
	return nil
}

// Put writes an object. It returns once the record and its row are each on a
// quorum of disks; until then nothing of it can be seen.
func (s *Service) Put(ctx context.Context, p *Put) (*catalog.Object, error) {
	if err := checkName(p.Name); err != nil {
		return nil, err
	}
	if p.Size > MaxPartBytes {
		return nil, errs.New("ops.Put", errs.TooLarge, "%d bytes in one piece; the limit is %d", p.Size, int64(MaxPartBytes))
	}
	k, pol, err := s.objectKey(p.Container, p.Name)
	if err != nil {
		return nil, err
	}
	w := &writing{s: s, key: k, policy: pol, container: p.Container, name: p.Name, judge: p.Judge}
	w.learn(ctx)
	o := &catalog.Object{
		ContainerAccount: p.Container.Account, Container: p.Container.Name,
		Incarnation: p.Container.Incarnation, Name: p.Name,
		ContentType: p.ContentType, Meta: p.Meta,
	}
	in := &intake{s: s, ctx: ctx, key: k, policy: pol, body: p.Body, size: p.Size, also: p.Also, max: MaxPartBytes}
	stored, err := in.store(blob.ID{Group: s.clock.Now()})
	if err != nil {
		return nil, err
	}
	if err := stored.check(p.MD5); err != nil {
		stored.drop(ctx)
		return nil, err
	}
	stored.describe(o)
	if p.ETag != "" {
		o.ETag = p.ETag
	}
	o.Modified = s.now()
	if p.Finish != nil {
		if err := p.Finish(o); err != nil {
			stored.drop(ctx)
			return nil, err
		}
	}
	rec := register.Record{Group: stored.group}
	rec.Data, rec.DataLen, rec.DataSum = stored.inline, len(stored.inline), stored.sum
	if err := w.commit(ctx, o, &rec); err != nil {
		// With an unknown outcome the record may name the blob, now or later. With
		// any other it does not, or nobody can ever read it: the container is gone.
		if !errs.Is(err, errs.OutcomeUnknown) {
			stored.drop(ctx)
		}
		return nil, err
	}
	return o, nil
}

// intake reads a body and keeps it: in memory if it is small, else as a blob.
type intake struct {
	s      *Service
	ctx    context.Context
	key    *key
	policy Policy
	body   io.Reader
	size   int64 // -1 if not known
	max    int64
	also   io.Writer
	// blobOnly keeps small bodies as blobs too: parts have no record to ride in.
	blobOnly bool
}

// stored is a body that was read to its end.
type stored struct {
	in      *intake
	size    int64
	md5     [md5.Size]byte
	inline  []byte // when small
	sum     uint64 // xxhash64 of inline
	group   timestamp.T
	id      blob.ID
	coding  catalog.Coding
	missing uint16 // fragments that were not synced, by index
}

func (in *intake) store(id blob.ID) (*stored, error) {
	if in.body == nil {
		in.body = bytes.NewReader(nil)
	}
	if in.size > in.max {
		return nil, errs.New("ops.Put", errs.TooLarge, "%d bytes; the limit is %d", in.size, in.max)
	}
	if in.blobOnly && in.size != 0 {
		return in.storeBlob(id, nil)
	}
	small := int64(in.s.cfg.InlineMax)
	if in.size > small {
		return in.storeBlob(id, nil)
	}
	want := small + 1
	if in.size >= 0 {
		want = in.size
	}
	buf, err := readUpTo(in.body, int(want))
	if err != nil {
		return nil, err
	}
	if int64(len(buf)) > small {
		return in.storeBlob(id, buf)
	}
	if in.size >= 0 {
		if int64(len(buf)) < in.size {
			return nil, incomplete(int64(len(buf)), in.size)
		}
		if err := atEnd(in.body); err != nil {
			return nil, err
		}
	}
	if in.also != nil {
		if _, err := in.also.Write(buf); err != nil {
			return nil, err
		}
	}
	return &stored{in: in, size: int64(len(buf)), md5: md5.Sum(buf), inline: buf, sum: xxhash.Sum64(buf)}, nil
}

// readUpTo reads n bytes, or fewer if the body ends.
func readUpTo(r io.Reader, n int) ([]byte, error) {
	buf := make([]byte, n)
	got, err := io.ReadFull(r, buf)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = nil
	}
	return buf[:got], err
}

// atEnd reads the end of a body of known length: only then has the reader
// verified what it verifies.
func atEnd(r io.Reader) error {
	var one [1]byte
	for {
		n, err := r.Read(one[:])
		switch {
		case n > 0:
			return errs.New("ops.Put", errs.Invalid, "the body is longer than was stated")
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

func incomplete(got, want int64) error {
	return errs.New("ops.Put", errs.Incomplete, "the body ended after %d of %d bytes", got, want)
}

func (st *stored) check(want []byte) error {
	if want != nil && !bytes.Equal(want, st.md5[:]) {
		return errs.New("ops.Put", errs.BadDigest, "the body's MD5 is %x, not %x as was stated", st.md5, want)
	}
	return nil
}

// describe enters into o what is known of its bytes.
func (st *stored) describe(o *catalog.Object) {
	o.Size = st.size
	o.ETag = hex.EncodeToString(st.md5[:])
	if st.inline == nil && st.size > 0 {
		o.Layout, o.Coding, o.Missing = catalog.Blob, st.coding, st.missing
	}
}

// drop gives up a blob that no record names.
func (st *stored) drop(ctx context.Context) {
	if !st.group.IsZero() {
		st.in.s.dropBlobs(ctx, st.in.key, st.in.policy, []blob.ID{st.id})
	}
}

// dropBlobs asks all devices to give up blobs. It does not wait: what is not
// reached is swept later.
func (s *Service) dropBlobs(ctx context.Context, k *key, pol Policy, ids []blob.ID) {
	ctx, cancel := detached(ctx, s.cfg.Timeout)
	devices := k.place.Devices
	replies := make(chan error, len(devices))
	for i := range devices {
		go func() {
			replies <- devices[i].Node.DropBlobs(ctx, k.target(&devices[i]), k.hash, ids)
		}()
	}
	go drain(replies, len(devices), cancel)
}

// writing is the commit of one object's record and row.
type writing struct {
	s         *Service
	key       *key
	policy    Policy
	container *catalog.Container
	name      string
	judge     func(*catalog.Object) error
	known     chan learnt // of a blind write
}

type learnt struct {
	register.Known
	err error
}

// learn begins to ask for the key's newest timestamp while the body arrives.
func (w *writing) learn(ctx context.Context) {
	if w.judge != nil {
		return
	}
	w.known = make(chan learnt, 1)
	w.s.cfg.Workers.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, w.s.cfg.Timeout)
		defer cancel()
		k, err := w.s.proposer.Highest(ctx, w.key.quorum)
		w.known <- learnt{k, err}
	})
}

// highest returns what was learnt. If that failed it is asked for again: the body
// may have taken hours since.
func (w *writing) highest(ctx context.Context) (timestamp.T, error) {
	select {
	case l := <-w.known:
		if l.err == nil {
			return l.Highest, nil
		}
	case <-ctx.Done():
	}
	k, err := w.s.proposer.Highest(ctx, w.key.quorum)
	return k.Highest, err
}

// commit makes the object visible: record, then row, then both are settled.
func (w *writing) commit(ctx context.Context, o *catalog.Object, rec *register.Record) error {
	ctx, cancel := context.WithTimeout(ctx, w.s.cfg.Timeout)
	defer cancel()
	rec.Epoch = w.key.place.Epoch
	out, err := w.write(ctx, o, rec)
	if err != nil {
		return err
	}
	return w.s.acknowledge(ctx, w.key, out.Record)
}

func (w *writing) write(ctx context.Context, o *catalog.Object, rec *register.Record) (*register.Outcome, error) {
	op := w.s.clock.Now()
	o.TS = op
	if w.judge == nil {
		highest, err := w.highest(ctx)
		if err != nil {
			return nil, err
		}
		if rec.Value, err = o.Encode(); err != nil {
			return nil, err
		}
		return w.s.proposer.Write(ctx, w.key.quorum, &register.Update{Record: *rec, Op: op}, highest)
	}
	return w.s.proposer.Update(ctx, w.key.quorum, op, func(cur *register.Record) (*register.Record, error) {
		have, err := w.s.liveObject(cur, w.name)
		if err != nil {
			return nil, err
		}
		if err := w.judge(have); err != nil {
			return nil, err
		}
		rec.Value, err = o.Encode()
		return rec, err
	})
}

// liveObject decodes an object's record; nil if there is no live one.
func (s *Service) liveObject(r *register.Record, name string) (*catalog.Object, error) {
	if r == nil || r.Tombstone {
		return nil, nil
	}
	o, err := catalog.DecodeObject(r.Value)
	if err != nil {
		return nil, err
	}
	if o.Name != name {
		// Two names with one 128-bit hash, or a bug: never answer with the wrong object.
		return nil, errs.New("ops", errs.Corrupt, "the record of another object is stored under this key")
	}
	return o, nil
}

// acknowledge is deliver for a record that the caller's own operation has chosen:
// when it fails, the operation has taken effect all the same, unless the container
// is gone and everything in it (errs.NoBucket).
func (s *Service) acknowledge(ctx context.Context, k *key, r *register.Record) error {
	err := s.deliver(ctx, k, r)
	if err == nil || errs.Is(err, errs.NoBucket) {
		return err
	}
	return &errs.Error{Op: "ops.acknowledge", Kind: errs.OutcomeUnknown, What: "the write took effect, and is not listed yet", Err: err}
}

// deliver sees to what a chosen record still needs: its row on a quorum of the
// container's devices, and then that its notes go.
func (s *Service) deliver(ctx context.Context, k *key, r *register.Record) error {
	o, err := catalog.DecodeObject(r.Value)
	if err != nil {
		return err
	}
	if err := s.deliverRow(ctx, o, r); err != nil {
		return err
	}
	k.settle(r.Ballot)
	return nil
}

func (s *Service) deliverRow(ctx context.Context, o *catalog.Object, r *register.Record) error {
	h := s.containerHash(o.ContainerAccount, o.Container)
	l := peer.Listing{Key: h, Incarnation: o.Incarnation, Table: catalog.Objects}
	row, err := rowOf(o, r)
	if err != nil {
		return err
	}
	return s.putContainerRows(ctx, h, l, []catalog.Row{row})
}

// putContainerRows is putRows for a container. A device that was away when the
// container was made, or when it was made again, refuses its rows. That is one
// device's word: the container's register decides, and if it is live the device
// is given its record and the rows once more.
//
// While the container is being deleted it is not known whether it will be, so the
// rows wait for that. errs.NoBucket is the last word: this incarnation is gone.
func (s *Service) putContainerRows(ctx context.Context, h keyhash.Hash, l peer.Listing, rows []catalog.Row) error {
	place := s.cluster.Container(h)
	err := s.putRows(ctx, peer.Containers, place, l, rows)
	for live := false; errs.Is(err, errs.Unavailable) || errs.Is(err, errs.NoBucket); {
		r, serr := s.proposer.Spread(ctx, s.containerKey(h).quorum)
		if serr != nil {
			return errs.Wrap("ops.putRows", errs.Unavailable, errors.Join(err, serr))
		}
		if r == nil {
			return err
		}
		c, derr := s.containerOf(r, h)
		switch {
		case derr != nil:
			return derr
		case c == nil || c.Incarnation != l.Incarnation || c.State == catalog.Deleted:
			return errs.New("ops.putRows", errs.NoBucket, "the container was deleted meanwhile")
		case c.State == catalog.Deleting:
			if werr := s.decided(ctx, h); werr != nil {
				return errs.Wrap("ops.putRows", errs.Unavailable, errors.Join(err, werr))
			}
			live = false
		case live:
			return errs.Wrap("ops.putRows", errs.Unavailable, err) // whatever a device thinks
		default:
			live = true
			err = s.putRows(ctx, peer.Containers, place, l, rows)
		}
	}
	return err
}

// decidePause is how often it is looked whether a container has been deleted.
const decidePause = 20 * time.Millisecond

// decided waits until a container is no longer in the state Deleting.
func (s *Service) decided(ctx context.Context, h keyhash.Hash) error {
	t := time.NewTicker(decidePause)
	defer t.Stop()
	for {
		r, err := s.proposer.Read(ctx, s.containerKey(h).quorum, false)
		if err != nil || !being(r) {
			return err
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// rowOf is the row that shows an object's record.
func rowOf(o *catalog.Object, r *register.Record) (row catalog.Row, err error) {
	row = catalog.Row{Name: o.Name, Ballot: r.Ballot, TS: r.TS, Deleted: r.Tombstone}
	if r.Tombstone {
		return row, nil
	}
	v := catalog.RowValue{
		Size: o.Size, ETag: o.ETag, ContentType: o.ContentType, Modified: o.Modified,
		Checksum: o.Meta.Get("checksum-algorithm"), Extra: o.Meta.WithPrefix("row-"),
	}
	row.Bytes = o.Size
	row.Value, err = v.Encode()
	return row, err
}

// Delete deletes an object. With a judge it is conditional: judge gets the
// current object, nil if there is none. It returns errs.NotFound if there is
// nothing to delete, and then has written nothing.
func (s *Service) Delete(ctx context.Context, c *catalog.Container, name string, judge func(*catalog.Object) error) error {
	if err := checkName(name); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	k, _, err := s.objectKey(c, name)
	if err != nil {
		return err
	}
	gone := &catalog.Object{ContainerAccount: c.Account, Container: c.Name, Incarnation: c.Incarnation, Name: name, Modified: s.now()}
	op := s.clock.Now()
	gone.TS = op
	rec := register.Record{Tombstone: true, Epoch: k.place.Epoch}
	if rec.Value, err = gone.Encode(); err != nil {
		return err
	}
	var out *register.Outcome
	if judge == nil {
		// Read, and not only learnt: a device that missed an earlier DELETE would
		// have this one say that it deleted something.
		cur, err := s.proposer.Read(ctx, k.quorum, false)
		if err != nil {
			return err
		}
		if cur == nil || cur.Tombstone {
			return errs.New("ops.Delete", errs.NotFound, "object %q does not exist", name)
		}
		out, err = s.proposer.Write(ctx, k.quorum, &register.Update{Record: rec, Op: op}, cur.Ballot)
		if err != nil {
			return err
		}
	} else {
		out, err = s.proposer.Update(ctx, k.quorum, op, func(cur *register.Record) (*register.Record, error) {
			have, err := s.liveObject(cur, name)
			if err != nil {
				return nil, err
			}
			if err := judge(have); err != nil {
				return nil, err
			}
			if have == nil {
				return nil, errs.New("ops.Delete", errs.NotFound, "object %q does not exist", name)
			}
			return &rec, nil
		})
		if err != nil {
			return err
		}
	}
	return s.acknowledge(ctx, k, out.Record)
}

// Modify changes an object's metadata and leaves its bytes alone: change alters
// what it is given, or refuses. It may be called more than once.
func (s *Service) Modify(ctx context.Context, c *catalog.Container, name string, change func(*catalog.Object) error) (*catalog.Object, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	k, _, err := s.objectKey(c, name)
	if err != nil {
		return nil, err
	}
	// The record is written whole, with its bytes: they are fetched first, and
	// again if the record was replaced meanwhile.
	var data *register.Record
	var next *catalog.Object
	for {
		out, err := s.proposer.Update(ctx, k.quorum, s.clock.Now(), func(cur *register.Record) (*register.Record, error) {
			next, err = s.liveObject(cur, name)
			if err != nil {
				return nil, err
			}
			if next == nil {
				return nil, errs.New("ops.Modify", errs.NotFound, "object %q does not exist", name)
			}
			if err := change(next); err != nil {
				return nil, err
			}
			r := &register.Record{Group: cur.Group, Epoch: k.place.Epoch, DataLen: cur.DataLen, DataSum: cur.DataSum}
			if r.Value, err = next.Encode(); err != nil {
				return nil, err
			}
			if cur.DataLen > 0 {
				if data == nil || data.DataSum != cur.DataSum || data.DataLen != cur.DataLen {
					return nil, errNeedBytes
				}
				r.Data = data.Data
			}
			return r, nil
		})
		if errors.Is(err, errNeedBytes) {
			if data, err = s.proposer.Read(ctx, k.forReading(), true); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := s.acknowledge(ctx, k, out.Record); err != nil {
			return nil, err
		}
		return next, nil
	}
}

// errNeedBytes ends an attempt of Modify that has not the record's bytes at hand.
var errNeedBytes = errors.New("the object's bytes are needed")
