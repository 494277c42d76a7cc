package register

import (
	"context"
	"errors"
	"time"

	"ringfort/internal/errs"
	"ringfort/internal/timestamp"
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
		What: "only " + itoa(n) + " of " + itoa(len(a.have)) + " devices answered"}
}

func itoa(n int) string {
	if n >= 10 {
		return itoa(n/10) + itoa(n%10)
	}
	return string(rune('0' + n))
}

// gather calls fn for as few replicas as make a quorum of size need, in order,
// and for one more whenever one fails or is slow. It returns when there is a
// quorum, or when no replica is left; calls that nobody waits for are canceled.
func gather[T any](ctx context.Context, q *Quorum, hedge time.Duration, need int, fn func(context.Context, int) (T, error)) *answers[T] {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	n := len(q.Replicas)
	a := &answers[T]{values: make([]T, n), errs: make([]error, n), have: make([]bool, n)}
	replies := make(chan reply[T], n)
	started, pending := 0, 0
	start := func() {
		i := started
		started++
		pending++
		go func() {
			v, err := fn(ctx, i)
			replies <- reply[T]{i, v, err}
		}()
	}
	first := need
	if len(q.Sets) > 0 {
		first = n
	}
	for started < min(first, n) {
		start()
	}
	if hedge <= 0 {
		hedge = CallTimeout
	}
	timer := time.NewTimer(hedge)
	defer timer.Stop()
	for pending > 0 {
		select {
		case r := <-replies:
			pending--
			a.values[r.i], a.errs[r.i], a.have[r.i] = r.value, r.err, true
			if r.err == nil && q.enough(a.ok, need) {
				return a
			}
			if r.err != nil && started < n {
				start()
			}
		case <-timer.C:
			if started < n {
				start()
				timer.Reset(hedge)
			}
		case <-ctx.Done():
			return a
		}
	}
	return a
}

// wrote is what became of a record sent to the devices.
type wrote struct {
	chosen  bool
	refused bool
	swept   bool
	highest timestamp.T // newest ballot or promise that refused it
	leases  []Lease
	err     error
}

// accept sends a record to every device and waits until W of them hold it with
// its bytes, or no longer can. Devices that have not answered by then go on.
func (p *Proposer) accept(ctx context.Context, q *Quorum, r *Record) wrote {
	s := sending{q: q, r: r, replies: make(chan reply[Answer], 2*len(q.Replicas))}
	s.held = make([]bool, len(q.Replicas))
	s.full = make([]bool, len(q.Replicas))
	s.busy = make([]bool, len(q.Replicas))
	s.errs = make([]error, len(q.Replicas))
	// Detached: what was begun is finished even when the client has gone.
	s.ctx, s.cancel = context.WithTimeout(context.WithoutCancel(ctx), CallTimeout)
	for i := range q.Replicas {
		s.send(i, i < q.Copies)
	}
	for s.pending > 0 {
		select {
		case x := <-s.replies:
			s.note(x)
		case <-ctx.Done():
			s.out.err = ctx.Err()
			s.detach()
			return s.out
		}
		if q.enough(func(i int) bool { return s.held[i] }, q.W) {
			s.out.chosen = true
			break
		}
	}
	s.detach()
	if !s.out.chosen && s.out.err == nil {
		s.out.err = errs.Wrap("register.Write", errs.Unavailable, errors.Join(s.errs...))
	}
	return s.out
}

// sending is one record on its way to the devices.
type sending struct {
	q       *Quorum
	r       *Record
	ctx     context.Context
	cancel  context.CancelFunc
	replies chan reply[Answer]
	pending int
	held    []bool  // has accepted with the bytes
	full    []bool  // was sent the bytes
	busy    []bool  // has not answered yet
	errs    []error // of devices that failed
	out     wrote
}

func (s *sending) send(i int, full bool) {
	r := s.r
	if !full {
		r = r.WithoutData()
	}
	s.full[i] = full || s.r.DataLen == 0
	s.busy[i] = true
	s.pending++
	go func() {
		a, err := s.q.Replicas[i].Write(s.ctx, r)
		s.replies <- reply[Answer]{i, a, err}
	}()
}

