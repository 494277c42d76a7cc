package register

import (
	"context"
	"time"

	"github.com/cespare/xxhash/v2"

	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/timestamp"
	"ringfort/internal/volume"
)

// AcceptorConfig says where an acceptor keeps its keys.
type AcceptorConfig struct {
	Volume *volume.Volume
	States volume.SpaceID // key hash -> State, data as the tail
	Notes  volume.SpaceID // key hash -> Note

	// Floor returns the ballot at or below which nothing is accepted for a key
	// without a record (rule 9). Nil: there is none.
	Floor func(keyhash.Hash) timestamp.T
	// OnSettle may add to the batch that removes a note, to give up what the
	// note lists. Nil: nothing is to be done.
	OnSettle func(b *volume.Batch, key keyhash.Hash, n *Note)
	// Now is the device's clock; nil: time.Now.
	Now func() time.Time
}

// Acceptor keeps the rules of one device for its keys.
type Acceptor struct {
	cfg   AcceptorConfig
	locks keyLocks
}

// NewAcceptor returns an acceptor over the volume.
func NewAcceptor(cfg AcceptorConfig) *Acceptor {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Acceptor{cfg: cfg}
}

// held is a key's state as the volume has it.
type held struct {
	State
	val  volume.Value
	note *Note // nil if there is none
}

// load reads a key's state. A key that is not there has the zero state.
func (a *Acceptor) load(key keyhash.Hash) (h held, err error) {
	h.val, err = a.cfg.Volume.Get(a.cfg.States, key[:])
	if errs.Is(err, errs.NotFound) {
		return held{}, nil
	}
	if err != nil {
		return h, err
	}
	if h.State, err = DecodeState(h.val.Head); err != nil || h.Record == nil {
		return h, err
	}
	h.note, err = a.loadNote(key)
	// A note about another ballot would be a bug of ours; it commits nothing.
	h.Committed = h.note == nil
	return h, err
}

