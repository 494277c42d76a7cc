package register

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"ringfort/internal/errs"
	"ringfort/internal/timestamp"
	"ringfort/internal/workers"
)

// CallTimeout bounds a call to one device that its proposer no longer waits for.
const CallTimeout = 10 * time.Second

// answers are what the replicas said, by index.
type answers[T any] struct {
	values []T
	errs   []error
	have   []bool
}

type reply[T any] struct {
	i     int
	value T
	err   error
}

// ok reports whether replica i answered.
func (a *answers[T]) ok(i int) bool { return a.have[i] && a.errs[i] == nil }

// each yields the replicas that answered.
func (a *answers[T]) each() func(func(int) bool) {
	return func(yield func(int) bool) {
		for i := range a.have {
			if a.ok(i) && !yield(i) {
				return
			}
		}
	}
}

// unavailable is the error of a call that did not get its quorum.
func (a *answers[T]) unavailable(op string) error {
	n := 0
	for range a.each() {
		n++
	}
	err := errors.Join(a.errs...)
	return &errs.Error{Op: op, Kind: errs.Unavailable, Err: err,
		What: fmt.Sprintf("only %d of %d devices answered", n, len(a.have))}
}

// first returns how many replicas a call for a quorum asks at first.
func (q *Quorum) first(n need) int {
	if len(q.Sets) > 0 {
		return len(q.Replicas)
	}
	return min(q.size(n), len(q.Replicas))
}

// gather calls fn for the first replicas, and for one more whenever one fails or
// is slow. It returns when done says so, or when no replica is left; calls that
// nobody waits for are canceled. late tells done that a device is slow.
func gather[T any](ctx context.Context, p *Proposer, q *Quorum, first int, fn func(context.Context, int) (T, error), done func(a *answers[T], late bool) bool) *answers[T] {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	n, hedge := len(q.Replicas), p.hedge()
	a := &answers[T]{values: make([]T, n), errs: make([]error, n), have: make([]bool, n)}
	replies := make(chan reply[T], n)
	started, pending := 0, 0
	start := func() {
		i := started
		started++
		pending++
		p.Workers.Go(func() {
			v, err := fn(ctx, i)
			replies <- reply[T]{i, v, err}
		})
	}
	for started < min(first, n) {
		start()
	}
	timer := time.NewTimer(hedge)
	defer timer.Stop()
	late := false
	for pending > 0 {
		select {
		case r := <-replies:
			pending--
			a.values[r.i], a.errs[r.i], a.have[r.i] = r.value, r.err, true
			if r.err != nil && started < n {
				start()
			}
		case <-timer.C:
			late = true
			if started < n {
				start()
				timer.Reset(hedge)
			}
		case <-ctx.Done():
			return a
		}
		if done(a, late) {
			return a
		}
	}
	return a
}

// wrote is what became of a record sent to the devices.
type wrote struct {
	chosen  bool
	refused bool        // by one device at least
	swept   bool        // by one device at least, because of the record's group
	dead    bool        // by so many, that it will never be chosen under any ballot
	highest timestamp.T // newest ballot or promise that refused it
	leases  []Lease
	err     error
}

// accept sends a record to the devices and waits until W of them hold it with its
// bytes, or no longer can. Devices that have not answered by then go on, and those
// that were not to have the bytes are sent the record bare.
func (p *Proposer) accept(ctx context.Context, q *Quorum, r *Record) wrote {
	s := p.send(ctx, q, r)
	defer s.detach()
	hedge := time.NewTicker(p.hedge())
	defer hedge.Stop()
	for !s.out.chosen && s.possible() {
		select {
		case x := <-s.replies:
			s.take(x)
		case <-hedge.C:
			s.next() // for a device that is slow
		case <-ctx.Done():
			s.out.err = ctx.Err()
			return s.out
		}
	}
	s.out.dead = s.out.swept && q.enough(func(i int) bool { return s.to[i] == refusedSwept }, readers)
	if !s.out.chosen {
		s.out.err = errs.Wrap("register.Write", errs.Unavailable, errors.Join(s.errs...))
	}
	return s.out
}

