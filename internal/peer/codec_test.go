package peer

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"ringfort/internal/blob"
	"ringfort/internal/catalog"
	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/register"
	"ringfort/internal/timestamp"
	"ringfort/internal/wire"
	"ringfort/ring"
)

// gen makes random messages out of small ranges, so that flags and equal fields
// are common, and now and then out of the extremes.
type gen struct{ *rand.Rand }

func (g gen) n(max uint64) uint64 {
	if g.IntN(16) == 0 {
		return max
	}
	return g.Uint64N(min(max, 300))
}

func (g gen) size() int64    { return int64(g.n(1<<62 - 1)) }
func (g gen) flag() bool     { return g.IntN(2) == 0 }
func (g gen) bytes() []byte  { return bytes.Repeat([]byte{byte(g.Uint32())}, g.IntN(40)) }
func (g gen) string() string { return string(g.bytes()) }

func (g gen) key() (k keyhash.Hash) {
	for i := range k {
		k[i] = byte(g.Uint32())
	}
	return k
}

func (g gen) ts() timestamp.T {
	return timestamp.T{Micros: g.Uint64N(4), Logical: g.Uint32N(2), Seq: g.Uint32N(2), Writer: g.Uint64N(3)}
}

func (g gen) id() blob.ID {
	return blob.ID{Group: g.ts(), Part: uint32(g.n(1<<32 - 1)), Attempt: g.n(1<<64 - 1)}
}

func (g gen) target() Target {
	return Target{ring.DeviceID(g.n(1<<32 - 1)), uint32(g.n(1<<32 - 1)), g.n(1<<64 - 1), ring.Partition(g.n(1<<32 - 1))}
}

func (g gen) service() Service { return Service(1 + g.IntN(3)) }

func (g gen) record() *register.Record {
	r := &register.Record{
		Ballot: g.ts(), TS: g.ts(), Op: g.ts(), Root: g.ts(), Mod: g.ts(),
		Tombstone: g.flag(), Group: g.ts(), Epoch: g.n(1<<64 - 1), Value: g.bytes(),
	}
	for range g.IntN(3) {
		r.Chain = append(r.Chain, g.ts())
	}
	if g.flag() {
		r.DataLen, r.DataSum = 1+g.IntN(100), g.Uint64()
		if g.flag() {
			r.Data = bytes.Repeat([]byte{'d'}, r.DataLen)
		}
	}
	return r
}

func (g gen) state() register.State {
	s := register.State{Policy: uint32(g.n(1<<32 - 1)), Promised: g.ts()}
	if g.flag() {
		s.Swept = s.Swept.With(g.ts())
	}
	if g.IntN(4) > 0 {
		s.Record, s.Held, s.Committed = g.record(), g.flag(), g.flag()
	}
	return s
}

func (g gen) lease() register.Lease {
	return register.Lease{Holder: g.n(1<<64 - 1), Address: g.string(), Micros: g.size()}
}

func (g gen) row() catalog.Row {
	return catalog.Row{Name: g.string(), Ballot: g.ts(), TS: g.ts(), Deleted: g.flag(), Bytes: g.size(), Value: g.bytes()}
}

func (g gen) listing() Listing {
	l := Listing{Key: g.key(), Table: catalog.Table(1 + g.IntN(5)), RangeEpoch: g.n(1<<64 - 1)}
	k := g.key()
	copy(l.Incarnation[:], k[:])
	return l
}

func list[T any](g gen, one func() T) []T {
	var out []T
	for range g.IntN(4) {
		out = append(out, one())
	}
	return out
}

func (g gen) head() registerHead       { return registerHead{g.target(), g.service(), g.key()} }
func (g gen) listingHead() listingHead { return listingHead{g.target(), g.service(), g.listing()} }
func (g gen) settled() register.Settled {
	return register.Settled{Key: g.key(), Ballot: g.ts()}
}

func (g gen) query() RowQuery {
	return RowQuery{
		Listing: g.listing(), Prefix: g.string(), Marker: g.string(), EndMarker: g.string(), Inclusive: g.flag(),
		Reverse: g.flag(), Delimiter: g.string(), Limit: int(g.n(MaxPage)),
	}
}

func (g gen) answer() register.Answer {
	return register.Answer{Accepted: g.flag(), Swept: g.flag(), State: g.state(), Leases: list(g, g.lease)}
}

