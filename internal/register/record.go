// Package register is the per-key protocol: how a few devices agree on one
// record, without a leader, so that operations on a key are linearizable.
//
// Read first: [Record], what is agreed on; [Acceptor], the rules that a device
// keeps; [Proposer], what a gateway does with the devices' answers. The rules
// are numbered as in the protocol's specification (docs/register.md), and the
// comments name them where they are kept.
//
// The package is not for placing keys (that is ring) nor for what a record's
// value means (that is catalog): it sees a value as bytes.
//
// # Crash and concurrency
//
// An acceptor answers only after what it promised or accepted is on stable
// storage. It may be called by any number of goroutines; calls for one key are
// put in order. A proposer keeps nothing between calls.
//
// # The stored form
//
// A key's state on one device, version 1, is the head of a volume entry:
//
//	byte      version, 1
//	uvarint   flags, below
//	uvarint   policy, not 0                       (flag policy)
//	24 B      promised                            (flag promised)
//	24 B before, uvarint n, n x 24 B   swept      (flag swept)
//	-- the rest only with flag record --
//	24 B      ballot
//	24 B      ts                                  (unless flag ts=ballot)
//	24 B      op                                  (unless flag op=ts)
//	24 B      root                                (unless flag root=ts)
//	24 B      mod                                 (unless flag mod=ts)
//	uvarint n, n x 24 B   chain                   (flag chain)
//	24 B      group                               (flag group)
//	uvarint   length of data, 8 B xxhash64 of it  (flag data)
//	uvarint   ring epoch of the writer
//	bytes     value                               (to the end)
//
// The flags are, from bit 0: promised, swept, record, tombstone, ts=ballot, op=ts,
// root=ts, mod=ts, chain, group, data, held, committed, policy. The data itself is
// the entry's tail; flag held says that this device has it. Flag committed is never
// on a disk, where the absence of a note says it: an answer to a peer has it. The
// policy is that of the ring on which the key lies, 0 without the flag, and is there
// with a bare promise too.
//
// Numbers are uvarints of package wire, everything else is big-endian. The entry's
// checksums, in the log and for the tail, are the volume's; the 8 bytes above cover
// the data once more, from its writer to its reader.
//
// A version above 1 or a flag that is not known was written by a newer program and
// is refused as errs.NotImplemented. A flag that has no meaning where it stands, or
// a list or number that it announces and that is empty or 0, is corruption: a state
// has one encoding only.
package register

import (
	"encoding/binary"
	"math"
	"slices"

	"ringfort/internal/errs"
	"ringfort/internal/timestamp"
	"ringfort/internal/wire"
)

// Record is one state of a key: the outcome of one operation. The fields are
// those that REGISTER's rules speak of; Value and Data are the caller's.
type Record struct {
	Ballot timestamp.T   // under which it was accepted
	TS     timestamp.T   // of the operation that made it
	Op     timestamp.T   // the operation's id, the same over its attempts
	Root   timestamp.T   // TS of the last unconditional write in its lineage
	Mod    timestamp.T   // when this version was last modified, its metadata included
	Chain  []timestamp.T // conditional operations since Root, oldest first

	Tombstone bool        // the key is deleted
	Group     timestamp.T // the blobs that hold the bytes; zero: none
	Epoch     uint64      // ring epoch that the writer knew
	Value     []byte      // what the record says, opaque here

	// Small bytes that ride in the record. A device may hold the record and not
	// the bytes (DataLen > 0, Data nil): it is then bare. Only a record that was
	// chosen, by W devices that have the bytes, is sent bare to the others: a bare
	// record that could still fail would have displaced the one before it, and
	// with it that device's vote.
	DataLen int
	DataSum uint64 // xxhash64 of the bytes
	Data    []byte
}

// MaxChain is how many conditional operations a lineage remembers. A retry that
// finds its chain cut answers "outcome unknown" (rule 6).
const MaxChain = 32

// maxDataBytes is above any small bytes that anyone would let ride in a record.
const maxDataBytes = 1 << 30

// Bare reports whether r's bytes are not here.
func (r *Record) Bare() bool { return r.DataLen > 0 && r.Data == nil }

// Includes reports whether the operation op is in r's lineage.
func (r *Record) Includes(op timestamp.T) bool {
	return r.Op == op || slices.Contains(r.Chain, op)
}

// WithoutData returns r without its bytes.
func (r *Record) WithoutData() *Record {
	if r.Data == nil {
		return r
	}
	c := *r
	c.Data = nil
	return &c
}