// spread is accept for a record that was chosen, and waits until all devices have
// answered or are late.
func (p *Proposer) spread(ctx context.Context, q *Quorum, r *Record) {
	s := p.send(ctx, q, r)
	defer s.detach()
	s.bare()
	late := time.NewTimer(p.hedge())
	defer late.Stop()
	for s.pending > 0 {
		select {
		case x := <-s.replies:
			s.take(x)
		case <-late.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// sending is one record on its way to the devices.
type sending struct {
	workers *workers.Pool
	q       *Quorum
	r       *Record
	ctx     context.Context
	cancel  context.CancelFunc
	replies chan sent
	pending int
	to      []sendState
	errs    []error // of devices that failed
	out     wrote
}

// sendState is how far one device has come.
type sendState byte

const (
	unsent sendState = iota
	busy             // was sent the bytes
	has              // has accepted, with the bytes
	refused
	refusedSwept
	failed
	sentBare // was sent the record alone; whether it took it makes no difference
)

type sent struct {
	i    int
	full bool
	Answer
	err error
}

// send begins to send a record: with its bytes to q.Copies devices, to all if it
// has none.
func (p *Proposer) send(ctx context.Context, q *Quorum, r *Record) *sending {
	n := len(q.Replicas)
	s := &sending{workers: p.Workers, q: q, r: r, replies: make(chan sent, 2*n), to: make([]sendState, n), errs: make([]error, n)}
	// Detached: what was begun is finished even when the client has gone.
	s.ctx, s.cancel = context.WithTimeout(context.WithoutCancel(ctx), CallTimeout)
	first := n
	if r.DataLen > 0 && len(q.Sets) == 0 {
		first = min(q.Copies, n)
	}
	for i := range first {
		s.to[i] = busy
		s.call(i, r, true)
	}
	return s
}

func (s *sending) call(i int, r *Record, full bool) {
	s.pending++
	s.workers.Go(func() {
		a, err := s.q.Replicas[i].Write(s.ctx, r)
		s.replies <- sent{i, full, a, err}
	})
}

// next sends the bytes to one more device, if there is one without.
func (s *sending) next() {
	for _, from := range []sendState{unsent, sentBare} {
		for i, st := range s.to {
			if st == from {
				s.to[i] = busy
				s.call(i, s.r, true)
				return
			}
		}
	}
}

// bare sends the record alone to the devices that are not to have its bytes.
func (s *sending) bare() {
	for i, st := range s.to {
		if st == unsent {
			s.to[i] = sentBare
			s.call(i, s.r.WithoutData(), false)
		}
	}
}

// take takes note of an answer.
func (s *sending) take(x sent) {
	s.pending--
	if !x.full {
		return
	}
	switch {
	case x.err != nil:
		s.to[x.i], s.errs[x.i] = failed, x.err
		s.next()
	case x.Accepted:
		s.to[x.i] = has
		s.out.leases = append(s.out.leases, x.Leases...)
		s.out.chosen = s.q.enough(func(i int) bool { return s.to[i] == has }, writers)
	default:
		s.to[x.i] = refused
		s.out.refused = true
		if x.Swept {
			s.to[x.i] = refusedSwept
			s.out.swept = true
		}
		s.out.highest = timestamp.Max(s.out.highest, x.State.Highest())
		s.next()
	}
}

// possible reports whether the record may still be chosen.
func (s *sending) possible() bool {
	return s.q.enough(func(i int) bool { return s.to[i] == has || s.to[i] == busy || s.to[i] == unsent }, writers)
}

// detach lets the calls that are under way end on their own.
func (s *sending) detach() {
	if s.out.chosen {
		s.bare()
	}
	if s.pending == 0 {
		s.cancel()
		return
	}
	go func() {
		for s.pending > 0 {
			x := <-s.replies
			if s.out.chosen {
				s.take(x) // and give the bytes to another device, if this one failed
			} else {
				s.pending--
			}
		}
		s.cancel()
	}()
}

// prepared is the answer of R devices to a prepare, or to a read.
type prepared struct {
	ballot  timestamp.T
	newest  *Record // nil if there is none; its bytes may be missing
	certain bool    // known chosen
	holders []int   // devices that hold newest, bytes included
	err     error
}

// prepare gets R promises for a fresh ballot and finds the newest record (rule 2).
// With sweep not zero it gets W answers, R of them of devices that will refuse the
// group; the others may be of devices that cannot, since they hold it.
func (p *Proposer) prepare(ctx context.Context, q *Quorum, t *try, sweep timestamp.T) prepared {
	b := p.Clock.Above(t.highest)
	t.highest = b
	n := readers
	if !sweep.IsZero() {
		n = writers
	}
	met := func(a *answers[Answer]) bool {
		return q.enough(a.ok, readers) && q.enough(func(i int) bool { return a.ok(i) || holds(&a.values[i], sweep) }, n)
	}
	first := q.first(n)
	if t.wide {
		first = len(q.Replicas)
	}
	a := gather(ctx, p, q, first, func(ctx context.Context, i int) (Answer, error) {
		ans, err := q.Replicas[i].Prepare(ctx, b, sweep)
		if err == nil && !ans.Accepted {
			return ans, errs.New("register.Prepare", errs.Conflict, "a newer ballot is promised")
		}
		return ans, err
	}, func(a *answers[Answer], late bool) bool {
		return met(a) && (late || !t.wide)
	})
	states := make([]*State, len(q.Replicas))
	conflict := false
	for i := range a.have {
		switch {
		case a.ok(i):
			states[i] = &a.values[i].State
		case errs.Is(a.errs[i], errs.Conflict):
			conflict = true
			t.highest = timestamp.Max(t.highest, a.values[i].State.Highest())
		}
	}
	out := digest(q, states)
	out.ballot = b
	if !met(a) {
		out.err = a.unavailable("register.Prepare")
		if conflict {
			out.err = errs.New("register.Prepare", errs.Conflict, "")
		}
	}
	return out
}

// holds reports whether a device has answered that its own record names the group
// that it was to refuse.
//
// Such a device cannot list the group: its record may be the newest. It is a dead one
// all the same if R devices list the group and do not have it. For W devices would
// have had to accept the record for it to be chosen, one of those R among them, and
// that one would hold it or what replaced it, which the sweep has then finished; and
// from now on there are no W left that would accept it. Where the key has an older
// record, the first round of a sweep writes that over the dead one, and all list it.
func holds(a *Answer, group timestamp.T) bool {
	return !group.IsZero() && a.State.Record != nil && a.State.Record.Group == group
}

// digest finds the newest record among states (nil: not asked or silent).
//
// A record whose group R devices refuse, none of which has it, is passed over: it
// was not chosen under its ballot and will not be under any. It may well be the
// newest, when a writer that slept reaches a device that the sweeper did not.
func digest(q *Quorum, states []*State) (d prepared) {
	var over []timestamp.T // groups passed over
	for {
		d.newest = nil
		for _, s := range states {
			if s == nil || s.Record == nil || !s.Record.Group.IsZero() && slices.Contains(over, s.Record.Group) {
				continue
			}
			if d.newest == nil || d.newest.Ballot.Less(s.Record.Ballot) {
				d.newest = s.Record
			}
		}
		if d.newest == nil {
			return d
		}
		g := d.newest.Group
		refusing := func(i int) bool {
			s := states[i]
			return s != nil && s.Swept.Has(g) && (s.Record == nil || s.Record.Group != g)
		}
		if g.IsZero() || !q.enough(refusing, readers) {
			break
		}
		over = append(over, g)
	}
	holds := func(i int) bool {
		s := states[i]
		return s != nil && s.Record != nil && s.Record.Ballot == d.newest.Ballot && s.Held
	}
	for i, s := range states {
		if s == nil || s.Record == nil || s.Record.Ballot != d.newest.Ballot {
			continue
		}
		d.certain = d.certain || s.Committed
		if s.Held {
			d.holders = append(d.holders, i)
			if s.Record.Data != nil {
				d.newest = s.Record
			}
		}
	}
	d.certain = d.certain || q.enough(holds, writers)
	return d
}

// finish writes the newest record again at the prepared ballot unless it is known
// chosen (rule 7).
func (p *Proposer) finish(ctx context.Context, q *Quorum, prep *prepared, t *try) (*Outcome, error) {
	if prep.certain {
		return &Outcome{Record: prep.newest}, nil
	}
	r, err := p.withData(ctx, q, prep)
	if err != nil {
		return nil, err
	}
	r = r.At(prep.ballot)
	w := p.accept(ctx, q, r)
	t.highest = timestamp.Max(t.highest, w.highest)
	switch {
	case w.chosen:
		return &Outcome{Record: r, Leases: w.leases}, nil
	case w.refused:
		t.wide = t.wide || w.swept
		return nil, errs.New("register.Finish", errs.Conflict, "")
	}
	return nil, w.err
}

// withData returns the newest record with its bytes.
func (p *Proposer) withData(ctx context.Context, q *Quorum, d *prepared) (*Record, error) {
	if !d.newest.Bare() {
		return d.newest, nil
	}
	return p.fetch(ctx, q, d)
}

// read is rule 8; the record may come without its bytes.
func (p *Proposer) read(ctx context.Context, q *Quorum, data bool) (prepared, error) {
	d, err := p.ask(ctx, q, false, data)
	if err != nil || d.newest == nil || d.certain {
		return d, err
	}
	// R agree on too little. Perhaps all do on enough.
	if d, err = p.ask(ctx, q, true, data); err != nil || d.newest == nil || d.certain {
		return d, err
	}
	if len(d.holders) > 0 {
		r, err := p.withData(ctx, q, &d)
		if err == nil && p.accept(ctx, q, r).chosen { // written back at its own ballot
			d.newest = r
			return d, nil
		}
	}
	d.newest, err = p.Settle(ctx, q)
	return d, err
}

// ask reads from R devices. With wide it asks all, and waits for them until it is
// certain or one of them is late.
func (p *Proposer) ask(ctx context.Context, q *Quorum, wide, data bool) (d prepared, err error) {
	first := q.first(readers)
	if wide {
		first = len(q.Replicas)
	}
	states := make([]*State, len(q.Replicas))
	a := gather(ctx, p, q, first, func(ctx context.Context, i int) (State, error) {
		return q.Replicas[i].Read(ctx, data && i == 0)
	}, func(a *answers[State], late bool) bool {
		if !q.enough(a.ok, readers) {
			return false
		}
		for i := range a.each() {
			states[i] = &a.values[i]
		}
		d = digest(q, states)
		return !wide || late || d.certain
	})
	if !q.enough(a.ok, readers) {
		return prepared{}, a.unavailable("register.Read")
	}
	return d, nil
}

// Settle makes the newest record certain by prepare and finish, and returns it;
// nil if there is none. Its bytes may be missing.
func (p *Proposer) Settle(ctx context.Context, q *Quorum) (*Record, error) {
	var r *Record
	err := p.retry(ctx, "register.Settle", func(t *try) (err error) {
		r, err = p.settle(ctx, q, t, timestamp.T{}, false)
		return err
	})
	return r, err
}

// Spread is Settle, and gives the newest record to every device that answers, so
// that those which were away when it was chosen have it too.
func (p *Proposer) Spread(ctx context.Context, q *Quorum) (*Record, error) {
	r, err := p.Settle(ctx, q)
	if err != nil || r == nil {
		return nil, err
	}
	if r.Bare() {
		if r, err = p.fetch(ctx, q, &prepared{newest: r}); err != nil {
			return nil, err
		}
	}
	p.spread(ctx, q, r)
	return r, nil
}

// Sweep is Settle, and makes sure that no record which names the group will ever
// be chosen, unless the one it returns does.
//
// Two rounds: the first finds out whether the group is alive, and if there is another
// record, leaves no device behind that names the group; the second has W devices
// refuse it, or R of them, and finds the rest of W to hold a record that these R
// have made impossible.
func (p *Proposer) Sweep(ctx context.Context, q *Quorum, group timestamp.T) (*Record, error) {
	var r *Record
	err := p.retry(ctx, "register.Sweep", func(t *try) (err error) {
		r, err = p.settle(ctx, q, t, timestamp.T{}, true)
		if err != nil || r != nil && r.Group == group {
			return err
		}
		r, err = p.settle(ctx, q, t, group, false)
		return err
	})
	return r, err
}

// retry calls fn until it does not meet a conflict.
func (p *Proposer) retry(ctx context.Context, op string, fn func(t *try) error) error {
	var t try
	for attempt := range maxAttempts {
		if attempt > 0 {
			if err := p.backoff(ctx, attempt); err != nil {
				return errs.Wrap(op, errs.Unavailable, err)
			}
		}
		if err := fn(&t); !errs.Is(err, errs.Conflict) {
			return err
		}
	}
	return errs.New(op, errs.Unavailable, "too much contention on the key")
}

// settle prepares and finishes once; with again, also what is known chosen.
func (p *Proposer) settle(ctx context.Context, q *Quorum, t *try, sweep timestamp.T, again bool) (*Record, error) {
	prep := p.prepare(ctx, q, t, sweep)
	if prep.err != nil || prep.newest == nil {
		return nil, prep.err
	}
	if again {
		prep.certain = false
	}
	out, err := p.finish(ctx, q, &prep, t)
	if err != nil {
		return nil, err
	}
	return out.Record, nil
}

// fetch finds the bytes of d's record.
func (p *Proposer) fetch(ctx context.Context, q *Quorum, d *prepared) (*Record, error) {
	r := d.newest
	// Those that are known to have them first.
	order := slices.Clone(d.holders)
	for i := range q.Replicas {
		if !slices.Contains(d.holders, i) {
			order = append(order, i)
		}
	}
	var found *Record
	replaced := false
	a := gather(ctx, p, q, 1, func(ctx context.Context, i int) (State, error) {
		s, err := q.Replicas[order[i]].Read(ctx, true)
		if err == nil && (s.Record == nil || s.Record.Data == nil || !s.Record.sameData(r)) {
			replaced := s.Record != nil && r.Ballot.Less(s.Record.Ballot) && s.Record.TS != r.TS
			err = &absent{replaced}
		}
		return s, err
	}, func(a *answers[State], _ bool) bool {
		for i := range a.each() {
			found = r.withData(a.values[i].Record.Data)
		}
		for _, err := range a.errs {
			var x *absent
			replaced = replaced || errors.As(err, &x) && x.replaced
		}
		return found != nil
	})
	switch {
	case found != nil:
		return found, nil
	case replaced:
		return nil, errs.New("register.Read", errs.Conflict, "the record was replaced while it was read")
	}
	return nil, &errs.Error{Op: "register.Read", Kind: errs.Unavailable,
		What: "no device that answers has the record's bytes", Err: errors.Join(a.errs...)}
}

// absent says that a device does not have the bytes that were wanted.
type absent struct{ replaced bool }

func (*absent) Error() string { return "the device has another record, or not its bytes" }
