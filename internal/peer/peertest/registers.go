package peertest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"ringfort/internal/catalog"
	"ringfort/internal/catalog/catalogtest"
	"ringfort/internal/errs"
	"ringfort/internal/peer"
	"ringfort/internal/register"
	"ringfort/internal/timestamp"
)

func (x *suite) absentKey(t *testing.T) {
	o := x.object()
	k, err := x.node.Learn(x.ctx(t), o.target, peer.Objects, o.key)
	if err != nil || k.Exists {
		t.Fatalf("Learn: %+v, %v", k, err)
	}
	if s := x.read(t, o, true); s.Record != nil || !s.Promised.IsZero() {
		t.Fatalf("Read: %+v", s)
	}
}

func (x *suite) writeAndRead(t *testing.T) {
	for _, c := range []struct{ value, data int }{
		{0, 0}, {0, 1}, {1, 0}, {300, 4096}, {100, 64 << 10}, {700 << 10, 0}, {700 << 10, 64 << 10},
	} {
		t.Run(fmt.Sprintf("%d+%d", c.value, c.data), func(t *testing.T) {
			o := x.object()
			if c.value > 300 { // metadata beyond anything that a protocol lets through
				big, _ := catalog.DecodeObject(o.value)
				big.Meta = catalog.Pairs{{Name: "meta-big", Value: strings.Repeat("v", c.value)}}
				o.value = catalogtest.Bytes(big)
			}
			r := x.blind(o.value, x.bytes(c.data))
			if a := x.write(t, o, r, true); sameRecord(a.State.Record, r.WithoutData()) != nil || !a.State.Held {
				t.Fatalf("answered %+v", a)
			}
			s := x.read(t, o, true)
			if err := sameRecord(s.Record, r); err != nil || !s.Held {
				t.Fatal(err, s.Held)
			}
			s = x.read(t, o, false)
			if err := sameRecord(s.Record, r.WithoutData()); err != nil || s.Record.Data != nil || !s.Held {
				t.Fatal(err, s.Held)
			}
			k, err := x.node.Learn(x.ctx(t), o.target, peer.Objects, o.key)
			if err != nil || !k.Exists || k.Highest != r.Ballot {
				t.Fatalf("Learn: %+v, %v", k, err)
			}
		})
	}
}

// A key lies on one policy's ring: asked for under another one it is refused, by a
// device that has only promised as well.
func (x *suite) onePolicy(t *testing.T) {
	written, promised := x.object(), x.object()
	x.write(t, written, x.blind(written.value, nil), true)
	if a, err := x.node.Prepare(x.ctx(t), promised.target, peer.Objects, promised.key, x.clock.Now(), timestamp.T{}); err != nil || !a.Accepted {
		t.Fatalf("Prepare: %+v, %v", a, err)
	}
	for _, o := range []object{written, promised} {
		if s := x.read(t, o, false); s.Policy != o.target.Policy {
			t.Errorf("policy %d of a key written under %d", s.Policy, o.target.Policy)
		}
		other := o.target
		other.Policy++
		for name, call := range map[string]func() error{
			"Learn": func() error { _, err := x.node.Learn(x.ctx(t), other, peer.Objects, o.key); return err },
			"Read":  func() error { _, err := x.node.Read(x.ctx(t), other, peer.Objects, o.key, false); return err },
			"Write": func() error {
				_, err := x.node.Write(x.ctx(t), other, peer.Objects, o.key, x.blind(o.value, nil))
				return err
			},
			"Prepare": func() error {
				_, err := x.node.Prepare(x.ctx(t), other, peer.Objects, o.key, x.clock.Now(), timestamp.T{})
				return err
			},
		} {
			if err := call(); !errs.Is(err, errs.Invalid) {
				t.Errorf("%s under another policy: %v", name, err)
			}
		}
	}
	x.write(t, written, x.blind(written.value, nil), true) // and under its own as before
	c := x.key()
	t2 := x.Target(peer.Containers, c)
	t2.Policy = 1
	if _, err := x.node.ReadLeased(x.ctx(t), t2, c, register.Lease{Holder: 1, Micros: 1e6}); !errs.Is(err, errs.Invalid) {
		t.Errorf("a container under policy 1: %v", err)
	}
}