// sameData reports whether o has the same bytes as r, here or elsewhere.
func (r *Record) sameData(o *Record) bool {
	return r.TS == o.TS && r.DataLen == o.DataLen && r.DataSum == o.DataSum
}

func (r *Record) withData(data []byte) *Record {
	c := *r
	c.Data = data
	return &c
}

// At returns r as accepted under ballot b: nothing else changes (rule 7).
func (r *Record) At(b timestamp.T) *Record {
	c := *r
	c.Ballot = b
	return &c
}

// State is what one device holds for one key.
type State struct {
	Policy    uint32      // whose ring the key lies on; 0 for containers and accounts
	Promised  timestamp.T // nothing older is accepted
	Swept     Swept
	Record    *Record // nil: none
	Held      bool    // the device has the record's bytes (or there are none to have)
	Committed bool    // the device knows that Record was chosen
}

// Swept are the groups of a key that were given up behind a promise: no record
// may name them any more. Single groups, because an upload that has been open for
// long must outlive the sweeping of a later write that failed.
type Swept struct {
	Before timestamp.T   // everything up to here
	Groups []timestamp.T // and these, ascending; at most maxSwept
}

// maxSwept bounds a key's list; what falls out of it becomes Before.
const maxSwept = 16

// Has reports whether group was swept.
func (s *Swept) Has(group timestamp.T) bool {
	return !s.Before.Less(group) || slices.Contains(s.Groups, group)
}

// With returns s with one more group.
func (s Swept) With(group timestamp.T) Swept {
	if group.IsZero() || s.Has(group) {
		return s
	}
	s.Groups = append(slices.Clone(s.Groups), group)
	slices.SortFunc(s.Groups, timestamp.T.Compare)
	if len(s.Groups) > maxSwept {
		s.Before = s.Groups[0]
		s.Groups = s.Groups[1:]
	}
	return s
}

func (s *Swept) empty() bool { return s.Before.IsZero() && len(s.Groups) == 0 }

// Highest returns the newest timestamp that the device has seen for the key.
func (s *State) Highest() timestamp.T {
	if s.Record == nil {
		return s.Promised
	}
	return timestamp.Max(s.Promised, s.Record.Ballot)
}

// Ballot returns the ballot of the held record, zero if there is none.
func (s *State) Ballot() timestamp.T {
	if s.Record == nil {
		return timestamp.T{}
	}
	return s.Record.Ballot
}

const (
	stateVersion = 1

	flagPromised = 1 << iota >> 1
	flagSwept
	flagRecord
	flagTombstone
	flagTSIsBallot
	flagOpIsTS
	flagRootIsTS
	flagModIsTS
	flagChain
	flagGroup
	flagData
	flagHeld
	flagCommitted // on the wire only: on disk, the absence of a note says it
	flagPolicy

	flagsKnown = flagPolicy<<1 - 1
	// flagsOfRecord are those that say something of a record.
	flagsOfRecord = flagTombstone | flagTSIsBallot | flagOpIsTS | flagRootIsTS | flagModIsTS |
		flagChain | flagGroup | flagData | flagHeld | flagCommitted
)

// AppendTo appends the stored form of s to b, without the record's data.
func (s *State) AppendTo(b []byte) []byte {
	flags := s.flags()
	b = append(b, stateVersion)
	b = binary.AppendUvarint(b, flags)
	if flags&flagPolicy != 0 {
		b = binary.AppendUvarint(b, uint64(s.Policy))
	}
	if flags&flagPromised != 0 {
		b = s.Promised.AppendTo(b)
	}
	if flags&flagSwept != 0 {
		b = s.Swept.Before.AppendTo(b)
		b = binary.AppendUvarint(b, uint64(len(s.Swept.Groups)))
		for _, t := range s.Swept.Groups {
			b = t.AppendTo(b)
		}
	}
	if s.Record == nil {
		return b
	}
	r := s.Record
	b = r.Ballot.AppendTo(b)
	for _, f := range r.optional() {
		if flags&f.sameFlag == 0 {
			b = f.t.AppendTo(b)
		}
	}
	if flags&flagChain != 0 {
		b = binary.AppendUvarint(b, uint64(len(r.Chain)))
		for _, t := range r.Chain {
			b = t.AppendTo(b)
		}
	}
	if flags&flagGroup != 0 {
		b = r.Group.AppendTo(b)
	}
	if flags&flagData != 0 {
		b = binary.AppendUvarint(b, uint64(r.DataLen))
		b = binary.BigEndian.AppendUint64(b, r.DataSum)
	}
	b = binary.AppendUvarint(b, r.Epoch)
	return append(b, r.Value...)
}

