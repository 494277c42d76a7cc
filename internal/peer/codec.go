package peer

import (
	"encoding/binary"

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
	// maxDataBytes is far above any record's data; a larger claim is a lie.
	maxDataBytes = 1 << 30
)

// badPayload makes the error of a payload that is not what its type says.
func badPayload(op string, err error) error { return errs.Wrap(op, errs.Corrupt, err) }

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
	v := r.Uvarint()
	if v > 1<<32-1 {
		failReader(r)
		return 0
	}
	return uint32(v)
}

// failReader makes r fail for a value out of range: a Fixed longer than anything
// is the failure that every reader has.
func failReader(r *wire.Reader) { r.Fixed(-1) }

func readKey(r *wire.Reader) (k keyhash.Hash) {
	copy(k[:], r.Fixed(len(k)))
	return k
}

func readBlobID(r *wire.Reader) blob.ID {
	id, _ := blob.Decode(r.Fixed(blob.IDSize))
	return id
}

// maxList bounds the elements of any list in a message.
const maxList = 1 << 16

func readCount(r *wire.Reader, size int) int {
	n := r.Count(size)
	if n > maxList {
		failReader(r)
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
	if rec := s.Record; rec != nil && (rec.DataLen < 0 || rec.DataLen > maxDataBytes) {
		return register.State{}, errs.New(op, errs.Corrupt, "a record of %d bytes of data", rec.DataLen)
	}
	if rec := s.Record; rec != nil && rec.DataLen == 0 && rec.DataSum != 0 {
		return register.State{}, errs.New(op, errs.Corrupt, "a checksum of no data")
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
	return &errs.Error{Op: op, Kind: kind, What: text}
}
