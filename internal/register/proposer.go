package register

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"ringfort/internal/errs"
	"ringfort/internal/timestamp"
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
	// others are sent the record bare.
	Copies int
	// Sets, if there are two, are the indexes in Replicas of the old and the new
	// owners while the partition moves (rule 12): each quorum is then one of both.
	// Nil means one set, of all.
	Sets [][]int
}

// NewQuorum returns the quorums of r replicas; copies below W means W.
func NewQuorum(replicas []Replica, copies int) *Quorum {
	r := len(replicas)
	w := r/2 + 1
	return &Quorum{Replicas: replicas, W: w, R: r - w + 1, Copies: min(max(copies, w), r)}
}

// enough reports whether the devices for which got is true are a quorum of size
// need in every set.
func (q *Quorum) enough(got func(i int) bool, need int) bool {
	if len(q.Sets) == 0 {
		n := 0
		for i := range q.Replicas {
			if got(i) {
				n++
			}
		}
		return n >= need
	}
	for _, set := range q.Sets {
		n := 0
		for _, i := range set {
			if got(i) {
				n++
			}
		}
		w := len(set)/2 + 1
		if need == q.R {
			w = len(set) - w + 1
		}
		if n < w {
			return false
		}
	}
	return true
}

// Proposer carries out operations on keys. It keeps nothing between calls.
type Proposer struct {
	Clock *timestamp.Clock
	// HedgeAfter is how long a read waits for a device before it asks another one
	// as well.
	HedgeAfter time.Duration
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
func backoff(ctx context.Context, attempt int) error {
	limit := min(time.Millisecond<<min(attempt, 8), 200*time.Millisecond)
	t := time.NewTimer(rand.N(limit) + time.Millisecond/4)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Highest learns the newest timestamp that R devices have for the key (rule 4a)
// and whether any of them holds a live record.
func (p *Proposer) Highest(ctx context.Context, q *Quorum) (Known, error) {
	var k Known
	answers := gather(ctx, q, p.HedgeAfter, q.R, func(ctx context.Context, i int) (Known, error) {
		return q.Replicas[i].Learn(ctx)
	})
	if !q.enough(answers.ok, q.R) {
		return k, answers.unavailable("register.Learn")
	}
	for i := range answers.each() {
		k.Highest = timestamp.Max(k.Highest, answers.values[i].Highest)
		k.Exists = k.Exists || answers.values[i].Exists
	}
	return k, nil
}

// Write is a blind write (rule 4). above is what Highest returned.
func (p *Proposer) Write(ctx context.Context, q *Quorum, u *Update, above timestamp.T) (*Outcome, error) {
	ts := p.Clock.Above(above)
	mine := u.blind(ts, ts)
	wrote := p.accept(ctx, q, mine)
	if wrote.chosen {
		return &Outcome{Record: mine, Leases: wrote.leases}, nil
	}
	if wrote.swept {
		return nil, errs.New("register.Write", errs.Swept, "the upload took too long: its data was swept")
	}
	highest := timestamp.Max(ts, wrote.highest)
	for attempt := range maxAttempts {
		if err := backoff(ctx, attempt); err != nil {
			return nil, errs.Wrap("register.Write", errs.OutcomeUnknown, err)
		}
		out, seen, err := p.retryBlind(ctx, q, u, mine, highest)
		if out != nil || errs.Is(err, errs.Swept) {
			return out, err
		}
		if err != nil && !errs.Is(err, errs.Conflict) {
			// Mine may have reached some devices, and may yet be finished by another.
			return nil, errs.Wrap("register.Write", errs.OutcomeUnknown, err)
		}
		highest = timestamp.Max(highest, seen)
	}
	return nil, errs.New("register.Write", errs.OutcomeUnknown, "too much contention on the key")
}

func (u *Update) blind(ballot, ts timestamp.T) *Record {
	r := u.Record
	r.Ballot, r.TS, r.Root, r.Op, r.Chain = ballot, ts, ts, u.Op, nil
	if r.Mod.IsZero() {
		r.Mod = ts
	}
	return &r
}

// retryBlind is rule 4c, once.
func (p *Proposer) retryBlind(ctx context.Context, q *Quorum, u *Update, mine *Record, highest timestamp.T) (*Outcome, timestamp.T, error) {
	b := p.Clock.Above(highest)
	prep := p.prepare(ctx, q, b, timestamp.T{})
	if prep.err != nil {
		return nil, prep.highest, prep.err
	}
	cur := prep.newest
	switch {
	case cur != nil && (cur.Root == mine.TS || !cur.Root.Less(mine.TS)):
		// Mine is in its lineage, or I came just before it: either way mine is
		// done once what follows it is.
		out, err := p.finish(ctx, q, &prep, b)
		return out, b, err
	default:
		again := u.blind(b, mine.TS)
		again.Mod = mine.Mod
		return p.acceptOutcome(ctx, q, again)
	}
}

func (p *Proposer) acceptOutcome(ctx context.Context, q *Quorum, r *Record) (*Outcome, timestamp.T, error) {
	wrote := p.accept(ctx, q, r)
	switch {
	case wrote.chosen:
		return &Outcome{Record: r, Leases: wrote.leases}, r.Ballot, nil
	case wrote.swept:
		return nil, wrote.highest, errs.New("register.Write", errs.Swept, "the upload took too long: its data was swept")
	case wrote.refused:
		return nil, wrote.highest, errs.New("register.Write", errs.Conflict, "")
	}
	return nil, wrote.highest, wrote.err
}

// Judge looks at the newest record (nil: the key was never written; a tombstone
// is a record) and says what to make of it: an update, or an error if the
// condition does not hold. It is called again when the operation has to begin
// anew, so it must not have effects.
type Judge func(cur *Record) (*Record, error)

// Update is a conditional write (rules 5 and 6).
func (p *Proposer) Update(ctx context.Context, q *Quorum, op timestamp.T, judge Judge) (*Outcome, error) {
	const name = "register.Update"
	t := conditional{p: p, q: q, op: op, judge: judge}
	for attempt := range maxAttempts {
		if attempt > 0 {
			if err := backoff(ctx, attempt); err != nil {
				return nil, t.gaveUp(err)
			}
		}
		out, err := t.attempt(ctx)
		if err == nil || !errs.Is(err, errs.Conflict) {
			return out, err
		}
	}
	return nil, t.gaveUp(errs.New(name, errs.Unavailable, "too much contention on the key"))
}

// conditional is one conditional operation over its attempts.
type conditional struct {
	p       *Proposer
	q       *Quorum
	op      timestamp.T
	judge   Judge
	highest timestamp.T // seen so far
	last    timestamp.T // ballot of my last write; zero: none was sent
	roots   []timestamp.T
}

// gaveUp is the error of an operation that ends without an answer: unknown if
// something was written, plainly failed if not.
func (c *conditional) gaveUp(err error) error {
	if c.last.IsZero() {
		return errs.Wrap("register.Update", errs.Unavailable, err)
	}
	return errs.Wrap("register.Update", errs.OutcomeUnknown, err)
}

func (c *conditional) attempt(ctx context.Context) (*Outcome, error) {
	b := c.p.Clock.Above(c.highest)
	prep := c.p.prepare(ctx, c.q, b, timestamp.T{})
	c.highest = timestamp.Max(timestamp.Max(c.highest, b), prep.highest)
	if errs.Is(prep.err, errs.Conflict) {
		return nil, prep.err
	}
	if prep.err != nil {
		return nil, c.gaveUp(prep.err)
	}
	cur := prep.newest
	if !c.last.IsZero() {
		if cur != nil && cur.Includes(c.op) {
			return c.finish(ctx, &prep, b)
		}
		if !c.unchanged(cur) {
			return nil, errs.New("register.Update", errs.OutcomeUnknown, "another write replaced what this one may have made")
		}
	}
	next, verdict := c.judge(cur)
	if verdict != nil {
		if err := c.settleFalse(ctx, &prep, b); err != nil {
			return nil, err
		}
		return nil, verdict
	}
	return c.write(ctx, cur, next, b)
}

// unchanged reports whether cur still has the root under which each of my
// attempts was made, with its whole chain (rule 6).
func (c *conditional) unchanged(cur *Record) bool {
	root := timestamp.T{}
	if cur != nil {
		root = cur.Root
		if len(cur.Chain) >= MaxChain {
			return false
		}
	}
	for _, r := range c.roots {
		if r != root {
			return false
		}
	}
	return true
}

func (c *conditional) finish(ctx context.Context, prep *prepared, b timestamp.T) (*Outcome, error) {
	out, err := c.p.finish(ctx, c.q, prep, b)
	if err != nil && !errs.Is(err, errs.Conflict) {
		return nil, c.gaveUp(err)
	}
	return out, err
}

// settleFalse makes the record on which a "no" rests certain before the "no" is
// told (rule 5), and newer than any attempt of mine (rule 6).
func (c *conditional) settleFalse(ctx context.Context, prep *prepared, b timestamp.T) error {
	if prep.newest == nil {
		if c.last.IsZero() {
			return nil
		}
		return errs.New("register.Update", errs.OutcomeUnknown, "an earlier attempt may still be found")
	}
	if prep.newest.Ballot.Less(c.last) {
		prep.certain = false
	}
	_, err := c.finish(ctx, prep, b)
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
	if cur != nil {
		r.Root = cur.Root
		r.Chain = append(slices.Clone(cur.Chain), c.op)
		r.Chain = r.Chain[max(0, len(r.Chain)-MaxChain):]
	}
	c.last, c.roots = b, append(c.roots, r.Root)
	out, highest, err := c.p.acceptOutcome(ctx, c.q, &r)
	c.highest = timestamp.Max(c.highest, highest)
	if out != nil {
		out.Prior = cur
		return out, nil
	}
	if errs.Is(err, errs.Conflict) || errs.Is(err, errs.Swept) {
		return nil, err
	}
	return nil, c.gaveUp(err)
}

// Read returns the record of a key, nil if it has none (rule 8). A tombstone is
// returned as one. With data, the record has its bytes.
func (p *Proposer) Read(ctx context.Context, q *Quorum, data bool) (*Record, error) {
	r, err := p.read(ctx, q, data)
	if err != nil || r == nil || !data || !r.Bare() {
		return r, err
	}
	return p.fetch(ctx, q, r)
}