type sameable struct {
	t        *timestamp.T
	base     *timestamp.T
	sameFlag uint64
}

// optional lists the timestamps that are mostly equal to another one, in the
// order in which they are stored.
func (r *Record) optional() [4]sameable {
	return [4]sameable{
		{&r.TS, &r.Ballot, flagTSIsBallot},
		{&r.Op, &r.TS, flagOpIsTS},
		{&r.Root, &r.TS, flagRootIsTS},
		{&r.Mod, &r.TS, flagModIsTS},
	}
}

func (s *State) flags() (flags uint64) {
	set := func(f uint64, on bool) {
		if on {
			flags |= f
		}
	}
	set(flagPolicy, s.Policy != 0)
	set(flagPromised, !s.Promised.IsZero())
	set(flagSwept, !s.Swept.empty())
	if r := s.Record; r != nil {
		set(flagRecord, true)
		set(flagCommitted, s.Committed)
		set(flagTombstone, r.Tombstone)
		set(flagChain, len(r.Chain) > 0)
		set(flagGroup, !r.Group.IsZero())
		set(flagData, r.DataLen > 0)
		set(flagHeld, s.Held)
		for _, f := range r.optional() {
			set(f.sameFlag, *f.t == *f.base)
		}
	}
	return flags
}

// DecodeState reads what AppendTo wrote. The value aliases b.
func DecodeState(b []byte) (State, error) {
	const op = "register.DecodeState"
	rd := wire.NewReader(b)
	if err := checkVersion(op, &rd, stateVersion); err != nil {
		return State{}, err
	}
	flags := rd.Uvarint()
	switch {
	case flags&^flagsKnown != 0:
		return State{}, errs.New(op, errs.NotImplemented, "flags %#x are not known: written by a newer program", flags)
	case flags&flagRecord == 0 && flags&flagsOfRecord != 0:
		return State{}, errs.New(op, errs.Corrupt, "flags %#x of a record, without one", flags)
	}
	var s State
	if flags&flagPolicy != 0 {
		s.Policy = uint32(rd.UvarintMax(math.MaxUint32))
	}
	if flags&flagPromised != 0 {
		s.Promised = rd.Timestamp()
	}
	if flags&flagSwept != 0 {
		s.Swept.Before = rd.Timestamp()
		for range rd.Count(timestamp.Size) {
			s.Swept.Groups = append(s.Swept.Groups, rd.Timestamp())
		}
	}
	if flags&flagRecord != 0 {
		s.Held, s.Committed = flags&flagHeld != 0, flags&flagCommitted != 0
		s.Record = decodeRecord(&rd, flags)
	}
	if err := rd.Done(); err != nil {
		return State{}, errs.Wrap(op, errs.Corrupt, err)
	}
	if has := s.flags(); has != flags {
		return State{}, errs.New(op, errs.Corrupt, "flags %#x announce what is not there: %#x", flags, has)
	}
	if n := len(s.Swept.Groups); n > maxSwept {
		return State{}, errs.New(op, errs.Corrupt, "a list of %d swept groups", n)
	}
	return s, nil
}

// checkVersion reads the version byte that a stored form begins with.
func checkVersion(op string, rd *wire.Reader, known byte) error {
	v := rd.Byte()
	switch {
	case rd.Err() != nil:
		return errs.Wrap(op, errs.Corrupt, rd.Err())
	case v > known:
		return errs.New(op, errs.NotImplemented, "version %d: written by a newer program", v)
	case v != known:
		return errs.New(op, errs.Corrupt, "there is no version %d", v)
	}
	return nil
}

func decodeRecord(rd *wire.Reader, flags uint64) *Record {
	r := &Record{Ballot: rd.Timestamp(), Tombstone: flags&flagTombstone != 0}
	for _, f := range r.optional() {
		if flags&f.sameFlag != 0 {
			*f.t = *f.base
		} else {
			*f.t = rd.Timestamp()
		}
	}
	if flags&flagChain != 0 {
		for range rd.Count(timestamp.Size) {
			r.Chain = append(r.Chain, rd.Timestamp())
		}
	}
	if flags&flagGroup != 0 {
		r.Group = rd.Timestamp()
	}
	if flags&flagData != 0 {
		r.DataLen, r.DataSum = int(rd.UvarintMax(maxDataBytes)), rd.Uint64()
	}
	r.Epoch = rd.Uvarint()
	r.Value = rd.Rest()
	return r
}
