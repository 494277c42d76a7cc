package register

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"testing"

	"ringfort/internal/timestamp"
)

func randomT(r *rand.Rand) timestamp.T {
	return timestamp.T{Micros: r.Uint64N(4), Logical: r.Uint32N(2), Seq: r.Uint32N(2), Writer: r.Uint64N(3)}
}

func randomState(r *rand.Rand) State {
	s := State{Policy: r.Uint32N(3) * 100, Promised: randomT(r)}
	for range r.IntN(4) {
		s.Swept = s.Swept.With(randomT(r))
	}
	if r.IntN(4) == 0 {
		return s
	}
	s.Record = &Record{
		Ballot: randomT(r), TS: randomT(r), Op: randomT(r), Root: randomT(r), Mod: randomT(r),
		Tombstone: r.IntN(2) == 0, Group: randomT(r), Epoch: r.Uint64N(300), Value: []byte{},
	}
	for range r.IntN(3) {
		s.Record.Chain = append(s.Record.Chain, randomT(r))
	}
	if r.IntN(2) == 0 {
		s.Record.DataLen, s.Record.DataSum = 1+r.IntN(70000), r.Uint64()
	}
	s.Held, s.Committed = r.IntN(2) == 0, r.IntN(2) == 0
	s.Record.Value = append(s.Record.Value, bytes.Repeat([]byte{'v'}, r.IntN(5))...)
	return s
}

func TestStateRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		s := randomState(r)
		got, err := DecodeState(s.AppendTo(nil))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, s) {
			t.Fatalf("got %+v %+v\nwant %+v %+v", got, got.Record, s, s.Record)
		}
	}
}

// A blind write has all its timestamps equal and must cost one of them.
func TestBlindRecordIsSmall(t *testing.T) {
	ts := timestamp.T{Micros: 5, Writer: 1}
	s := State{Record: &Record{Ballot: ts, TS: ts, Op: ts, Root: ts, Mod: ts}, Held: true}
	if n := len(s.AppendTo(nil)); n > 30 {
		t.Errorf("%d bytes of protocol for a plain write", n)
	}
}

func FuzzDecodeState(f *testing.F) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		s := randomState(r)
		f.Add(s.AppendTo(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := DecodeState(b)
		if err != nil {
			return
		}
		if again := s.AppendTo(nil); !bytes.Equal(again, b) { // one encoding only
			t.Fatalf("%+v is written as\n%x, was read from\n%x", s, again, b)
		}
	})
}