func (s *sending) note(x reply[Answer]) {
	s.pending--
	s.busy[x.i] = false
	s.errs[x.i] = x.err
	a := &x.value
	switch {
	case x.err != nil:
		s.promote()
	case a.Accepted:
		s.out.leases = append(s.out.leases, a.Leases...)
		if s.full[x.i] || a.State.Held {
			s.held[x.i] = true
		} else if s.wanting() {
			s.send(x.i, true)
		}
	default:
		s.out.refused = true
		s.out.swept = s.out.swept || a.Swept
		s.out.highest = timestamp.Max(s.out.highest, a.State.Highest())
		s.promote()
	}
}

// wanting reports whether too few devices have the bytes or are about to.
func (s *sending) wanting() bool {
	n := 0
	for i := range s.full {
		if s.full[i] && (s.held[i] || s.busy[i]) {
			n++
		}
	}
	return n < s.q.Copies
}

// promote sends the bytes to a device that was sent the record bare and has
// answered, in place of one that failed.
func (s *sending) promote() {
	for i := range s.full {
		if !s.full[i] && !s.busy[i] && s.errs[i] == nil && s.wanting() {
			s.send(i, true)
			return
		}
	}
}

// detach lets the calls that are under way end on their own.
func (s *sending) detach() {
	if s.pending == 0 {
		s.cancel()
		return
	}
	go func() {
		for range s.pending {
			<-s.replies
		}
		s.cancel()
	}()
}

// prepared is the answer of R devices to a prepare.
type prepared struct {
	newest  *Record // without its bytes; nil if there is none
	certain bool    // known chosen
	holders []int   // devices that hold newest, bytes included
	highest timestamp.T
	err     error
}

// prepare gets R promises for b and finds the newest record (rule 2).
func (p *Proposer) prepare(ctx context.Context, q *Quorum, b, sweep timestamp.T) prepared {
	refused := timestamp.T{}
	a := gather(ctx, q, p.HedgeAfter, q.R, func(ctx context.Context, i int) (Answer, error) {
		ans, err := q.Replicas[i].Prepare(ctx, b, sweep)
		if err == nil && !ans.Accepted {
			return ans, errs.New("register.Prepare", errs.Conflict, "a newer ballot is promised")
		}
		return ans, err
	})
	states := make([]*State, len(q.Replicas))
	conflict := false
	for i := range a.have {
		switch {
		case a.ok(i):
			states[i] = &a.values[i].State
		case errs.Is(a.errs[i], errs.Conflict):
			conflict = true
			refused = timestamp.Max(refused, a.values[i].State.Highest())
		}
	}
	out := digest(q, states, true)
	out.highest = timestamp.Max(refused, b)
	if !q.enough(a.ok, q.R) {
		out.err = a.unavailable("register.Prepare")
		if conflict {
			out.err = errs.New("register.Prepare", errs.Conflict, "")
		}
	}
	return out
}

// digest finds the newest record among states (nil: not asked or silent). With
// heldOnly, records whose bytes none of the devices has are passed over: under a
// promise of R devices such a record was not chosen and cannot be any more.
func digest(q *Quorum, states []*State, heldOnly bool) (d prepared) {
	for _, s := range states {
		if s == nil || s.Record == nil || (heldOnly && !s.Held && !s.Committed) {
			continue
		}
		if d.newest == nil || d.newest.Ballot.Less(s.Record.Ballot) {
			d.newest = s.Record
		}
	}
	if d.newest == nil {
		return d
	}
	holds := make([]bool, len(states))
	for i, s := range states {
		if s == nil || s.Record == nil || s.Record.Ballot != d.newest.Ballot {
			continue
		}
		d.certain = d.certain || s.Committed
		if s.Held {
			holds[i] = true
			d.holders = append(d.holders, i)
			if s.Record.Data != nil {
				d.newest = s.Record
			}
		}
	}
	d.certain = d.certain || q.enough(func(i int) bool { return holds[i] }, q.W)
	return d
}

// finish writes the newest record again at b unless it is known chosen (rule 7).
func (p *Proposer) finish(ctx context.Context, q *Quorum, prep *prepared, b timestamp.T) (*Outcome, error) {
	if prep.certain {
		return &Outcome{Record: prep.newest}, nil
	}
	r, err := p.withData(ctx, q, prep)
	if err != nil {
		return nil, err
	}
	out, _, err := p.acceptOutcome(ctx, q, r.At(b))
	return out, err
}

