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
	// Notes holds key hash -> Note. Both spaces must be Kept: an index rebuilt
	// without notes would take every record for known committed.
	Notes volume.SpaceID

	// Floor returns the ballot at or below which nothing is accepted for a key
	// without a record (rule 9). Nil: there is none.
	Floor func(keyhash.Hash) timestamp.T
	// OnSettle may add to the batch that removes a note, to give up what the
	// note lists. Nil: nothing is to be done.
	OnSettle func(b *volume.Batch, key keyhash.Hash, n *Note)
	// Now is the device's clock; nil: time.Now.
	Now func() time.Time
}

// Acceptor keeps the rules of one device for its keys. Its own Learn, Read, Write
// and Prepare are those of the default policy's keys, see Of.
type Acceptor struct {
	cfg   AcceptorConfig
	disk  store
	locks keyLocks
}

// Registers are an acceptor's keys of one policy.
type Registers struct {
	a      *Acceptor
	policy uint32
}

// Of returns the acceptor for keys that lie on the ring of a policy. A key that the
// device holds under another policy is refused with errs.Invalid: two rings would
// each choose records for it, and the devices' promises would be mixed up.
func (a *Acceptor) Of(policy uint32) Registers { return Registers{a, policy} }

// NewAcceptor returns an acceptor over the volume.
func NewAcceptor(cfg AcceptorConfig) *Acceptor {
	a := newAcceptor(cfg, nil)
	a.disk = volumeStore{&a.cfg, new(absentKeys)}
	return a
}

func newAcceptor(cfg AcceptorConfig, disk store) *Acceptor {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Acceptor{cfg: cfg, disk: disk}
}

// held is a key's state as the device has it.
type held struct {
	State
	present bool // the key has an entry
	val     volume.Value
	note    *heldNote // nil if there is none
}

// load reads a key's state. A key that is not there has the zero state.
func (a *Acceptor) load(key keyhash.Hash) (h held, err error) {
	var found bool
	if h.val, found, err = a.disk.state(key); err != nil || !found {
		return held{}, err
	}
	h.present = true
	if h.State, err = DecodeState(h.val.Head); err != nil || h.Record == nil {
		return h, err
	}
	h.note, err = a.disk.note(key)
	// A note about another ballot would be a bug of ours; it commits nothing.
	h.Committed = err == nil && h.note == nil
	return h, err
}

// load is the acceptor's, and refuses a key of another policy. A key that is not
// there has none yet.
func (g Registers) load(key keyhash.Hash) (held, error) {
	h, err := g.a.load(key)
	if err == nil && h.present {
		err = g.check(&h.State)
	}
	return h, err
}

func (g Registers) check(s *State) error {
	if s.Policy == g.policy {
		return nil
	}
	return errs.New("register", errs.Invalid,
		"configurations differ: the key is asked for under storage policy %d and was written under %d", g.policy, s.Policy)
}

func (a *Acceptor) floor(key keyhash.Hash) timestamp.T {
	if a.cfg.Floor == nil {
		return timestamp.T{}
	}
	return a.cfg.Floor(key)
}

// Learn is Registers.Learn for the default policy.
func (a *Acceptor) Learn(key keyhash.Hash) (Known, error) { return a.Of(0).Learn(key) }

// Learn answers rule 4a.
func (g Registers) Learn(key keyhash.Hash) (Known, error) {
	a := g.a
	v, found, err := a.disk.state(key)
	if err != nil {
		return Known{}, err
	}
	if !found {
		return Known{Highest: a.floor(key)}, nil
	}
	s, err := DecodeState(v.Head)
	if err == nil {
		err = g.check(&s)
	}
	if err != nil {
		return Known{}, err
	}
	return Known{
		Highest: timestamp.Max(s.Highest(), a.floor(key)),
		Exists:  s.Record != nil && !s.Record.Tombstone,
	}, nil
}