func (g gen) status() *NodeStatus {
	s := &NodeStatus{Name: g.string(), Version: g.string(), Started: g.size(), Micros: g.size()}
	if n := g.IntN(3); n > 0 {
		s.Epochs = map[string]uint64{}
		for i := range n {
			s.Epochs[fmt.Sprint(i)] = g.n(1<<64 - 1)
		}
	}
	s.Devices = list(g, func() DeviceStatus {
		return DeviceStatus{
			Device: ring.DeviceID(g.n(1<<32 - 1)), UUID: [16]byte(g.key()), Path: g.string(), State: g.string(),
			Problem: g.string(), TotalBytes: g.n(1<<64 - 1), FreeBytes: g.n(1<<64 - 1), Uploads: g.size(),
		}
	})
	return s
}

// message is one kind of payload: how a random one is made and written, and how
// any is read.
type message struct {
	name  string
	make  func(g gen) (value any, encoded []byte)
	read  func(p []byte) (any, error)
	write func(value any) []byte
}

// plainMessage is a message whose reader leaves the error to the wire.Reader.
func plainMessage[T any](name string, make func(gen) T, write func(*T, []byte) []byte, read func(*wire.Reader) T) message {
	return message{name,
		func(g gen) (any, []byte) { v := make(g); return v, write(&v, nil) },
		func(p []byte) (any, error) {
			r := wire.NewReader(p)
			v := read(&r)
			return v, r.Done()
		},
		func(v any) []byte { x := v.(T); return write(&x, nil) }}
}

func erringMessage[T any](name string, make func(gen) T, write func(*T, []byte) []byte, read func(*wire.Reader) (T, error)) message {
	return message{name,
		func(g gen) (any, []byte) { v := make(g); return v, write(&v, nil) },
		func(p []byte) (any, error) {
			r := wire.NewReader(p)
			return read(&r)
		},
		func(v any) []byte { x := v.(T); return write(&x, nil) }}
}

func messages() []message {
	return []message{
		plainMessage("head", gen.head, (*registerHead).appendTo, readRegisterHead),
		plainMessage("read", func(g gen) readRequest { return readRequest{g.head(), g.flag()} }, (*readRequest).appendTo, readReadRequest),
		plainMessage("leased", func(g gen) leasedRequest { return leasedRequest{g.target(), g.key(), g.lease()} }, (*leasedRequest).appendTo, readLeasedRequest),
		erringMessage("write", func(g gen) writeRequest { return writeRequest{g.head(), g.record()} }, (*writeRequest).appendTo, readWriteRequest),
		plainMessage("prepare", func(g gen) prepareRequest { return prepareRequest{g.head(), g.ts(), g.ts()} }, (*prepareRequest).appendTo, readPrepareRequest),
		plainMessage("known", func(g gen) register.Known { return register.Known{Highest: g.ts(), Exists: g.flag()} },
			func(k *register.Known, b []byte) []byte { return appendKnown(b, k) }, readKnown),
		erringMessage("state", gen.state, func(s *register.State, b []byte) []byte { return appendState(b, s) }, readState),
		erringMessage("answer", gen.answer, func(a *register.Answer, b []byte) []byte { return appendAnswer(b, a) }, readAnswer),
		plainMessage("settle", func(g gen) []settleGroup {
			return list(g, func() settleGroup { return settleGroup{g.target(), g.service(), list(g, g.settled)} })
		}, func(m *[]settleGroup, b []byte) []byte { return appendSettle(b, *m) }, readSettle),
		plainMessage("put rows", func(g gen) putRowsRequest { return putRowsRequest{g.listingHead(), list(g, g.row)} }, (*putRowsRequest).appendTo, readPutRowsRequest),
		plainMessage("list rows", func(g gen) listRowsRequest { return listRowsRequest{g.target(), g.service(), g.query()} }, (*listRowsRequest).appendTo, readListRowsRequest),
		plainMessage("page", func(g gen) *RowPage {
			return &RowPage{More: g.flag(), Entries: list(g, func() Entry { return Entry{g.row(), g.string()} })}
		}, func(m **RowPage, b []byte) []byte { return appendPage(b, *m, 1<<20) }, readPage),
		plainMessage("get rows", func(g gen) getRowsRequest { return getRowsRequest{g.listingHead(), list(g, g.string)} }, (*getRowsRequest).appendTo, readGetRowsRequest),
		plainMessage("row states", func(g gen) []RowState {
			return list(g, func() RowState {
				if g.flag() {
					return RowState{}
				}
				return RowState{true, g.row()}
			})
		}, func(m *[]RowState, b []byte) []byte { return appendRowStates(b, *m, math.MaxInt) }, readRowStates),
		plainMessage("stats", func(g gen) ListingStats { return ListingStats{g.size(), g.size()} },
			func(m *ListingStats, b []byte) []byte { return appendStats(b, m) }, readStats),
		plainMessage("drop", func(g gen) dropRequest { return dropRequest{g.target(), g.key(), list(g, g.id)} }, (*dropRequest).appendTo, readDropRequest),
		plainMessage("drop group", func(g gen) dropGroupRequest { return dropGroupRequest{g.target(), g.key(), g.ts()} }, (*dropGroupRequest).appendTo, readDropGroupRequest),
		plainMessage("status", gen.status, func(m **NodeStatus, b []byte) []byte { return appendStatus(b, *m) }, readStatus),
		plainMessage("create", func(g gen) createRequest {
			return createRequest{g.target(), FragmentHeader{
				Owner: g.key(), ID: g.id(), Index: g.IntN(255), Size: g.size() - 1,
				Coding: catalog.Coding{K: byte(g.Uint32()), M: byte(g.Uint32()), BlockSize: uint32(g.n(1<<32 - 1))},
			}}
		}, (*createRequest).appendTo, readCreateRequest),
		plainMessage("open", func(g gen) openRequest {
			return openRequest{fragmentHead{g.target(), FragmentName{g.key(), g.id(), g.IntN(255)}}, g.size(), g.size()}
		}, (*openRequest).appendTo, readOpenRequest),
		plainMessage("listing", gen.listingHead, (*listingHead).appendTo, readListingHead),
	}
}

