package register

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/cespare/xxhash/v2"

	"ringfort/internal/errs"
	"ringfort/internal/timestamp"
)

// simValue is what a key holds: which write's bytes, and which metadata update's
// metadata. Zero: there is no object.
type simValue struct{ id, meta int }

type simOp int

const (
	opRead simOp = iota
	opPut
	opDelete
	opCreate    // If-None-Match: *
	opReplace   // If-Match
	opDeleteIf  // conditional delete
	opModify    // metadata, with the bytes as they are
	simOpsCount = int(opModify) + 1
)

var simOpNames = [...]string{"read", "put", "delete", "create", "replace", "deleteIf", "modify"}

type simInput struct {
	op   simOp
	id   int // what it writes
	want int // opReplace, opDeleteIf: the id that must be there
}

type simOutput struct {
	unknown bool     // it may or may not have happened, until the end of time
	no      bool     // it was told that its condition does not hold
	seen    simValue // opRead; opModify: the object without the change
}

// apply returns what an operation makes of a value, and whether its condition holds.
func (in simInput) apply(v simValue) (simValue, bool) {
	switch in.op {
	case opPut:
		return simValue{id: in.id}, true
	case opDelete:
		return simValue{}, v.id != 0
	case opCreate:
		return simValue{id: in.id}, v.id == 0
	case opReplace:
		return simValue{id: in.id}, v.id == in.want
	case opDeleteIf:
		return simValue{}, v.id == in.want && v.id != 0
	case opModify:
		return simValue{id: v.id, meta: in.id}, v.id != 0
	}
	return v, true
}

// simModel is a register that does one thing at a time.
var simModel = porcupine.Model{
	Init: func() any { return simValue{} },
	Step: func(state, input, output any) (bool, any) {
		v, in, out := state.(simValue), input.(simInput), output.(simOutput)
		next, holds := in.apply(v)
		switch {
		case out.unknown && holds:
			return true, next
		case out.unknown:
			return true, v
		case in.op == opRead:
			return out.seen == v, v
		case out.no:
			return !holds, v
		case in.op == opDelete: // it may find nothing, and yet delete it
			return true, next
		case in.op == opModify:
			return holds && out.seen.id == v.id, next
		}
		return holds, next
	},
	Equal: func(a, b any) bool { return a == b },
}

// simClient is a gateway.
type simClient struct {
	s    *sim
	id   int
	rng  *rand.Rand
	skew time.Duration

	writer   uint64
	proposer *Proposer
	op       uint64 // count of its operations

	mu    sync.Mutex
	calls map[int]uint64 // by device
	write simOp          // kind of the operation under way, for wrappers
	opID  timestamp.T    // its id
}

func newSimClient(s *sim, id int) *simClient {
	c := &simClient{s: s, id: id, rng: s.dice('g', uint64(id)), calls: map[int]uint64{}}
	c.start()
	return c
}

// start begins a process's life: its clock is off, and its writer id new.
func (c *simClient) start() {
	if c.rng.IntN(2) == 0 {
		c.skew = time.Duration(c.rng.Int64N(int64(20*time.Second))) - 10*time.Second
	}
	c.writer++
	clock := timestamp.NewClock(uint64(c.id)<<32|c.writer, func() time.Time { return time.Now().Add(c.skew) })
	hedge := []time.Duration{0, 3 * time.Millisecond, 30 * time.Millisecond}[c.rng.IntN(3)]
	life, n := c.writer, uint64(0)
	c.proposer = &Proposer{Clock: clock, HedgeAfter: hedge, jitter: func(limit time.Duration) time.Duration {
		n++
		return time.Duration(c.s.dice('j', uint64(c.id), life, n).Int64N(int64(limit)))
	}}
}

func (c *simClient) run() {
	for range 3 + c.rng.IntN(6) {
		time.Sleep(time.Duration(c.rng.Int64N(int64(c.s.think))))
		limit := 100*time.Millisecond + time.Duration(c.rng.Int64N(int64(time.Second)))
		switch c.rng.IntN(12) {
		case 0: // it dies half-way, and its clock is another one when it is back
			limit = time.Duration(c.rng.Int64N(int64(20 * time.Millisecond)))
			c.once(c.s.ops[c.rng.IntN(len(c.s.ops))], limit)
			c.start()
		default:
			c.once(c.s.ops[c.rng.IntN(len(c.s.ops))], limit)
		}
		if c.rng.IntN(10) == 0 {
			c.skew += time.Duration(c.rng.Int64N(int64(20*time.Second))) - 10*time.Second
		}
	}
}