func (a *Acceptor) loadNote(key keyhash.Hash) (*Note, error) {
	v, err := a.cfg.Volume.Get(a.cfg.Notes, key[:])
	if errs.Is(err, errs.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	n, err := DecodeNote(v.Head)
	return &n, err
}

func (a *Acceptor) floor(key keyhash.Hash) timestamp.T {
	if a.cfg.Floor == nil {
		return timestamp.T{}
	}
	return a.cfg.Floor(key)
}

// Learn answers rule 4a.
func (a *Acceptor) Learn(key keyhash.Hash) (Known, error) {
	v, err := a.cfg.Volume.Get(a.cfg.States, key[:])
	if errs.Is(err, errs.NotFound) {
		return Known{Highest: a.floor(key)}, nil
	}
	if err != nil {
		return Known{}, err
	}
	s, err := DecodeState(v.Head)
	if err != nil {
		return Known{}, err
	}
	return Known{
		Highest: timestamp.Max(s.Highest(), a.floor(key)),
		Exists:  s.Record != nil && !s.Record.Tombstone,
	}, nil
}

// Read returns the state of a key; with data, the record's bytes if they are here.
func (a *Acceptor) Read(key keyhash.Hash, data bool) (State, error) {
	h, err := a.load(key)
	if err != nil {
		return State{}, err
	}
	if data && h.Record != nil && h.Record.DataLen > 0 && h.Held {
		err = a.loadData(&h)
	}
	return h.State, err
}

// ReadLocked reads a key and calls fn before any other call may change it.
func (a *Acceptor) ReadLocked(key keyhash.Hash, fn func(State) error) error {
	defer a.locks.lock(key)()
	h, err := a.load(key)
	if err != nil {
		return err
	}
	return fn(h.State)
}

func (a *Acceptor) loadData(h *held) error {
	r := h.Record
	data, err := a.cfg.Volume.ReadTail(h.val, 0, r.DataLen, make([]byte, 0, r.DataLen))
	if err != nil {
		return err
	}
	if len(data) != r.DataLen || xxhash.Sum64(data) != r.DataSum {
		return errs.New("register.Read", errs.Corrupt, "the record's data does not match its checksum")
	}
	r.Data = data
	return nil
}

// Write asks for a record to be accepted (rule 1). A refusal is an answer; an
// error means that the device could not do its work.
//
// Once begun, a write is carried through whatever becomes of ctx: the key must
// not be seen by the next call before it is known how this one ended.
func (a *Acceptor) Write(ctx context.Context, key keyhash.Hash, r *Record) (Answer, error) {
	return a.WriteWith(ctx, key, r, nil)
}

// WriteWith is Write, and calls fn, if not nil, after the record was accepted and
// before another call may read or change the key.
func (a *Acceptor) WriteWith(ctx context.Context, key keyhash.Hash, r *Record, fn func()) (Answer, error) {
	if err := checkRecord(r); err != nil {
		return Answer{}, err
	}
	defer a.locks.lock(key)()
	if err := ctx.Err(); err != nil {
		return Answer{}, err
	}
	old, err := a.load(key)
	if err != nil {
		return Answer{}, err
	}
	again := old.Record != nil && r.Ballot == old.Record.Ballot && r.TS == old.Record.TS
	switch {
	case again && (old.Held || r.Bare()):
		return Answer{Accepted: true, State: old.State}, nil
	case again: // held bare, and here are the bytes
	case !a.acceptable(key, &old.State, r.Ballot):
		return Answer{State: old.State}, nil
	case !r.Group.IsZero() && old.Swept.Has(r.Group) && (old.Record == nil || old.Record.Group != r.Group):
		return Answer{Swept: true, State: old.State}, nil
	}
	next := State{Promised: old.Promised, Swept: old.Swept, Record: r, Held: !r.Bare()}
	if !r.Ballot.Less(next.Promised) {
		next.Promised = timestamp.T{} // the ballot says as much
	}
	note := successor(old.Record, r, old.note, a.cfg.Now().UnixMicro())
	if again && old.note == nil {
		note = Note{} // known committed already
	}
	if err := a.store(&next, &note, key, old.val.Ref); err != nil {
		return Answer{}, err
	}
	if fn != nil {
		fn()
	}
	next.Record = r.WithoutData()
	next.Committed = note.Ballot.IsZero()
	return Answer{Accepted: true, State: next}, nil
}

func (a *Acceptor) acceptable(key keyhash.Hash, s *State, b timestamp.T) bool {
	if b.Less(s.Promised) {
		return false
	}
	if s.Record == nil {
		return a.floor(key).Less(b)
	}
	return s.Record.Ballot.Less(b)
}

func (a *Acceptor) store(s *State, n *Note, key keyhash.Hash, old volume.Ref) error {
	var buf [512]byte
	b := a.cfg.Volume.NewBatch(volume.Meta)
	var data []byte
	if s.Record != nil {
		data = s.Record.Data
	}
	b.Put(a.cfg.States, key[:], s.AppendTo(buf[:0]), data, old)
	if n != nil && !n.Ballot.IsZero() {
		b.Put(a.cfg.Notes, key[:], n.AppendTo(nil), nil, volume.Ref{})
	}
	// Not the caller's context: the outcome must be known before the key is unlocked.
	return a.cfg.Volume.Commit(context.Background(), b)
}

func checkRecord(r *Record) error {
	const op = "register.Write"
	switch {
	case r == nil || r.Ballot.IsZero() || r.TS.IsZero():
		return errs.New(op, errs.Invalid, "record without ballot or timestamp")
	case len(r.Chain) > MaxChain:
		return errs.New(op, errs.Invalid, "chain of %d operations", len(r.Chain))
	case r.Data != nil && (len(r.Data) != r.DataLen || xxhash.Sum64(r.Data) != r.DataSum):
		return errs.New(op, errs.BadDigest, "the record's data does not match its checksum")
	}
	return nil
}

// Prepare asks for a promise to refuse everything older than ballot (rule 2).
// With sweep not zero, records that name that group are refused from now on, if
// the one that is held does not name it.
func (a *Acceptor) Prepare(ctx context.Context, key keyhash.Hash, ballot, sweep timestamp.T) (Answer, error) {
	defer a.locks.lock(key)()
	if err := ctx.Err(); err != nil {
		return Answer{}, err
	}
	h, err := a.load(key)
	if err != nil {
		return Answer{}, err
	}
	if !h.Highest().Less(ballot) || !a.floor(key).Less(ballot) {
		return Answer{State: h.State}, nil
	}
	if h.Record != nil && h.Record.DataLen > 0 && h.Held {
		// The entry is written whole, so its bytes are written again.
		if err := a.loadData(&h); err != nil {
			return Answer{}, err
		}
	}
	next := h.State
	next.Promised = ballot
	next.Swept = next.Swept.With(sweep)
	if err := a.store(&next, nil, key, h.val.Ref); err != nil {
		return Answer{}, err
	}
	if next.Record != nil {
		next.Record = next.Record.WithoutData()
	}
	return Answer{Accepted: true, State: next}, nil
}

// Settle notes that records were chosen and their rows delivered. It waits
// neither for the disk nor for a key that is being written: what is lost of it
// is found out again.
func (a *Acceptor) Settle(done []Settled) {
	for _, d := range done {
		if unlock, ok := a.locks.tryLock(d.Key); ok {
			a.settleOne(d)
			unlock()
		}
	}
}

// settleOne removes a note if it still is about the settled record. INVARIANT:
// the key is locked until the removal is queued; the queue keeps order, so it
// cannot remove the note of a later write.
func (a *Acceptor) settleOne(d Settled) {
	n, err := a.loadNote(d.Key)
	if err != nil || n == nil || n.Ballot != d.Ballot {
		return // gone, or about a later record; an error shows up where it matters
	}
	b := a.cfg.Volume.NewBatch(volume.Meta)
	if a.cfg.OnSettle != nil {
		a.cfg.OnSettle(b, d.Key, n)
	}
	b.Delete(a.cfg.Notes, d.Key[:], volume.Ref{})
	a.cfg.Volume.CommitLazy(b)
}

// Notes calls fn with the notes that are older than before (µs), in key order,
// from the key after start; it stops when fn answers false.
func (a *Acceptor) Notes(start keyhash.Hash, before int64, fn func(keyhash.Hash, Note) bool) error {
	it, err := a.cfg.Volume.NewIter(a.cfg.Notes, nil, nil)
	if err != nil {
		return err
	}
	defer it.Close()
	for ok := it.SeekGE(append(start[:], 0)); ok; ok = it.Next() {
		n, err := DecodeNote(it.Head())
		if err != nil {
			return err
		}
		var key keyhash.Hash
		copy(key[:], it.Key())
		if n.Micros <= before && !fn(key, n) {
			return nil
		}
	}
	return it.Err()
}