func (x *suite) writeIsOrdered(t *testing.T) {
	o := x.object()
	old, r := x.blind(o.value, nil), x.blind(o.value, x.bytes(10))
	x.write(t, o, r, true)
	x.write(t, o, r, true) // the same again
	a := x.write(t, o, old, false)
	if a.State.Record == nil || a.State.Record.Ballot != r.Ballot || a.Swept {
		t.Fatalf("a refusal must tell what is held: %+v", a)
	}
	other := x.blind(o.value, nil) // another operation under a ballot that is taken
	other.Ballot = r.Ballot
	x.write(t, o, other, false)
	x.write(t, o, x.blind(o.value, nil), true)
}

func (x *suite) prepare(t *testing.T) {
	o := x.object()
	r := x.blind(o.value, x.bytes(100))
	x.write(t, o, r, true)
	late, promise := x.blind(o.value, nil), x.clock.Now()
	a, err := x.node.Prepare(x.ctx(t), o.target, peer.Objects, o.key, promise, timestamp.T{})
	if err != nil || !a.Accepted || a.State.Promised != promise {
		t.Fatalf("Prepare: %+v, %v", a, err)
	}
	if err := sameRecord(a.State.Record, r.WithoutData()); err != nil || !a.State.Held {
		t.Fatal(err, a.State.Held)
	}
	if a := x.write(t, o, late, false); a.State.Promised != promise {
		t.Fatalf("a refusal must tell the promise: %+v", a)
	}
	for _, b := range []timestamp.T{promise, r.Ballot} {
		if a, err := x.node.Prepare(x.ctx(t), o.target, peer.Objects, o.key, b, timestamp.T{}); err != nil || a.Accepted {
			t.Fatalf("promised %v after %v: %+v, %v", b, promise, a, err)
		}
	}
	k, err := x.node.Learn(x.ctx(t), o.target, peer.Objects, o.key)
	if err != nil || k.Highest != promise {
		t.Fatalf("Learn: %+v, %v", k, err)
	}
	// What a promise alone was made for is written at its ballot; data stays.
	x.write(t, o, r.At(promise), true)
	if s := x.read(t, o, true); sameRecord(s.Record, r.At(promise)) != nil {
		t.Fatalf("Read: %+v", s)
	}
	// A promise on a key that is not there.
	o = x.object()
	early := x.blind(o.value, nil)
	if a, err := x.node.Prepare(x.ctx(t), o.target, peer.Objects, o.key, x.clock.Now(), timestamp.T{}); err != nil || !a.Accepted || a.State.Record != nil {
		t.Fatalf("Prepare: %+v, %v", a, err)
	}
	x.write(t, o, early, false)
}

func (x *suite) bareRecord(t *testing.T) {
	o := x.object()
	r := x.blind(o.value, x.bytes(5000))
	if a := x.write(t, o, r.WithoutData(), true); a.State.Held {
		t.Fatal("a record without its data is said to be held whole")
	}
	if s := x.read(t, o, true); s.Held || s.Record.Data != nil || s.Record.DataLen != r.DataLen {
		t.Fatalf("Read: %+v", s)
	}
	if a := x.write(t, o, r, true); !a.State.Held {
		t.Fatal("the data came late and is not held")
	}
	if s := x.read(t, o, true); sameRecord(s.Record, r) != nil {
		t.Fatalf("Read: %+v", s)
	}
	if a := x.write(t, o, r.WithoutData(), true); !a.State.Held {
		t.Fatal("a bare repetition must not lose the data")
	}
}

func (x *suite) badRecord(t *testing.T) {
	o := x.object()
	r := x.blind(o.value, x.bytes(50))
	r.DataSum++
	_, err := x.node.Write(x.ctx(t), o.target, peer.Objects, o.key, r)
	wantKind(t, err, errs.BadDigest)
	_, err = x.node.Write(x.ctx(t), o.target, peer.Objects, o.key, &register.Record{Value: o.value})
	wantKind(t, err, errs.Invalid)
}