// quorum returns the key's devices as the client sees them.
func (c *simClient) quorum() *Quorum {
	var list []Replica
	for i := range c.s.devices {
		var r Replica = &simReplica{c, i}
		if c.s.opt.wrap != nil {
			r = c.s.opt.wrap(c, i, r)
		}
		list = append(list, r)
	}
	q := NewQuorum(list, c.s.copies)
	if c.s.opt.quorum != nil {
		c.s.opt.quorum(q)
	}
	return q
}

// once does one operation and enters it in the history.
func (c *simClient) once(op simOp, limit time.Duration) {
	c.op++
	in := simInput{op: op, id: 1000*c.id + int(c.op)}
	known := c.s.known(c.rng)
	in.want = known
	started := c.s.now()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	c.mu.Lock()
	c.write, c.opID = op, c.proposer.Clock.Now()
	c.mu.Unlock()
	out, err := c.do(ctx, in)
	ended := c.s.now()
	c.s.enter(c, in, out, err, started, ended)
}

// known returns an id that a condition may ask for: mostly of the newest record.
func (s *sim) known(rng *rand.Rand) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.history) == 0 {
		return 1
	}
	n := len(s.history)
	return s.history[max(0, n-1-rng.IntN(min(n, 4)))].Input.(simInput).id
}

func (s *sim) enter(c *simClient, in simInput, out simOutput, err error, from, to time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Ops++
	s.log = append(s.log, fmt.Sprintf("%d %v-%v %s %d want=%d: %+v %v", c.id, from, to, simOpNames[in.op], in.id, in.want, out, errs.KindOf(err)))
	switch {
	case err == nil && out.no:
		s.counts.Refused++
	case errs.Is(err, errs.OutcomeUnknown):
		s.counts.Unknown++
		out.unknown = true
		to = time.Hour
	case errs.Is(err, errs.Corrupt):
		s.fail("%s: %v", simOpNames[in.op], err)
	case err != nil:
		s.counts.Failed++
		return // it did not happen
	}
	s.history = append(s.history, porcupine.Operation{
		ClientId: c.id, Input: in, Call: int64(from), Output: out, Return: int64(to),
	})
}

// do carries out an operation as package ops does.
func (c *simClient) do(ctx context.Context, in simInput) (out simOutput, err error) {
	q := c.quorum()
	var o *Outcome
	switch in.op {
	case opRead:
		return c.read(ctx, q)
	case opPut:
		rec := c.record(in.id)
		k, err := c.proposer.Highest(ctx, q)
		if err != nil {
			return out, err
		}
		if c.rng.IntN(4) == 0 { // the body takes its time
			time.Sleep(time.Duration(c.rng.Int64N(int64(50 * time.Millisecond))))
		}
		o, err = c.proposer.Write(ctx, q, &Update{Record: *rec, Op: c.opID}, k.Highest)
		if err != nil {
			return out, err
		}
	case opDelete:
		return c.delete(ctx, q)
	default:
		if o, out, err = c.update(ctx, q, in); err != nil {
			return out, err
		}
	}
	if o != nil {
		c.settle(o.Record.Ballot)
	}
	return out, nil
}

// record makes a record of new bytes: in it, or in blobs.
func (c *simClient) record(id int) *Record {
	r := &Record{Value: simEncode(simValue{id: id})}
	if c.rng.IntN(2) == 0 {
		r.Group = c.proposer.Clock.Now()
		c.s.mu.Lock()
		c.s.groups = append(c.s.groups, r.Group)
		c.s.mu.Unlock()
		return r
	}
	r.Data = simBytes(id)
	r.DataLen, r.DataSum = len(r.Data), xxhash.Sum64(r.Data)
	return r
}

func simEncode(v simValue) []byte { return fmt.Appendf(nil, "%d/%d", v.id, v.meta) }

func simDecode(r *Record) (v simValue) {
	if r == nil || r.Tombstone {
		return v
	}
	fmt.Sscanf(string(r.Value), "%d/%d", &v.id, &v.meta)
	return v
}

func simBytes(id int) []byte { return bytes.Repeat(fmt.Appendf(nil, "<%d>", id), 3) }