// Read is Registers.Read for the default policy.
func (a *Acceptor) Read(key keyhash.Hash, data bool) (State, error) { return a.Of(0).Read(key, data) }

// Read returns the state of a key; with data, the record's bytes if they are here.
func (g Registers) Read(key keyhash.Hash, data bool) (State, error) {
	h, err := g.load(key)
	if err != nil {
		return State{}, err
	}
	if data && h.Record != nil && h.Record.DataLen > 0 && h.Held {
		err = g.a.loadData(&h)
	}
	return h.State, err
}

// Look returns the state of a key under whichever policy it lies; it is for the
// device's own work, which has no ring in hand.
func (a *Acceptor) Look(key keyhash.Hash) (State, error) {
	h, err := a.load(key)
	return h.State, err
}

// ReadLocked reads a key of the default policy and calls fn before any other call
// may change it. It waits for a call that is changing the key as long as ctx lasts.
func (a *Acceptor) ReadLocked(ctx context.Context, key keyhash.Hash, fn func(State) error) error {
	unlock, err := a.locks.lock(ctx, key)
	if err != nil {
		return errs.Wrap("register.ReadLocked", errs.Canceled, err)
	}
	defer unlock()
	h, err := a.Of(0).load(key)
	if err != nil {
		return err
	}
	return fn(h.State)
}

func (a *Acceptor) loadData(h *held) error {
	r := h.Record
	data, err := a.disk.data(h.val, r.DataLen)
	if err != nil {
		return err
	}
	if len(data) != r.DataLen || xxhash.Sum64(data) != r.DataSum {
		return errs.New("register.Read", errs.Corrupt, "the record's data does not match its checksum")
	}
	r.Data = data
	return nil
}

// Write is Registers.Write for the default policy.
func (a *Acceptor) Write(ctx context.Context, key keyhash.Hash, r *Record) (Answer, error) {
	return a.Of(0).Write(ctx, key, r)
}

// Write asks for a record to be accepted (rule 1). A refusal is an answer; an
// error means that the device could not do its work.
//
// Once begun, a write is carried through whatever becomes of ctx: the key must
// not be seen by the next call before it is known how this one ended.
func (g Registers) Write(ctx context.Context, key keyhash.Hash, r *Record) (Answer, error) {
	a := g.a
	if err := checkRecord(r); err != nil {
		return Answer{}, err
	}
	unlock, err := a.locks.lock(ctx, key)
	if err != nil {
		return Answer{}, err
	}
	defer unlock()
	old, err := g.load(key)
	if err != nil {
		return Answer{}, err
	}
	again := old.Record != nil && r.Ballot == old.Record.Ballot && r.TS == old.Record.TS
	switch {
	case again && (old.Held || r.Bare()):
		return Answer{Accepted: true, State: old.State}, nil
	case again: // held bare, and so chosen: here are the bytes
	case !a.acceptable(key, &old.State, r.Ballot):
		return Answer{State: old.State}, nil
	case !r.Group.IsZero() && old.Swept.Has(r.Group) && (old.Record == nil || old.Record.Group != r.Group):
		return Answer{Swept: true, State: old.State}, nil
	}
	next, err := g.replace(key, &old, r, again)
	if err != nil {
		return Answer{}, err
	}
	next.Record = next.Record.WithoutData()
	return Answer{Accepted: true, State: next}, nil
}