func (x *suite) lineage(t *testing.T) {
	o := x.object()
	r := x.blind(o.value, nil)
	r.Root, r.Op, r.Mod = x.clock.Now(), x.clock.Now(), x.clock.Now()
	r.Ballot = x.clock.Now()
	for range register.MaxChain {
		r.Chain = append(r.Chain, x.clock.Now())
	}
	r.Epoch = 12345
	x.write(t, o, r, true)
	if err := sameRecord(x.read(t, o, true).Record, r); err != nil {
		t.Fatal(err)
	}
}

func (x *suite) sweep(t *testing.T) {
	o := x.object()
	held, swept := x.blind(o.value, nil), x.blind(o.value, nil)
	held.Group, swept.Group = held.TS, swept.TS
	x.write(t, o, held, true)
	a, err := x.node.Prepare(x.ctx(t), o.target, peer.Objects, o.key, x.clock.Now(), swept.Group)
	if err != nil || !a.Accepted || !a.State.Swept.Has(swept.Group) {
		t.Fatalf("Prepare: %+v, %v", a, err)
	}
	if a := x.write(t, o, swept.At(x.clock.Now()), false); !a.Swept {
		t.Fatalf("refused, but not as swept: %+v", a)
	}
	x.write(t, o, held.At(x.clock.Now()), true)
	if s := x.read(t, o, false); !s.Swept.Has(swept.Group) {
		t.Fatal("what was swept is forgotten")
	}
}

func (x *suite) tombstone(t *testing.T) {
	o := x.object()
	x.write(t, o, x.blind(o.value, nil), true)
	r := x.blind(o.value, nil)
	r.Tombstone = true
	x.write(t, o, r, true)
	k, err := x.node.Learn(x.ctx(t), o.target, peer.Objects, o.key)
	if err != nil || k.Exists || k.Highest != r.Ballot {
		t.Fatalf("Learn: %+v, %v", k, err)
	}
	if s := x.read(t, o, false); s.Record == nil || !s.Record.Tombstone {
		t.Fatalf("Read: %+v", s)
	}
}

func (x *suite) servicesAreApart(t *testing.T) {
	o := x.object()
	x.write(t, o, x.blind(o.value, nil), true)
	for _, s := range []peer.Service{peer.Containers, peer.Accounts} {
		st, err := x.node.Read(x.ctx(t), x.Target(s, o.key), s, o.key, false)
		if err != nil || st.Record != nil {
			t.Fatalf("service %d: %+v, %v", s, st, err)
		}
	}
}

// settle cannot ask that the message arrives, only that a device that has it
// says so, and that it is not taken for another record's.
func (x *suite) settle(t *testing.T) {
	o := x.object()
	r := x.blind(o.value, nil)
	x.write(t, o, r, true)
	if s := x.read(t, o, false); s.Committed {
		t.Fatal("committed before anyone said so")
	}
	for deadline := time.Now().Add(limit); ; {
		x.node.Settle(o.target, peer.Objects, []register.Settled{{Key: o.key, Ballot: r.Ballot}})
		time.Sleep(5 * time.Millisecond) // the call says nothing; asked again until it shows
		if x.read(t, o, false).Committed {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("settled again and again, and never committed")
		}
	}
	next := x.blind(o.value, nil)
	x.write(t, o, next, true)
	if x.read(t, o, false).Committed {
		t.Fatal("a new record is committed by the word about an old one")
	}
	x.node.Settle(o.target, peer.Objects, nil)
}

// container is a container's register and its listing.
type container struct {
	target  peer.Target
	value   catalog.Container
	listing peer.Listing
}

func (x *suite) container(t *testing.T) *container {
	t.Helper()
	k := x.key()
	c := &container{target: x.Target(peer.Containers, k), listing: peer.Listing{Key: k, Table: catalog.Objects}}
	copy(c.listing.Incarnation[:], x.bytes(16))
	c.value = catalog.Container{
		Account: "account", Name: "container " + k.String(), Incarnation: c.listing.Incarnation,
		State: catalog.Live, Policy: "default", Created: 1,
	}
	x.putContainer(t, c)
	return c
}