func (c *simClient) read(ctx context.Context, q *Quorum) (out simOutput, err error) {
	c.s.mu.Lock()
	dead := map[timestamp.T]bool{}
	for g := range c.s.dead {
		dead[g] = true
	}
	c.s.mu.Unlock()
	r, err := c.proposer.Read(ctx, q, true)
	if err != nil {
		return out, err
	}
	out.seen = simDecode(r)
	if r == nil || c.s.opt.noMonitors {
		return out, nil
	}
	if r.DataLen > 0 && !bytes.Equal(r.Data, simBytes(out.seen.id)) {
		return out, errs.New("sim", errs.Corrupt, "read %q as the bytes of %v", r.Data, out.seen)
	}
	if dead[r.Group] {
		return out, errs.New("sim", errs.Corrupt, "read a record whose blobs were deleted")
	}
	return out, nil
}

// delete is ops.Delete without a judge.
func (c *simClient) delete(ctx context.Context, q *Quorum) (out simOutput, err error) {
	k, err := c.proposer.Highest(ctx, q)
	if err != nil {
		return out, err
	}
	if !k.Exists {
		if c.s.opt.trustAbsence {
			out.no = true
			return out, nil
		}
		r, err := c.proposer.Read(ctx, q, false)
		if err != nil {
			return out, errs.Wrap("sim", errs.Unavailable, err) // nothing was written
		}
		if r == nil || r.Tombstone {
			out.no = true
			return out, nil
		}
	}
	o, err := c.proposer.Write(ctx, q, &Update{Record: Record{Tombstone: true}, Op: c.opID}, k.Highest)
	if err == nil {
		c.settle(o.Record.Ballot)
	}
	return out, err
}

// errNo is a condition that does not hold. That it is of the kind of a conflict
// must not have the protocol take it for one of its own.
var errNo = errs.New("sim", errs.Conflict, "the condition does not hold")

var errNeed = errs.New("sim", errs.Conflict, "the bytes are needed")

func (c *simClient) update(ctx context.Context, q *Quorum, in simInput) (o *Outcome, out simOutput, err error) {
	fresh := c.record(in.id)
	var data *Record
	for {
		o, err = c.proposer.Update(ctx, q, c.opID, func(cur *Record) (*Record, error) {
			v := simDecode(cur)
			next, holds := in.apply(v)
			if !holds {
				return nil, errNo
			}
			out.seen = simValue{}
			switch in.op {
			case opDeleteIf:
				return &Record{Tombstone: true}, nil
			case opModify:
				out.seen = v
				r := &Record{Value: simEncode(next), Group: cur.Group, DataLen: cur.DataLen, DataSum: cur.DataSum}
				if r.DataLen > 0 {
					if data == nil || data.DataSum != r.DataSum {
						return nil, errNeed
					}
					r.Data = data.Data
				}
				return r, nil
			}
			return fresh, nil
		})
		switch err {
		case errNo:
			out.no = true
			return nil, out, nil
		case errNeed:
			if data, err = c.proposer.Read(ctx, q, true); err != nil {
				return nil, out, errs.Wrap("sim", errs.Unavailable, err)
			}
			continue
		}
		return o, out, err
	}
}

// settle tells the devices, mostly.
func (c *simClient) settle(b timestamp.T) {
	if c.rng.IntN(5) == 0 {
		return
	}
	for i := range c.s.devices {
		r := &simReplica{c, i}
		// Not from the count of calls: some that are still under way count too.
		rng := c.s.dice('s', uint64(c.id), uint64(i), c.op)
		go r.deliver(rng, func(a *Acceptor) { a.Settle([]Settled{{Key: c.s.key, Ballot: b}}) })
	}
}

// sweeps settles what is left over, and gives up groups: those that a device holds
// suspect, and at times one that somebody is just now about to write.
func (c *simClient) sweeps() {
	for range 4 {
		time.Sleep(time.Duration(c.rng.Int64N(3 * int64(c.s.think))))
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		if c.rng.IntN(2) == 0 {
			if r, err := c.proposer.Settle(ctx, c.quorum()); err == nil && r != nil {
				c.settle(r.Ballot)
			}
		}
		if g := c.suspect(); !g.IsZero() {
			r, err := c.proposer.Sweep(ctx, c.quorum(), g)
			c.s.mu.Lock()
			switch {
			case err != nil:
			case r != nil && r.Group == g:
				c.s.counts.Alive++
			default:
				c.s.counts.Swept++
				c.s.dead[g] = true
			}
			c.s.mu.Unlock()
		}
		cancel()
	}
}

