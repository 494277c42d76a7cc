package volume

import (
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"ringfort/internal/errs"
)

// iterators counts the open iterators, so that no segment goes while one that may
// point into it is open.
type iterators struct {
	mu   sync.Mutex // guards what follows; taken last
	next uint64
	open map[uint64]struct{}
}

func (t *iterators) add() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open == nil {
		t.open = make(map[uint64]struct{})
	}
	t.next++
	t.open[t.next] = struct{}{}
	return t.next
}

// last returns the number of the newest iterator there was.
func (t *iterators) last() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.next
}

// oldest returns the number of the oldest open iterator, or a high one.
func (t *iterators) oldest() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := uint64(1<<64 - 1)
	for i := range t.open {
		n = min(n, i)
	}
	return n
}

func (t *iterators) remove(n uint64) {
	t.mu.Lock()
	delete(t.open, n)
	t.mu.Unlock()
}

// Iter walks the entries of a range in key order, as they were when it was made.
// Not for concurrent use. Close it soon: while it is open, the log cannot reclaim
// space.
type Iter struct {
	v      *Volume
	it     *pebble.Iterator
	space  SpaceID
	number uint64
	buf    []byte
	entry  indexEntry
	parsed bool
	err    error
}

// NewIter returns an iterator over lo <= key < hi of a space; a nil hi is its end.
// It stands nowhere until First, Last or a Seek.
func (v *Volume) NewIter(space SpaceID, lo, hi []byte) (*Iter, error) {
	l, h := rangeKeys(space, lo, hi)
	number := v.iters.add() // before the snapshot is taken
	it, err := v.db.NewIter(&pebble.IterOptions{LowerBound: l, UpperBound: h})
	if err != nil {
		v.iters.remove(number)
		return nil, errs.Wrap("volume.NewIter", indexKind(err), err)
	}
	return &Iter{v: v, it: it, space: space, number: number}, nil
}

func (i *Iter) moved(ok bool) bool {
	i.parsed = false
	return ok
}

// First moves to the first entry.
func (i *Iter) First() bool { return i.moved(i.it.First()) }

// Last moves to the last entry.
func (i *Iter) Last() bool { return i.moved(i.it.Last()) }

// SeekGE moves to the first entry at or behind key.
func (i *Iter) SeekGE(key []byte) bool {
	i.buf = indexKey(i.buf[:0], i.space, key)
	return i.moved(i.it.SeekGE(i.buf))
}

// SeekLT moves to the last entry before key.
func (i *Iter) SeekLT(key []byte) bool {
	i.buf = indexKey(i.buf[:0], i.space, key)
	return i.moved(i.it.SeekLT(i.buf))
}

// Next moves on by one entry.
func (i *Iter) Next() bool { return i.moved(i.it.Next()) }

// Prev moves back by one entry.
func (i *Iter) Prev() bool { return i.moved(i.it.Prev()) }

// Valid reports whether the iterator stands on an entry.
func (i *Iter) Valid() bool { return i.it.Valid() }

// Key returns the entry's key, good until the iterator moves.
func (i *Iter) Key() []byte { return i.it.Key()[1:] }

func (i *Iter) parse() *indexEntry {
	if !i.parsed {
		val, err := i.it.ValueAndErr()
		if err != nil {
			err = errs.Wrap("volume.Iter", indexKind(err), err)
		} else {
			i.entry, err = decodeIndexValue(val)
		}
		if err != nil {
			i.entry = indexEntry{}
			i.fail(err)
		}
		i.parsed = true
	}
	return &i.entry
}

func (i *Iter) fail(err error) {
	if i.err == nil {
		i.err = err
	}
}

// Head returns the entry's head, good until the iterator moves; one that was too
// long for the index is read from the log.
func (i *Iter) Head() []byte {
	e := i.parse()
	if !e.spilled {
		return e.head
	}
	val, err := i.Value()
	i.fail(err)
	return val.Head
}

// Ref returns where the entry lies in the log, without reading it.
func (i *Iter) Ref() Ref { return i.parse().ref }

// Value returns the entry as Get does.
func (i *Iter) Value() (Value, error) {
	e := *i.parse()
	if i.err != nil {
		return Value{}, i.err
	}
	e.head = slices.Clone(e.head)
	val, gone, err := i.v.value(i.space, i.Key(), &e)
	if gone {
		err = errs.New("volume.Iter", errs.Corrupt, "segment %d is missing", e.ref.Segment)
	}
	return val, err
}

// Counters returns the vector of counters that the iterator stands on, nil if it
// stands on a value.
func (i *Iter) Counters() []int64 {
	e := i.parse()
	if !e.counters {
		return nil
	}
	sum, ok := addCounters(nil, e.head)
	if !ok {
		i.fail(errs.New("volume.Iter", errs.Corrupt, "a vector of counters"))
	}
	return sum
}

// Err returns the first failure; a loop that ended is complete only without one.
func (i *Iter) Err() error {
	if i.err == nil {
		if err := i.it.Error(); err != nil {
			i.err = errs.Wrap("volume.Iter", indexKind(err), err)
		}
	}
	return i.err
}

// Close releases the iterator and returns its first failure.
func (i *Iter) Close() error {
	err := i.Err()
	if err2 := i.it.Close(); err == nil && err2 != nil {
		err = errs.Wrap("volume.Iter", indexKind(err2), err2)
	}
	i.v.iters.remove(i.number)
	return err
}
