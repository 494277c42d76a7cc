package peer

import (
	"encoding/binary"

	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/register"
	"ringfort/internal/timestamp"
	"ringfort/internal/wire"
)

// registerHead begins Learn, Read, Write and Prepare.
type registerHead struct {
	target  Target
	service Service
	key     keyhash.Hash
}

func (m *registerHead) appendTo(b []byte) []byte {
	b = appendTarget(b, m.target)
	b = append(b, byte(m.service))
	return append(b, m.key[:]...)
}

func readRegisterHead(r *wire.Reader) registerHead {
	return registerHead{readTarget(r), readService(r), readKey(r)}
}

type readRequest struct {
	registerHead
	data bool
}

func (m *readRequest) appendTo(b []byte) []byte {
	return wire.AppendBool(m.registerHead.appendTo(b), m.data)
}

func readReadRequest(r *wire.Reader) readRequest {
	return readRequest{readRegisterHead(r), r.Bool()}
}

type leasedRequest struct {
	target Target
	key    keyhash.Hash
	holder register.Lease
}

func (m *leasedRequest) appendTo(b []byte) []byte {
	b = appendTarget(b, m.target)
	b = append(b, m.key[:]...)
	return appendLease(b, &m.holder)
}

func readLeasedRequest(r *wire.Reader) leasedRequest {
	return leasedRequest{readTarget(r), readKey(r), readLease(r)}
}

func appendLease(b []byte, l *register.Lease) []byte {
	b = binary.AppendUvarint(b, l.Holder)
	b = wire.AppendString(b, l.Address)
	return appendCount(b, l.Micros)
}

func readLease(r *wire.Reader) register.Lease {
	return register.Lease{Holder: r.Uvarint(), Address: r.String(), Micros: r.Int64()}
}

type writeRequest struct {
	registerHead
	record *register.Record
}

func (m *writeRequest) appendTo(b []byte) []byte {
	return appendRecord(m.registerHead.appendTo(b), m.record)
}

func readWriteRequest(r *wire.Reader) (m writeRequest, err error) {
	m.registerHead = readRegisterHead(r)
	s, err := readState(r)
	if err != nil {
		return m, err
	}
	switch {
	case s.Record == nil:
		return m, errs.New("peer.Write", errs.Corrupt, "a write without a record")
	case s.Policy != 0 || !s.Promised.IsZero() || !s.Swept.Before.IsZero() || s.Swept.Groups != nil || s.Committed:
		return m, errs.New("peer.Write", errs.Corrupt, "a record that says what only a device's state can say")
	case s.Held != !s.Record.Bare():
		return m, errs.New("peer.Write", errs.Corrupt, "a record that is held and has no data, or the other way round")
	}
	m.record = s.Record
	return m, nil
}

type prepareRequest struct {
	registerHead
	ballot, sweep timestamp.T
}

func (m *prepareRequest) appendTo(b []byte) []byte {
	return m.sweep.AppendTo(m.ballot.AppendTo(m.registerHead.appendTo(b)))
}

func readPrepareRequest(r *wire.Reader) prepareRequest {
	return prepareRequest{readRegisterHead(r), r.Timestamp(), r.Timestamp()}
}

func appendKnown(b []byte, k *register.Known) []byte {
	return wire.AppendBool(k.Highest.AppendTo(b), k.Exists)
}

func readKnown(r *wire.Reader) register.Known {
	return register.Known{Highest: r.Timestamp(), Exists: r.Bool()}
}

const (
	answerAccepted = 1 << iota
	answerSwept
)

func appendAnswer(b []byte, a *register.Answer) []byte {
	var flags byte
	if a.Accepted {
		flags |= answerAccepted
	}
	if a.Swept {
		flags |= answerSwept
	}
	b = append(b, flags)
	b = binary.AppendUvarint(b, uint64(len(a.Leases)))
	for i := range a.Leases {
		b = appendLease(b, &a.Leases[i])
	}
	return appendState(b, &a.State)
}

func readAnswer(r *wire.Reader) (a register.Answer, err error) {
	flags := readFlags(r, "flags of an answer", answerAccepted|answerSwept)
	a.Accepted, a.Swept = flags&answerAccepted != 0, flags&answerSwept != 0
	if n := readCount(r, 3); n > 0 {
		a.Leases = make([]register.Lease, n)
		for i := range a.Leases {
			a.Leases[i] = readLease(r)
		}
	}
	a.State, err = readState(r)
	return a, err
}

// settleGroup is what one Settle call passed on.
type settleGroup struct {
	target  Target
	service Service
	done    []register.Settled
}

func appendSettle(b []byte, groups []settleGroup) []byte {
	b = binary.AppendUvarint(b, uint64(len(groups)))
	for i := range groups {
		g := &groups[i]
		b = append(appendTarget(b, g.target), byte(g.service))
		b = binary.AppendUvarint(b, uint64(len(g.done)))
		for _, d := range g.done {
			b = d.Ballot.AppendTo(append(b, d.Key[:]...))
		}
	}
	return b
}

const settledSize = len(keyhash.Hash{}) + timestamp.Size

func readSettle(r *wire.Reader) []settleGroup {
	groups := make([]settleGroup, readCount(r, minTargetSize+2))
	for i := range groups {
		g := &groups[i]
		g.target, g.service = readTarget(r), readService(r)
		if n := readCount(r, settledSize); n > 0 {
			g.done = make([]register.Settled, n)
		}
		for j := range g.done {
			g.done[j] = register.Settled{Key: readKey(r), Ballot: r.Timestamp()}
		}
	}
	return groups
}