func (c *simClient) suspect() timestamp.T {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	list := c.s.suspects
	if len(list) == 0 || c.rng.IntN(2) == 0 {
		list = c.s.groups
	}
	if len(list) == 0 {
		return timestamp.T{}
	}
	return list[len(list)-1-c.rng.IntN(min(len(list), 3))]
}

// simReplica is a device at the other end of a bad network.
type simReplica struct {
	c *simClient
	i int
}

const simTimeout = 300 * time.Millisecond

// dice returns the fate of the next call to the device.
func (r *simReplica) dice() *rand.Rand {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	r.c.calls[r.i]++
	return r.c.s.dice('n', uint64(r.c.id), uint64(r.i), r.c.calls[r.i])
}

// travel is one message on its way; false: it is lost.
func (r *simReplica) travel(rng *rand.Rand) bool {
	s := r.c.s
	lost, slow := rng.Float64(), rng.Float64()
	wait := 20*time.Microsecond + time.Duration(rng.Int64N(int64(2*time.Millisecond)))
	s.mu.Lock()
	lossy := s.lossy
	if slow < s.slow {
		wait *= time.Duration(2 + rng.IntN(100))
	}
	s.mu.Unlock()
	time.Sleep(wait)
	return lost >= lossy
}

// deliver brings a request to the device and the answer back; false: one of them
// was lost. down says that the device refuses connections.
func (r *simReplica) deliver(rng *rand.Rand, fn func(*Acceptor)) (ok, down bool) {
	if !r.travel(rng) {
		return false, false
	}
	d := r.c.s.devices[r.i]
	d.mu.Lock()
	a, life, deaf := d.acceptor, d.life, time.Now().Before(d.deafTo)
	d.mu.Unlock()
	if a == nil || deaf {
		return false, a == nil
	}
	fn(a)
	d.mu.Lock()
	same := d.life == life
	d.mu.Unlock()
	return r.travel(rng) && same, false
}

type simReply[T any] struct {
	v   T
	err error
}

func simCall[T any](ctx context.Context, r *simReplica, fn func(*Acceptor) (T, error)) (T, error) {
	var zero T
	rng := r.dice()
	if rng.IntN(150) == 0 { // the proposer sleeps half-way
		time.Sleep(time.Duration(rng.Int64N(int64(time.Second))))
	}
	if ctx.Err() != nil {
		return zero, ctx.Err()
	}
	twice := rng.Float64() < r.c.s.twice
	replies := make(chan simReply[T], 1)
	send := func(rng *rand.Rand) {
		var x simReply[T]
		ok, down := r.deliver(rng, func(a *Acceptor) { x.v, x.err = fn(a) })
		if down {
			x.err = errs.New("sim", errs.Unavailable, "device %d is down", r.i)
		}
		if ok || down {
			select {
			case replies <- x:
			default:
			}
		}
	}
	go send(rand.New(rand.NewPCG(rng.Uint64(), 1)))
	if twice {
		rng := rand.New(rand.NewPCG(rng.Uint64(), 2))
		go func() {
			time.Sleep(time.Duration(rng.Int64N(int64(300 * time.Millisecond))))
			send(rng)
		}()
	}
	timeout := time.NewTimer(simTimeout)
	defer timeout.Stop()
	select {
	case x := <-replies:
		return x.v, x.err
	case <-timeout.C:
		return zero, errs.New("sim", errs.Unavailable, "device %d does not answer", r.i)
	case <-ctx.Done():
		return zero, ctx.Err()
	}
}

func (r *simReplica) Learn(ctx context.Context) (Known, error) {
	return simCall(ctx, r, func(a *Acceptor) (Known, error) { return a.Learn(r.c.s.key) })
}

func (r *simReplica) Read(ctx context.Context, data bool) (State, error) {
	return simCall(ctx, r, func(a *Acceptor) (State, error) { return a.Read(r.c.s.key, data) })
}

func (r *simReplica) Write(ctx context.Context, rec *Record) (Answer, error) {
	return simCall(ctx, r, func(a *Acceptor) (Answer, error) { return a.Write(context.Background(), r.c.s.key, rec) })
}

func (r *simReplica) Prepare(ctx context.Context, b, sweep timestamp.T) (Answer, error) {
	return simCall(ctx, r, func(a *Acceptor) (Answer, error) { return a.Prepare(context.Background(), r.c.s.key, b, sweep) })
}
