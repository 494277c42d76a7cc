package register

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"ringfort/internal/errs"
	"ringfort/internal/timestamp"
	"ringfort/internal/workers"
)

// Replica is one record device of one key, as a proposer sees it.
type Replica interface {
	Learn(ctx context.Context) (Known, error)
	Read(ctx context.Context, data bool) (State, error)
	Write(ctx context.Context, r *Record) (Answer, error)
	Prepare(ctx context.Context, ballot, sweep timestamp.T) (Answer, error)
}

// Quorum is a key's record devices and the arithmetic of its quorums.
type Quorum struct {
	Replicas []Replica // r of them, in ring order
	W        int       // ⌊r/2⌋+1
	R        int       // r-W+1
	// Copies is how many devices are sent a record's small bytes, at least W; the
	// others are sent the record bare, once it is chosen.
	Copies int
	// Sets, if there are two, are the indexes in Replicas of the old and the new
	// owners while the partition moves (rule 12): each quorum is then one of both,
	// and all devices are sent the bytes. Nil means one set, of all.
	Sets [][]int
}

// NewQuorum returns the quorums of r replicas; copies below W means W.
func NewQuorum(replicas []Replica, copies int) *Quorum {
	r := len(replicas)
	w := r/2 + 1
	return &Quorum{Replicas: replicas, W: w, R: r - w + 1, Copies: min(max(copies, w), r)}
}

// need is a kind of quorum.
type need int

const (
	readers need = iota // meets every quorum of writers
	writers
)

// size returns how many devices of all are needed, if there is but one set.
func (q *Quorum) size(n need) int {
	if n == writers {
		return q.W
	}
	return q.R
}

// enough reports whether the devices for which got is true are a quorum in every
// set.
func (q *Quorum) enough(got func(i int) bool, n need) bool {
	if len(q.Sets) == 0 {
		have := 0
		for i := range q.Replicas {
			if got(i) {
				have++
			}
		}
		return have >= q.size(n)
	}
	for _, set := range q.Sets {
		have := 0
		for _, i := range set {
			if got(i) {
				have++
			}
		}
		want := len(set)/2 + 1
		if n == readers {
			want = len(set) - want + 1
		}
		if have < want {
			return false
		}
	}
	return true
}

// Proposer carries out operations on keys. It keeps nothing between calls.
type Proposer struct {
	Clock *timestamp.Clock
	// HedgeAfter is how long a call waits for a device before it turns to another
	// one as well. Zero: it waits for as long as the device may take.
	HedgeAfter time.Duration
	// Workers make the calls to devices. Nil: new goroutines do.
	Workers *workers.Pool

	jitter func(limit time.Duration) time.Duration // nil: random
}

func (p *Proposer) hedge() time.Duration {
	if p.HedgeAfter <= 0 {
		return CallTimeout
	}
	return p.HedgeAfter
}

// Update says what a write leaves behind. The proposer fills in the protocol's
// fields of the record (Ballot, TS, Op, Root, Mod unless set, Chain).
type Update struct {
	Record Record
	// Op identifies the operation over its attempts.
	Op timestamp.T
}

// Outcome is the end of an operation.
type Outcome struct {
	Record *Record // now at the key: the written one, or a newer one
	Prior  *Record // conditional writes: the record that was judged; nil if none
	Leases []Lease // of the devices that accepted
}

const maxAttempts = 64