// same compares what was read with what was written; an empty list is nil.
func same(a, b any) bool { return fmt.Sprintf("%+v", flat(a)) == fmt.Sprintf("%+v", flat(b)) }

// flat replaces pointers to what is compared by what they point to.
func flat(v any) any {
	switch v := v.(type) {
	case writeRequest:
		return []any{v.registerHead, *v.record}
	case register.State:
		return flatState(v)
	case register.Answer:
		return []any{v.Accepted, v.Swept, v.Leases, flatState(v.State)}
	case *RowPage:
		return *v
	case *NodeStatus:
		return *v
	}
	return v
}

func flatState(s register.State) any {
	if s.Record == nil {
		return s
	}
	return []any{s.Policy, s.Promised, s.Swept, s.Held, s.Committed, *s.Record, s.Record.Data == nil}
}

func TestMessagesRoundTrip(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	g := gen{rand.New(rand.NewPCG(seed, 0))}
	for _, m := range messages() {
		for range 2000 {
			v, p := m.make(g)
			got, err := m.read(p)
			if err != nil || !same(got, v) {
				t.Fatalf("%s: seed %d:\nwrote %+v\nread  %+v, %v", m.name, seed, flat(v), flat(got), err)
			}
		}
	}
}

// Cut short anywhere, or with a byte too many, a message must fail or, where it
// ends with free bytes, at least not be taken for more than it is.
func TestMessagesCutShort(t *testing.T) {
	g := gen{rand.New(rand.NewPCG(7, 0))}
	for _, m := range messages() {
		for range 50 {
			v, p := m.make(g)
			for i := range p {
				if got, err := m.read(p[:i:i]); err == nil && same(got, v) {
					t.Fatalf("%s: %d of %d bytes are read as the whole", m.name, i, len(p))
				}
			}
		}
	}
}

func FuzzMessages(f *testing.F) {
	g := gen{rand.New(rand.NewPCG(1, 2))}
	all := messages()
	for i, m := range all {
		for range 5 {
			_, p := m.make(g)
			f.Add(byte(i), p)
		}
	}
	f.Fuzz(func(t *testing.T, which byte, p []byte) {
		m := all[int(which)%len(all)]
		v, err := m.read(p)
		if err != nil {
			if k := errs.KindOf(err); k != errs.Corrupt && k != errs.NotImplemented {
				t.Fatalf("%s: %v is of kind %v", m.name, err, errs.KindOf(err))
			}
			return
		}
		// One encoding only: what was read and is passed on gives the same bytes.
		if again := m.write(v); !bytes.Equal(again, p) {
			t.Fatalf("%s: %+v is written as\n%x, was read from\n%x", m.name, flat(v), again, p)
		}
	})
}