// replace stores r in place of what is held.
func (g Registers) replace(key keyhash.Hash, old *held, r *Record, again bool) (State, error) {
	a := g.a
	next := State{Policy: g.policy, Promised: old.Promised, Swept: old.Swept, Record: r}
	if !r.Ballot.Less(next.Promised) {
		next.Promised = timestamp.T{} // the ballot says as much
	}
	c := change{key: key, old: old.val.Ref, oldNote: old.note}
	var prev *Note
	if old.note != nil {
		prev = &old.note.Note
	}
	switch note := successor(old.Record, r, prev, a.cfg.Now().UnixMicro()); {
	case r.Bare():
		// Chosen already, or it would not have been sent so: others see to its row.
		c.given, next.Committed = &note, true
		if old.Held && old.Record.sameData(r) {
			if err := a.loadData(old); err != nil {
				return State{}, err
			}
			next.Record = r.withData(old.Record.Data)
		}
	case again:
		next.Committed = true // it has no note, and needs none
	default:
		c.note = &note
	}
	next.Held = !next.Record.Bare()
	return next, a.store(&c, &next)
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

func (a *Acceptor) store(c *change, s *State) error {
	if s.Record != nil {
		c.data = s.Record.Data
	}
	stored := *s
	stored.Committed = false // on disk the absence of a note says it, and nothing else
	c.state = stored.AppendTo(make([]byte, 0, 256))
	return a.disk.commit(c)
}

func checkRecord(r *Record) error {
	const op = "register.Write"
	switch {
	case r == nil || r.Ballot.IsZero() || r.TS.IsZero():
		return errs.New(op, errs.Invalid, "record without ballot or timestamp")
	case !r.Ballot.Valid() || !r.TS.Valid():
		return errs.New(op, errs.Invalid, "a timestamp beyond all clocks: nothing could be written above it")
	case len(r.Chain) > MaxChain:
		return errs.New(op, errs.Invalid, "chain of %d operations", len(r.Chain))
	case r.DataLen < 0 || r.DataLen > maxDataBytes:
		return errs.New(op, errs.Invalid, "%d bytes of data", r.DataLen)
	case r.Data != nil && (len(r.Data) != r.DataLen || xxhash.Sum64(r.Data) != r.DataSum):
		return errs.New(op, errs.BadDigest, "the record's data does not match its checksum")
	}
	return nil
}

// Prepare is Registers.Prepare for the default policy.
func (a *Acceptor) Prepare(ctx context.Context, key keyhash.Hash, ballot, sweep timestamp.T) (Answer, error) {
	return a.Of(0).Prepare(ctx, key, ballot, sweep)
}

// Prepare asks for a promise to refuse everything older than ballot (rule 2).
// With sweep not zero, records that name that group are refused from now on; a
// device whose own record names it refuses the promise instead.
func (g Registers) Prepare(ctx context.Context, key keyhash.Hash, ballot, sweep timestamp.T) (Answer, error) {
	a := g.a
	if !ballot.Valid() {
		return Answer{}, errs.New("register.Prepare", errs.Invalid, "a ballot beyond all clocks: nothing could be written above it")
	}
	unlock, err := a.locks.lock(ctx, key)
	if err != nil {
		return Answer{}, err
	}
	defer unlock()
	h, err := g.load(key)
	if err != nil {
		return Answer{}, err
	}
	if !h.Highest().Less(ballot) || !a.floor(key).Less(ballot) {
		return Answer{State: h.State}, nil
	}
	if !sweep.IsZero() && h.Record != nil && h.Record.Group == sweep {
		return Answer{State: h.State}, nil
	}
	if h.Record != nil && h.Record.DataLen > 0 && h.Held {
		// The entry is written whole, so its bytes are written again.
		if err := a.loadData(&h); err != nil {
			return Answer{}, err
		}
	}
	next := h.State
	next.Policy, next.Promised = g.policy, ballot
	next.Swept = next.Swept.With(sweep)
	if err := a.store(&change{key: key, old: h.val.Ref}, &next); err != nil {
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
	n, err := a.disk.note(d.Key)
	if err != nil || n == nil || n.Ballot != d.Ballot {
		return // gone, or about a later record; an error shows up where it matters
	}
	a.disk.forget(d.Key, n)
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
		if copy(key[:], it.Key()); len(it.Key()) != len(key) {
			return errs.New("register.Notes", errs.Corrupt, "a note under the key %x", it.Key())
		}
		if n.Micros <= before && !fn(key, n) {
			return nil
		}
	}
	return it.Err()
}
