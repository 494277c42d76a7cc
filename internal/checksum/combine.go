package checksum

import (
	"encoding/binary"

	"ringfort/internal/errs"
)

// Combining CRCs.
//
// A CRC register holds a polynomial over GF(2) modulo the generator P. Feeding n
// zero bytes multiplies it by x^(8n). All three CRCs here start with all ones and
// are inverted at the end, and for those, as in zlib's crc32_combine,
//
//	crc(A‖B) = crc(A)·x^(8·len(B)) mod P  xor  crc(B)
//
// Bits are reflected: the top bit of a register is the coefficient of x^0.

// field is the ring of polynomials modulo one CRC's generator.
type field struct {
	poly uint64 // reflected generator without its leading term
	one  uint64 // x^0: the top bit
}

func fieldOf(a Algorithm) field {
	switch a {
	case CRC32:
		return field{0xedb88320, 1 << 31}
	case CRC32C:
		return field{0x82f63b78, 1 << 31}
	default: // CRC64NVME
		return field{0x9a6c9329ac4bc9b5, 1 << 63}
	}
}

// mul returns a·b mod P.
func (f field) mul(a, b uint64) uint64 {
	var p uint64
	for m := f.one; m != 0; m >>= 1 {
		if a&m != 0 {
			p ^= b
			if a&(m-1) == 0 {
				break
			}
		}
		b = b>>1 ^ f.poly&-(b&1)
	}
	return p
}

// zeros returns x^(8n) mod P: the operator for n more bytes.
func (f field) zeros(n uint64) uint64 {
	p, square := f.one, f.one>>8 // x^0 and x^8
	for ; n != 0; n >>= 1 {
		if n&1 != 0 {
			p = f.mul(square, p)
		}
		square = f.mul(square, square)
	}
	return p
}

// Part is what FullObject and CompositeOf need of one part.
type Part struct {
	Sum         Sum
	LengthBytes int64
}

// FullObject returns the checksum of the bytes of all parts in their order, from
// the parts' CRCs and lengths. Without parts it is that of no bytes. A part with
// another algorithm, a composite part or a negative length is Invalid, and so is
// an algorithm that is no CRC: their value does not follow from the parts'.
func FullObject(a Algorithm, parts []Part) (Sum, error) {
	if !a.CRC() {
		return Sum{}, errs.New("checksum.FullObject", errs.Invalid, "%q has no full object checksum of parts", a.String())
	}
	f := fieldOf(a)
	var crc uint64
	// Parts of one upload have the same length but for the last: remember its operator.
	lastLen, lastOp := int64(0), f.one
	for i, p := range parts {
		if p.Sum.alg != a || p.Sum.parts != 0 || p.LengthBytes < 0 {
			return Sum{}, errs.New("checksum.FullObject", errs.Invalid, "part %d has no %s", i+1, a)
		}
		if p.LengthBytes != lastLen {
			lastLen, lastOp = p.LengthBytes, f.zeros(uint64(p.LengthBytes))
		}
		crc = f.mul(lastOp, crc) ^ p.Sum.crc()
	}
	return crcSum(a, crc), nil
}

// CompositeOf returns the composite checksum of the parts in their order.
func CompositeOf(a Algorithm, parts []Part) (Sum, error) {
	if !a.Allows(TypeComposite) || len(parts) < 1 || len(parts) > MaxParts {
		return Sum{}, errs.New("checksum.CompositeOf", errs.Invalid, "%q of %d parts", a.String(), len(parts))
	}
	var set Set
	set.Reset(a)
	var raw [maxSize]byte
	for i, p := range parts {
		if p.Sum.alg != a || p.Sum.parts != 0 {
			return Sum{}, errs.New("checksum.CompositeOf", errs.Invalid, "part %d has no %s", i+1, a)
		}
		set.Write(p.Sum.AppendRaw(raw[:0]))
	}
	s := set.Sum(a)
	s.parts = uint16(len(parts))
	return s, nil
}

// OfParts returns the checksum of type t: FullObject or CompositeOf.
func OfParts(a Algorithm, t Type, parts []Part) (Sum, error) {
	if t == TypeComposite {
		return CompositeOf(a, parts)
	}
	return FullObject(a, parts)
}

func (s Sum) crc() uint64 {
	if s.alg == CRC64NVME {
		return binary.BigEndian.Uint64(s.b[:])
	}
	return uint64(binary.BigEndian.Uint32(s.b[:]))
}

func crcSum(a Algorithm, crc uint64) Sum {
	s := Sum{alg: a}
	if a == CRC64NVME {
		binary.BigEndian.PutUint64(s.b[:], crc)
	} else {
		binary.BigEndian.PutUint32(s.b[:], uint32(crc))
	}
	return s
}