// FuzzDispatch sends any bytes as any request to a node.
func FuzzDispatch(f *testing.F) {
	g := gen{rand.New(rand.NewPCG(3, 4))}
	for _, m := range messages() {
		_, p := m.make(g)
		for k := range byte(16) {
			f.Add(k, p)
		}
	}
	f.Fuzz(func(t *testing.T, kind byte, p []byte) {
		dispatch(t.Context(), deaf{}, messageType(kind), p, nil, 1<<20)
	})
}

func TestErrorsCross(t *testing.T) {
	for k := errs.Other; k <= errs.Gone; k++ {
		err := decodeError("here", appendError(nil, errs.New("there", k, "why")))
		if errs.KindOf(err) != k || !errors.As(err, new(*errs.Error)) {
			t.Errorf("%v became %v", k, err)
		}
	}
	if err := decodeError("here", nil); !errs.Is(err, errs.Corrupt) {
		t.Errorf("no bytes are read as %v", err)
	}
	if err := decodeError("here", []byte{0, 0}); err == nil {
		t.Error("an error that says nothing is none")
	}
}

func FuzzDecodeError(f *testing.F) {
	f.Add(appendError(nil, errs.New("op", errs.Full, "no room")))
	f.Fuzz(func(t *testing.T, p []byte) {
		if decodeError("fuzz", p) == nil {
			t.Fatal("nil")
		}
	})
}

// A page that is too long is cut, never empty, and says that more follows.
func TestPageIsCut(t *testing.T) {
	p := &RowPage{}
	for i := range 100 {
		p.Entries = append(p.Entries, Entry{Row: catalog.Row{Name: fmt.Sprint(i), Value: make([]byte, 1000)}})
	}
	for _, limit := range []int{0, 1, 5000, 50_000, 1 << 20} {
		b := appendPage(nil, p, limit)
		r := wire.NewReader(b)
		got := readPage(&r)
		if r.Done() != nil || len(got.Entries) == 0 || got.More != (len(got.Entries) < 100) {
			t.Fatalf("limit %d: %d entries, more %v", limit, len(got.Entries), got.More)
		}
		if len(got.Entries) > 1 && len(b) > limit {
			t.Errorf("limit %d: %d bytes", limit, len(b))
		}
		if !reflect.DeepEqual(got.Entries[0].Name, "0") {
			t.Error("cut at the wrong end")
		}
	}
}

func FuzzFrame(f *testing.F) {
	b := make([]byte, frameHeaderSize+5)
	sealFrame(b, 7, msgWrite, flagAnswer, time.Second)
	f.Add(b)
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) < frameHeaderSize {
			return
		}
		h, err := parseFrameHeader(p, 1<<20)
		if err != nil || h.length != len(p)-frameHeaderSize || checkFrame(p) != nil {
			return
		}
		again := bytes.Clone(p)
		sealFrame(again, h.stream, h.kind, h.flags, h.left)
		if !bytes.Equal(again, p) {
			t.Fatalf("%x became %x", p, again)
		}
	})
}

func FuzzBlock(f *testing.F) {
	p := []byte("payload")
	head := make([]byte, blockHeaderSize)
	sealBlock(head, 5, blockLast, p)
	f.Add(append(head, p...), int64(5))
	f.Fuzz(func(t *testing.T, p []byte, at int64) {
		if len(p) < blockHeaderSize {
			return
		}
		head, payload := p[:blockHeaderSize], p[blockHeaderSize:]
		b, err := parseBlock(head, at)
		if err != nil || b.length != len(payload) || b.check(head, payload) != nil {
			return
		}
		again := make([]byte, blockHeaderSize)
		sealBlock(again, at, b.kind, payload)
		if !bytes.Equal(again, head) {
			t.Fatalf("%x became %x", head, again)
		}
	})
}

func FuzzStrings(f *testing.F) {
	var s Secret
	f.Add(formatHello(newNonce(), s.helloMAC(upgradeToken, newNonce())))
	ses := session{}
	auth, _ := ses.authorize("GET", "/x")
	f.Add(auth)
	f.Add(encodeQuery([]byte("query")))
	f.Fuzz(func(t *testing.T, v string) {
		parseHello(v)
		parseCredentials(v)
		if p, err := decodeQuery(v); err == nil {
			decodeCommit(p)
		}
	})
}