func (x *suite) putContainer(t *testing.T, c *container) register.Answer {
	t.Helper()
	r := x.blind(catalogtest.Bytes(&c.value), nil)
	a, err := x.node.Write(x.ctx(t), c.target, peer.Containers, c.listing.Key, r)
	if err != nil || !a.Accepted {
		t.Fatalf("writing a container: %+v, %v", a, err)
	}
	return a
}

func (x *suite) leases(t *testing.T) {
	c := x.container(t)
	asked := register.Lease{Holder: 42, Address: "10.0.0.1:7000", Micros: (1500 * time.Millisecond).Microseconds()}
	st, err := x.node.ReadLeased(x.ctx(t), c.target, c.listing.Key, asked)
	if err != nil || st.Record == nil {
		t.Fatalf("ReadLeased: %+v, %v", st, err)
	}
	a := x.putContainer(t, c)
	for _, l := range a.Leases {
		if l.Holder == asked.Holder {
			if l.Address != asked.Address || l.Micros <= 0 {
				t.Fatalf("the lease is %+v", l)
			}
			return
		}
	}
	t.Fatalf("the lease is forgotten: %+v", a.Leases)
}

func (x *suite) endedContext(t *testing.T) {
	o := x.object()
	c := x.container(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	calls := map[string]func() error{
		"Learn": func() error { _, err := x.node.Learn(ctx, o.target, peer.Objects, o.key); return err },
		"Read":  func() error { _, err := x.node.Read(ctx, o.target, peer.Objects, o.key, true); return err },
		"Write": func() error {
			_, err := x.node.Write(ctx, o.target, peer.Objects, o.key, x.blind(o.value, nil))
			return err
		},
		"ListRows": func() error {
			_, err := x.node.ListRows(ctx, c.target, peer.Containers, &peer.RowQuery{Listing: c.listing, Limit: 1})
			return err
		},
		"Status": func() error { _, err := x.node.Status(ctx); return err },
	}
	for name, call := range calls {
		done := make(chan error, 1)
		go func() { done <- call() }()
		select {
		case err := <-done:
			// A node may have been quicker than it looked; if it failed, then for this.
			if err != nil && !errs.Is(err, errs.Canceled) && !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(limit):
			t.Errorf("%s does not end", name)
		}
	}
}

// concurrency has many writers fight for few keys; each key must end with the
// newest ballot that was accepted.
func (x *suite) concurrency(t *testing.T) {
	const keys, writers, rounds = 4, 16, 20
	objects := make([]object, keys)
	for i := range objects {
		objects[i] = x.object()
	}
	data := x.bytes(4096)
	var mu sync.Mutex
	newest := make([]timestamp.T, keys)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for n := range rounds {
				i := (w + n) % keys
				o := objects[i]
				r := x.blind(o.value, data[:1+(w*rounds+n)%len(data)])
				a, err := x.node.Write(x.ctx(t), o.target, peer.Objects, o.key, r)
				if err != nil {
					t.Errorf("Write: %v", err)
					return
				}
				mu.Lock()
				if a.Accepted {
					newest[i] = timestamp.Max(newest[i], r.Ballot)
				}
				mu.Unlock()
				s, err := x.node.Read(x.ctx(t), o.target, peer.Objects, o.key, true)
				if err != nil || s.Record == nil || s.Record.Ballot.Less(a.State.Ballot()) || len(s.Record.Data) != s.Record.DataLen {
					t.Errorf("Read after Write: %+v, %v", s, err)
					return
				}
			}
		})
	}
	wg.Wait()
	for i, o := range objects {
		if s := x.read(t, o, true); s.Ballot() != newest[i] {
			t.Errorf("key %d ends at %v, accepted was %v", i, s.Ballot(), newest[i])
		}
	}
}

func (x *suite) status(t *testing.T) {
	st, err := x.node.Status(x.ctx(t))
	if err != nil {
		t.Fatal(err)
	}
	if st.Micros <= 0 || len(st.Devices) == 0 {
		t.Fatalf("Status: %+v", st)
	}
	if err := x.node.Revoke(x.ctx(t), x.key()); err != nil {
		t.Fatalf("Revoke of what nobody holds: %v", err)
	}
}