// backoff waits between attempts that met other proposers, a little longer each
// time and never in step with them.
func (p *Proposer) backoff(ctx context.Context, attempt int) error {
	limit := min(time.Millisecond<<min(attempt, 8), 200*time.Millisecond)
	wait := time.Millisecond / 4
	if p.jitter != nil {
		wait += p.jitter(limit)
	} else {
		wait += rand.N(limit)
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Highest learns the newest timestamp that R devices have for the key (rule 4a)
// and whether any of them holds a live record. That none does is no proof that
// the key is not there: a tombstone among them may not have been chosen. Ask Read
// before telling anyone.
func (p *Proposer) Highest(ctx context.Context, q *Quorum) (Known, error) {
	var k Known
	a := gather(ctx, p, q, q.first(readers), func(ctx context.Context, i int) (Known, error) {
		return q.Replicas[i].Learn(ctx)
	}, func(a *answers[Known], _ bool) bool { return q.enough(a.ok, readers) })
	if !q.enough(a.ok, readers) {
		return k, a.unavailable("register.Learn")
	}
	for i := range a.each() {
		k.Highest = timestamp.Max(k.Highest, a.values[i].Highest)
		k.Exists = k.Exists || a.values[i].Exists
	}
	return k, nil
}

// Write is a blind write (rule 4). above is what Highest returned. errs.Swept:
// the record names a group that was given up, and will never be chosen. Every
// other error leaves the outcome open.
func (p *Proposer) Write(ctx context.Context, q *Quorum, u *Update, above timestamp.T) (*Outcome, error) {
	const name = "register.Write"
	ts := p.Clock.Above(above)
	mine := u.blind(ts)
	t := try{highest: ts}
	out, err := p.propose(ctx, q, mine, &t)
	for attempt := 0; out == nil && !errs.Is(err, errs.Swept) && attempt < maxAttempts; attempt++ {
		if err := p.backoff(ctx, attempt); err != nil {
			return nil, errs.Wrap(name, errs.OutcomeUnknown, err)
		}
		out, err = p.retryBlind(ctx, q, mine, &t)
		if out == nil && !errs.Is(err, errs.Conflict) && !errs.Is(err, errs.Swept) {
			// Mine may have reached some devices, and may yet be finished by another.
			return nil, errs.Wrap(name, errs.OutcomeUnknown, err)
		}
	}
	if out == nil && !errs.Is(err, errs.Swept) {
		err = errs.Wrap(name, errs.OutcomeUnknown, errs.New(name, errs.Busy, "too much contention on the key"))
	}
	return out, err
}

// try is what an operation has learnt from its attempts.
type try struct {
	highest timestamp.T // seen so far
	wide    bool        // ask all devices: those asked could not settle what they had
}

func (u *Update) blind(ts timestamp.T) *Record {
	r := u.Record
	r.Ballot, r.TS, r.Root, r.Op, r.Chain = ts, ts, ts, u.Op, nil
	if r.Mod.IsZero() {
		r.Mod = ts
	}
	return &r
}

// retryBlind is rule 4c, once.
func (p *Proposer) retryBlind(ctx context.Context, q *Quorum, mine *Record, t *try) (*Outcome, error) {
	prep := p.prepare(ctx, q, t, timestamp.T{})
	if prep.err != nil {
		return nil, prep.err
	}
	if cur := prep.newest; cur != nil && !cur.Root.Less(mine.TS) {
		// Mine is in its lineage, or I came just before it: either way mine is
		// done once what follows it is.
		return p.finish(ctx, q, &prep, t)
	}
	return p.propose(ctx, q, mine.At(prep.ballot), t)
}

// propose sends a record of this operation to the devices. errs.Conflict: a newer
// ballot is in the way. errs.Swept: it was not chosen and cannot be.
func (p *Proposer) propose(ctx context.Context, q *Quorum, r *Record, t *try) (*Outcome, error) {
	w := p.accept(ctx, q, r)
	t.highest = timestamp.Max(t.highest, w.highest)
	switch {
	case w.chosen:
		return &Outcome{Record: r, Leases: w.leases}, nil
	case w.dead:
		return nil, errs.New("register.Write", errs.Swept, "the upload took too long: its data was swept")
	case w.refused:
		return nil, errs.New("register.Write", errs.Conflict, "")
	}
	return nil, w.err
}

// Judge looks at the newest record (nil: the key was never written; a tombstone
// is a record) and says what to make of it: an update, or an error if the
// condition does not hold, which Update then returns as it is. It is called again
// when the operation has to begin anew, so it must not have effects.
type Judge func(cur *Record) (*Record, error)

// Update is a conditional write (rules 5 and 6). errs.OutcomeUnknown: it may or
// may not have taken effect. After any other error it has not.
func (p *Proposer) Update(ctx context.Context, q *Quorum, op timestamp.T, judge Judge) (*Outcome, error) {
	const name = "register.Update"
	c := conditional{p: p, q: q, op: op, judge: judge}
	for attempt := range maxAttempts {
		if attempt > 0 {
			if err := p.backoff(ctx, attempt); err != nil {
				return nil, c.gaveUp(err)
			}
		}
		out, err := c.attempt(ctx)
		switch {
		case c.verdict != nil:
			return nil, c.verdict
		case err == nil || errs.Is(err, errs.OutcomeUnknown) || errs.Is(err, errs.Swept):
			return out, err
		case !errs.Is(err, errs.Conflict):
			return nil, c.gaveUp(err)
		}
	}
	return nil, c.gaveUp(errs.New(name, errs.Busy, "too much contention on the key"))
}

// conditional is one conditional operation over its attempts.
type conditional struct {
	p     *Proposer
	q     *Quorum
	op    timestamp.T
	judge Judge
	try
	wrote   []basis // one for each record that was sent
	last    timestamp.T
	verdict error // the judge's, once it may be told
}

// basis is what an attempt was made upon.
type basis struct {
	root timestamp.T
	op   timestamp.T // of the record that it was to replace; zero: there was none
}

// gaveUp is the error of an operation that ends without an answer: unknown if
// something was written, plainly failed if not.
func (c *conditional) gaveUp(err error) error {
	if len(c.wrote) == 0 {
		return errs.Wrap("register.Update", errs.Unavailable, err)
	}
	return errs.Wrap("register.Update", errs.OutcomeUnknown, err)
}

func (c *conditional) attempt(ctx context.Context) (*Outcome, error) {
	prep := c.p.prepare(ctx, c.q, &c.try, timestamp.T{})
	if prep.err != nil {
		return nil, prep.err
	}
	cur := prep.newest
	if len(c.wrote) > 0 {
		if cur != nil && cur.Includes(c.op) {
			// Written again in any case: who accepts it says which leases ran on
			// what was there before.
			prep.certain = false
			return c.p.finish(ctx, c.q, &prep, &c.try)
		}
		if !c.unchanged(cur) {
			return nil, errs.New("register.Update", errs.OutcomeUnknown, "another write replaced what this one may have made")
		}
	}
	next, verdict := c.judge(cur)
	if verdict != nil {
		if err := c.settleFalse(ctx, &prep); err != nil {
			return nil, err
		}
		c.verdict = verdict
		return nil, nil
	}
	return c.write(ctx, cur, next, prep.ballot)
}

// unchanged reports whether cur still has the root under which each of my
// attempts was made, and a chain that has not lost what came after them: only
// then is an attempt that it does not name one that did not happen (rule 6).
func (c *conditional) unchanged(cur *Record) bool {
	var root timestamp.T
	cut := false
	if cur != nil {
		root = cur.Root
		cut = len(cur.Chain) >= MaxChain
	}
	for _, b := range c.wrote {
		if b.root != root || cut && !cur.Includes(b.op) {
			return false
		}
	}
	return true
}

// settleFalse makes the record on which a "no" rests certain before the "no" is
// told (rule 5), and newer than any attempt of mine (rule 6).
func (c *conditional) settleFalse(ctx context.Context, prep *prepared) error {
	if prep.newest == nil {
		if len(c.wrote) == 0 {
			return nil
		}
		return errs.New("register.Update", errs.OutcomeUnknown, "an earlier attempt may still be found")
	}
	if prep.newest.Ballot.Less(c.last) {
		prep.certain = false
	}
	_, err := c.p.finish(ctx, c.q, prep, &c.try)
	return err
}

func (c *conditional) write(ctx context.Context, cur, next *Record, b timestamp.T) (*Outcome, error) {
	r := *next
	r.Ballot, r.TS, r.Op = b, b, c.op
	if r.Mod.IsZero() {
		r.Mod = b
	}
	// Without a record before it there is no unconditional write that this one
	// descends from: its root is zero, older than any blind write that it has
	// not seen.
	r.Root, r.Chain = timestamp.T{}, []timestamp.T{c.op}
	var before timestamp.T
	if cur != nil {
		before = cur.Op
		r.Root = cur.Root
		r.Chain = append(slices.Clone(cur.Chain), c.op)
		r.Chain = r.Chain[max(0, len(r.Chain)-MaxChain):]
	}
	c.last, c.wrote = b, append(c.wrote, basis{r.Root, before})
	out, err := c.p.propose(ctx, c.q, &r, &c.try)
	if out != nil {
		out.Prior = cur
	}
	return out, err
}

// Read returns the record of a key, nil if it has none (rule 8). A tombstone is
// returned as one. With data, the record has its bytes; errs.Conflict then says
// that it was replaced before they could be had.
func (p *Proposer) Read(ctx context.Context, q *Quorum, data bool) (*Record, error) {
	d, err := p.read(ctx, q, data)
	if err != nil || d.newest == nil || !data || !d.newest.Bare() {
		return d.newest, err
	}
	return p.fetch(ctx, q, &d)
}
