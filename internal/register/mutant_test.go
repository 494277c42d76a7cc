package register

import (
	"context"
	"flag"
	"slices"
	"sync/atomic"
	"testing"

	"ringfort/internal/timestamp"
)

var mutantSeeds = flag.Int("register.mutantseeds", 10000, "how many seeds each of TestMutants may take")

// bent is a device whose questions or answers are changed on the way.
type bent struct {
	Replica
	learn   func(k *Known)
	read    func(s *State)
	write   func(r *Record) *Record
	wrote   func(r *Record, a *Answer)
	prepare func(b *timestamp.T, sweep *timestamp.T)
	promise func(b timestamp.T, a *Answer)
}

func (x *bent) Learn(ctx context.Context) (Known, error) {
	k, err := x.Replica.Learn(ctx)
	if x.learn != nil {
		x.learn(&k)
	}
	return k, err
}

func (x *bent) Read(ctx context.Context, data bool) (State, error) {
	s, err := x.Replica.Read(ctx, data)
	if x.read != nil {
		x.read(&s)
	}
	return s, err
}

func (x *bent) Write(ctx context.Context, r *Record) (Answer, error) {
	if x.write != nil {
		r = x.write(r)
	}
	a, err := x.Replica.Write(ctx, r)
	if x.wrote != nil && err == nil {
		x.wrote(r, &a)
	}
	return a, err
}

func (x *bent) Prepare(ctx context.Context, b, sweep timestamp.T) (Answer, error) {
	if x.prepare != nil {
		x.prepare(&b, &sweep)
	}
	a, err := x.Replica.Prepare(ctx, b, sweep)
	if x.promise != nil && err == nil {
		x.promise(b, &a)
	}
	return a, err
}

func (c *simClient) doing() (simOp, timestamp.T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.write, c.opID
}

func conditionalOp(op simOp) bool { return op >= opCreate }

// record lets fn change a copy of a state's record.
func (s *State) changeRecord(fn func(r *Record)) {
	if s.Record != nil {
		r := *s.Record
		fn(&r)
		s.Record = &r
	}
}

// wrap makes a mutant of a function that bends each device of each client.
func wrap(fn func(c *simClient, x *bent)) simOptions {
	return simOptions{wrap: func(c *simClient, _ int, r Replica) Replica {
		x := &bent{Replica: r}
		fn(c, x)
		return x
	}}
}

// certain makes every record that is read or promised over pass for chosen.
func certain(read, blind, conditional bool) simOptions {
	return wrap(func(c *simClient, x *bent) {
		if read {
			x.read = func(s *State) { s.Committed = true }
		}
		x.promise = func(_ timestamp.T, a *Answer) {
			if op, _ := c.doing(); op == opPut && blind || conditionalOp(op) && conditional {
				a.State.Committed = true
			}
		}
	})
}