// withData returns the newest record with its bytes.
func (p *Proposer) withData(ctx context.Context, q *Quorum, d *prepared) (*Record, error) {
	if !d.newest.Bare() {
		return d.newest, nil
	}
	for _, i := range d.holders {
		s, err := q.Replicas[i].Read(ctx, true)
		if err == nil && s.Record != nil && s.Record.TS == d.newest.TS && s.Record.Data != nil {
			r := *d.newest
			r.Data = s.Record.Data
			return &r, nil
		}
	}
	return p.fetch(ctx, q, d.newest)
}

// read is rule 8; the record may come without its bytes.
func (p *Proposer) read(ctx context.Context, q *Quorum, data bool) (*Record, error) {
	d, err := p.ask(ctx, q, q.R, data)
	if err != nil || d.newest == nil || d.certain {
		return d.newest, err
	}
	// R agree on too little. Perhaps all do on enough.
	if all, err := p.ask(ctx, q, len(q.Replicas), data); err == nil {
		d = all
		if d.newest == nil || d.certain {
			return d.newest, nil
		}
	}
	if len(d.holders) > 0 {
		r, err := p.withData(ctx, q, &d)
		if err == nil {
			if p.accept(ctx, q, r).chosen { // written back at its own ballot
				return r, nil
			}
		}
	}
	return p.Settle(ctx, q)
}

// ask reads from need devices, or as many as answer if need is all of them.
func (p *Proposer) ask(ctx context.Context, q *Quorum, need int, data bool) (prepared, error) {
	a := gather(ctx, q, p.HedgeAfter, need, func(ctx context.Context, i int) (State, error) {
		return q.Replicas[i].Read(ctx, data && i == 0)
	})
	states := make([]*State, len(q.Replicas))
	for i := range a.each() {
		states[i] = &a.values[i]
	}
	if !q.enough(a.ok, q.R) {
		return prepared{}, a.unavailable("register.Read")
	}
	return digest(q, states, false), nil
}

// Settle makes the newest record certain by prepare and finish, and returns it;
// nil if there is none.
func (p *Proposer) Settle(ctx context.Context, q *Quorum) (*Record, error) {
	return p.settle(ctx, q, timestamp.T{})
}

// Spread writes the newest record back to every device that answers, so that
// those which were away when it was chosen have it too.
func (p *Proposer) Spread(ctx context.Context, q *Quorum) error {
	r, err := p.Settle(ctx, q)
	if err != nil || r == nil {
		return err
	}
	all := *q
	all.W = len(q.Replicas) // as many as there are: too few is no failure here
	p.accept(ctx, &all, r)
	return nil
}

// Sweep is Settle, and makes sure that no record which names the group will ever
// be chosen, unless the one it returns does.
func (p *Proposer) Sweep(ctx context.Context, q *Quorum, group timestamp.T) (*Record, error) {
	return p.settle(ctx, q, group)
}

func (p *Proposer) settle(ctx context.Context, q *Quorum, sweep timestamp.T) (*Record, error) {
	var highest timestamp.T
	for attempt := range maxAttempts {
		if attempt > 0 {
			if err := backoff(ctx, attempt); err != nil {
				return nil, errs.Wrap("register.Settle", errs.Unavailable, err)
			}
		}
		b := p.Clock.Above(highest)
		prep := p.prepare(ctx, q, b, sweep)
		highest = timestamp.Max(highest, prep.highest)
		err := prep.err
		if err == nil {
			if prep.newest == nil {
				return nil, nil
			}
			var out *Outcome
			if out, err = p.finish(ctx, q, &prep, b); err == nil {
				return out.Record, nil
			}
		}
		if !errs.Is(err, errs.Conflict) {
			return nil, err
		}
	}
	return nil, errs.New("register.Settle", errs.Unavailable, "too much contention on the key")
}

// fetch finds the bytes of a record that is certain.
func (p *Proposer) fetch(ctx context.Context, q *Quorum, r *Record) (*Record, error) {
	var failed []error
	for _, rep := range q.Replicas {
		s, err := rep.Read(ctx, true)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		if x := s.Record; x != nil && x.Data != nil && x.DataSum == r.DataSum && x.TS == r.TS {
			c := *r
			c.Data = x.Data
			return &c, nil
		}
		if s.Record != nil && r.Ballot.Less(s.Record.Ballot) && s.Record.TS != r.TS {
			return nil, errs.New("register.Read", errs.Conflict, "the record was replaced while it was read")
		}
	}
	return nil, &errs.Error{Op: "register.Read", Kind: errs.Unavailable,
		What: "no device that answers has the record's bytes", Err: errors.Join(failed...)}
}
