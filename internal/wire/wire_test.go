package wire

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"

	"ringfort/internal/timestamp"
)

func TestRoundTrip(t *testing.T) {
	ts := timestamp.T{Micros: 1, Logical: 2, Seq: 3, Writer: 4}
	b := AppendBytes(nil, []byte("abc"))
	b = AppendString(b, "")
	b = AppendBool(b, true)
	b = ts.AppendTo(b)
	b = binary.AppendUvarint(b, 255)
	b = binary.AppendUvarint(b, math.MaxInt64)
	r := NewReader(b)
	if !bytes.Equal(r.Bytes(), []byte("abc")) || r.String() != "" || !r.Bool() || r.Timestamp() != ts || r.UvarintMax(255) != 255 || r.Int64() != math.MaxInt64 {
		t.Error("values differ")
	}
	if err := r.Done(); err != nil {
		t.Error(err)
	}
}

func TestHostileInput(t *testing.T) {
	for name, c := range map[string]struct {
		in   []byte
		read func(*Reader)
	}{
		"length beyond the end":     {[]byte{200, 1, 'x'}, func(r *Reader) { r.Bytes() }},
		"endless number":            {bytes.Repeat([]byte{0xff}, 11), func(r *Reader) { r.Uvarint() }},
		"number of a byte too many": {[]byte{0x80, 0}, func(r *Reader) { r.Uvarint() }},
		"number above its limit":    {[]byte{0x80, 2}, func(r *Reader) { r.UvarintMax(255) }},
		"number above int64":        {[]byte{0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1}, func(r *Reader) { r.Int64() }},
		"timestamp without end":     {bytes.Repeat([]byte{0xff}, 24), func(r *Reader) { r.Timestamp() }},
		"refused by its owner":      {[]byte{1}, func(r *Reader) { r.Byte(); r.Fail("no") }},
		"boolean 2":                 {[]byte{2}, func(r *Reader) { r.Bool() }},
		"huge count":                {[]byte{0xff, 0xff, 0xff, 0x7f, 0}, func(r *Reader) { r.Count(1) }},
		"short timestamp":           {make([]byte, 23), func(r *Reader) { r.Timestamp() }},
		"left over":                 {[]byte{1, 2}, func(r *Reader) { r.Byte() }},
	} {
		r := NewReader(c.in)
		c.read(&r)
		if r.Done() == nil {
			t.Errorf("%s: no error", name)
		}
		if r.Uvarint() != 0 || r.Bytes() != nil {
			t.Errorf("%s: a failed reader gave a value", name)
		}
	}
}

// FuzzCanonical reads a value of each kind and writes it again: what is accepted has
// no other form.
func FuzzCanonical(f *testing.F) {
	ts := timestamp.T{Micros: 1}
	f.Add(ts.AppendTo(AppendBool(AppendString(binary.AppendUvarint(nil, 300), "x"), true)))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewReader(b)
		n, s, v, ts := r.Uvarint(), r.String(), r.Bool(), r.Timestamp()
		if r.Done() != nil {
			return
		}
		if again := ts.AppendTo(AppendBool(AppendString(binary.AppendUvarint(nil, n), s), v)); !bytes.Equal(again, b) {
			t.Fatalf("%x became %x", b, again)
		}
	})
}