// mutants are the protocol with one rule left out; docs/register.md says what
// becomes of it. Two more are in scenario_test.go, because chance does not find
// them: acceptances added up over ballots, and a "no" that leaves an old attempt
// alive, which takes a judge that changes its mind.
func mutants() map[string]simOptions {
	onDisk := func(fn func(s *State)) func(d *simDevice) {
		return func(d *simDevice) {
			if s, err := DecodeState(d.state); err == nil {
				fn(&s)
				d.state = s.AppendTo(nil)
			}
		}
	}
	return map[string]simOptions{
		"1: superseded passes for accepted": wrap(func(c *simClient, x *bent) {
			x.wrote = func(r *Record, a *Answer) { a.Accepted = a.Accepted || r.Ballot.Less(a.State.Ballot()) }
		}),
		"1: a promise does not bind":      {load: func(_ *simDevice, s *State) { s.Promised = timestamp.T{} }},
		"2: a promise is lost in a crash": {crash: onDisk(func(s *State) { s.Promised = timestamp.T{} })},
		"4a: nothing is learnt":           wrap(func(_ *simClient, x *bent) { x.learn = func(k *Known) { k.Highest = timestamp.T{} } }),
		"4c: written again without looking": wrap(func(c *simClient, x *bent) {
			x.promise = func(_ timestamp.T, a *Answer) {
				if op, _ := c.doing(); op == opPut || op == opDelete {
					a.State.Record = nil
				}
			}
		}),
		"4c: done, without finishing": certain(false, true, false),
		"4, 5: no roots": wrap(func(c *simClient, x *bent) {
			x.write = func(r *Record) *Record {
				if op, id := c.doing(); conditionalOp(op) && r.Op == id {
					r = r.At(r.Ballot)
					r.Root = r.TS
				}
				return r
			}
		}),
		"5: a no is told without finishing": certain(false, false, true),
		"6: own attempts are not known again": wrap(func(c *simClient, x *bent) {
			x.promise = func(_ timestamp.T, a *Answer) {
				_, id := c.doing()
				a.State.changeRecord(func(r *Record) {
					if r.Op == id {
						r.Op = timestamp.T{}
					}
					r.Chain = slices.DeleteFunc(slices.Clone(r.Chain), func(t timestamp.T) bool { return t == id })
				})
			}
		}),
		"6: a changed root is not noticed": wrap(func(c *simClient, x *bent) {
			x.promise = func(_ timestamp.T, a *Answer) {
				if op, _ := c.doing(); conditionalOp(op) {
					a.State.changeRecord(func(r *Record) { r.Root = timestamp.T{} })
				}
			}
		}),
		"8: no write-back":             certain(true, false, false),
		"8: absence is taken on trust": {trustAbsence: true, ops: []simOp{opRead, opPut, opDelete, opDelete}},
		"13: a wiped device votes":     {crash: func(d *simDevice) { d.state, d.data, d.note = nil, nil, nil }},
		"W is one too small":           {quorum: func(q *Quorum) { q.W = max(1, q.W-1) }},
		"R is one too small":           {quorum: func(q *Quorum) { q.R = max(1, q.R-1) }},
		"marks: accepted passes for chosen": {commit: func(_ *simDevice, c *change) {
			if c.note != nil {
				c.note, c.given = nil, c.note
			}
		}},
		"bare: it counts": wrap(func(_ *simClient, x *bent) {
			x.write = (*Record).WithoutData
		}),
	}
}

// watched are mutants that harm blobs and not the history.
func watched() map[string]simOptions {
	return map[string]simOptions{
		"sweep: nobody refuses the group": wrap(func(_ *simClient, x *bent) {
			x.prepare = func(_, sweep *timestamp.T) { *sweep = timestamp.T{} }
		}),
		"notes: suspects are dropped": {commit: func(_ *simDevice, c *change) {
			if c.note != nil {
				c.note.Drops = append(slices.Clone(c.note.Drops), c.note.Suspects...)
			}
		}, ops: []simOp{opRead, opPut, opPut, opModify}},
		"bare: sent before it is chosen": wrap(func(c *simClient, x *bent) {
			x.write = func(r *Record) *Record {
				if _, id := c.doing(); id.Seq%4 == 0 {
					r = r.WithoutData()
				}
				return r
			}
		}),
	}
}

// The simulation is worth what it finds: each mutant must be caught.
func TestMutants(t *testing.T) {
	for _, set := range []struct {
		mutants    map[string]simOptions
		noMonitors bool
	}{{mutants(), true}, {watched(), false}} {
		for name, opt := range set.mutants {
			opt.noMonitors = set.noMonitors
			t.Run(name, func(t *testing.T) { wantCaught(t, opt) })
		}
	}
}

func wantCaught(t *testing.T, opt simOptions) {
	seeds := *mutantSeeds
	var caught atomic.Uint64
	eachSeed(t, seeds, func(t *testing.T, seed uint64) bool {
		if s := runSim(t, seed, opt); s.failure != "" {
			caught.CompareAndSwap(0, seed)
			t.Logf("seed %d: %s", seed, s.failure)
		}
		return caught.Load() == 0
	})
	if caught.Load() == 0 {
		t.Errorf("not caught in %d seeds", seeds)
	}
}
