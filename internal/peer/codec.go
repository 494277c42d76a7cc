package peer

import (
	"encoding/binary"
	"math"

	"ringfort/internal/blob"
	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/register"
	"ringfort/internal/wire"
	"ringfort/ring"
)

// Every message below writes itself with appendTo and is read by a function that
// takes a wire.Reader and returns the message; the caller asks the reader for
// its failure. Byte slices in what is read alias the payload.

const (
	// maxErrorText cuts the explanation that travels with an error.
	maxErrorText = 1 << 10
)

// badPayload makes the error of a payload that is not what its type says. What a
// newer program may have meant stays errs.NotImplemented.
func badPayload(op string, err error) error {
	if errs.Is(err, errs.NotImplemented) {
		return errs.Wrap(op, errs.Other, err)
	}
	return errs.Wrap(op, errs.Corrupt, err)
}

// unknown refuses a flag or a number of an enumeration that this program does not
// know: what it asks for cannot be left out.
func unknown(r *wire.Reader, what string, value byte) {
	if value == 0 {
		r.Fail("no " + what)
		return
	}
	r.FailWith(errs.New("peer", errs.NotImplemented, "%s %#x is not known: sent by a newer program", what, value))
}

func readService(r *wire.Reader) Service {
	s := Service(r.Byte())
	if r.Err() == nil && (s < Objects || s > Accounts) {
		unknown(r, "service", byte(s))
	}
	return s
}

func readFlags(r *wire.Reader, what string, known byte) byte {
	f := r.Byte()
	if f&^known != 0 {
		unknown(r, what, f)
	}
	return f
}

// appendCount writes a number that must not be negative; one that is, by a clock
// before 1970 or a count that is behind, becomes 0.
func appendCount(b []byte, n int64) []byte { return binary.AppendUvarint(b, uint64(max(n, 0))) }

// minTargetSize is the length of the shortest target.
const minTargetSize = 4

func appendTarget(b []byte, t Target) []byte {
	b = binary.AppendUvarint(b, uint64(t.Device))
	b = binary.AppendUvarint(b, uint64(t.Policy))
	b = binary.AppendUvarint(b, t.Epoch)
	return binary.AppendUvarint(b, uint64(t.Partition))
}

func readTarget(r *wire.Reader) Target {
	return Target{Device: ring.DeviceID(readUint32(r)), Policy: readUint32(r), Epoch: r.Uvarint(), Partition: ring.Partition(readUint32(r))}
}

// readUint32 reads a uvarint that must fit into 32 bits: cut to its low bits, a
// number would name another device.
func readUint32(r *wire.Reader) uint32 {
	return uint32(r.UvarintMax(math.MaxUint32))
}

func readKey(r *wire.Reader) (k keyhash.Hash) {
	copy(k[:], r.Fixed(len(k)))
	return k
}

func readBlobID(r *wire.Reader) blob.ID {
	id, ok := blob.Decode(r.Fixed(blob.IDSize))
	if !ok {
		r.Fail("not the id of a blob")
	}
	return id
}

// maxList bounds the elements of any list in a message.
const maxList = 1 << 16

func readCount(r *wire.Reader, size int) int {
	n := r.Count(size)
	if n > maxList {
		r.Fail("list is too long")
		return 0
	}
	return n
}

// appendRecord writes a record and its data, if the data is here.
func appendRecord(b []byte, rec *register.Record) []byte {
	s := register.State{Record: rec, Held: !rec.Bare()}
	return appendState(b, &s)
}

// appendState writes a state: data first, since the state ends with the value,
// which has no length of its own.
func appendState(b []byte, s *register.State) []byte {
	if s.Record != nil && s.Record.DataLen > 0 && s.Record.Data != nil {
		b = append(b, 1)
		b = wire.AppendBytes(b, s.Record.Data)
	} else {
		b = append(b, 0)
	}
	return s.AppendTo(b)
}

func stateSize(r *register.Record) int {
	if r == nil {
		return 64
	}
	return 192 + len(r.Chain)*24 + len(r.Value) + len(r.Data)
}

// readState reads to the end of the payload.
func readState(r *wire.Reader) (register.State, error) {
	const op = "peer.readState"
	with := r.Bool()
	var data []byte
	if with {
		data = r.Bytes()
	}
	if err := r.Err(); err != nil {
		return register.State{}, badPayload(op, err)
	}
	s, err := register.DecodeState(r.Rest())
	if err != nil {
		return register.State{}, badPayload(op, err)
	}
	if with {
		if s.Record == nil || len(data) == 0 || len(data) != s.Record.DataLen {
			return register.State{}, errs.New(op, errs.Corrupt, "%d bytes of data that the record does not have", len(data))
		}
		s.Record.Data = data
	}
	return s, nil
}

// appendError writes what crosses of an error.
func appendError(b []byte, err error) []byte {
	text := err.Error()
	if len(text) > maxErrorText {
		text = text[:maxErrorText]
	}
	b = append(b, byte(errs.KindOf(err)))
	return wire.AppendString(b, text)
}

// decodeError reads what appendError wrote; the result is never nil.
func decodeError(op string, p []byte) error {
	r := wire.NewReader(p)
	kind, text := errs.Kind(r.Byte()), r.String()
	if err := r.Done(); err != nil {
		return badPayload(op, err)
	}
	if !kind.Known() {
		return errs.New(op, errs.NotImplemented, "an error of kind %d, sent by a newer program: %s", kind, text)
	}
	return &errs.Error{Op: op, Kind: kind, What: text}
}
