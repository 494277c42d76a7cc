package wire

import (
	"bytes"
	"testing"

	"ringfort/internal/timestamp"
)

func TestRoundTrip(t *testing.T) {
	ts := timestamp.T{Micros: 1, Logical: 2, Seq: 3, Writer: 4}
	b := AppendBytes(nil, []byte("abc"))
	b = AppendString(b, "")
	b = AppendBool(b, true)
	b = ts.AppendTo(b)
	r := NewReader(b)
	if !bytes.Equal(r.Bytes(), []byte("abc")) || r.String() != "" || !r.Bool() || r.Timestamp() != ts {
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
		"length beyond the end": {[]byte{200, 1, 'x'}, func(r *Reader) { r.Bytes() }},
		"endless number":        {bytes.Repeat([]byte{0xff}, 11), func(r *Reader) { r.Uvarint() }},
		"boolean 2":             {[]byte{2}, func(r *Reader) { r.Bool() }},
		"huge count":            {[]byte{0xff, 0xff, 0xff, 0x7f, 0}, func(r *Reader) { r.Count(1) }},
		"short timestamp":       {make([]byte, 23), func(r *Reader) { r.Timestamp() }},
		"left over":             {[]byte{1, 2}, func(r *Reader) { r.Byte() }},
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
