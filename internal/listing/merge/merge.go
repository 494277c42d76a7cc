// Package merge makes one listing out of the pages of several devices.
//
// Every acknowledged row is on W of a listing's devices, and any R of them share
// one with those W; so the newest row of R devices, by ballot, is the truth about
// a name. Pages hold live rows only. A name that all R report lives, as the newest
// of their rows. A name that only some report may have been deleted, or renewed,
// or never seen by the others: they are asked about it, and a tombstone or a newer
// row wins. A name that none reports does not live. For names of which replicas
// agree, and that is nearly all, nothing is asked.
//
// A common prefix is shown when a row under it lives in that sense. Each page
// proves it by its first row; where these differ they are all asked about, and if
// none of them lives, the names under the prefix are listed, by the same rules,
// until one does.
//
// Only what all pages cover is decided: a page that says More covers what is up to
// its last entry, common prefixes as a whole.
//
// Read first: [List], which does all of it; [Round], the decisions about one page
// of each device, without any waiting in it. Neither keeps anything between calls.
package merge

import (
	"ringfort/internal/catalog"
	"ringfort/internal/errs"
	"ringfort/internal/peer"
)

// MaxDevices is how many pages can be merged at a time.
const MaxDevices = 64

// Round merges one page of each of k devices, all answers to one query:
//
//	New, then every one of Questions to Answer, then every one of Unproven to
//	Prove, then Page.
//
// It is not for concurrent use.
type Round struct {
	q       *peer.RowQuery
	pages   []*peer.RowPage
	entries []peer.Entry
	bounded bool   // some page says More
	bound   string // then: the last place that is decided

	open       []open
	candidates []candidate
}

// open is an entry that is not decided yet.
type open struct {
	at       int // in entries
	from, to int // its candidates
	dropped  bool
}

// candidate is a row of which not all devices have told.
type candidate struct {
	newest catalog.Row // so far
	told   uint64      // the devices that told of it, a bit each
}

// Question is a set of names that one device did not tell of.
type Question struct {
	Device int // which of the pages
	Names  []string

	candidates []int
}

// place is where an entry stands in the order of names and common prefixes.
func place(e *peer.Entry) string {
	if e.CommonPrefix != "" {
		return e.CommonPrefix
	}
	return e.Name
}

// before reports whether a comes before b in the order of the query.
func before(q *peer.RowQuery, a, b string) bool {
	if q.Reverse {
		return a > b
	}
	return a < b
}

// New begins to merge the devices' answers to q. The pages must not be changed
// before the result has been used: it shares their memory.
func New(q *peer.RowQuery, pages []*peer.RowPage) (*Round, error) {
	const op = "merge.New"
	if len(pages) == 0 || len(pages) > MaxDevices {
		return nil, errs.New(op, errs.Invalid, "%d pages", len(pages))
	}
	r := &Round{q: q, pages: pages}
	for i, p := range pages {
		if !p.More {
			continue
		}
		if len(p.Entries) == 0 {
			return nil, errs.New(op, errs.Corrupt, "page %d is empty and says that more follows", i)
		}
		last := place(&p.Entries[len(p.Entries)-1])
		if !r.bounded || before(q, last, r.bound) {
			r.bounded, r.bound = true, last
		}
	}
	if identical(pages) {
		r.entries = pages[0].Entries
		return r, nil
	}
	return r, r.walk()
}

// identical reports whether all pages hold the same rows, so that each of them is
// known to live.
func identical(pages []*peer.RowPage) bool {
	first := pages[0]
	for _, p := range pages[1:] {
		if len(p.Entries) != len(first.Entries) || p.More != first.More {
			return false
		}
		for i := range p.Entries {
			a, b := &p.Entries[i], &first.Entries[i]
			if a.Ballot != b.Ballot || a.Name != b.Name || a.CommonPrefix != b.CommonPrefix {
				return false
			}
		}
	}
	return true
}

// walk goes through all pages side by side.
func (r *Round) walk() error {
	heads := make([]int, len(r.pages))
	longest := 0
	for _, p := range r.pages {
		longest = max(longest, len(p.Entries))
	}
	r.entries = make([]peer.Entry, 0, longest)
	last, any := "", false
	for {
		at, ok := r.first(heads)
		if !ok || (r.bounded && before(r.q, r.bound, at)) {
			return nil
		}
		if any && !before(r.q, last, at) {
			return errs.New("merge.New", errs.Corrupt, "a page is out of order at %q", at)
		}
		last, any = at, true
		if err := r.decide(heads, at); err != nil {
			return err
		}
	}
}

// first returns the first place at which a page stands.
func (r *Round) first(heads []int) (at string, ok bool) {
	for i, p := range r.pages {
		if heads[i] == len(p.Entries) {
			continue
		}
		if a := place(&p.Entries[heads[i]]); !ok || before(r.q, a, at) {
			at, ok = a, true
		}
	}
	return at, ok
}

// decide takes the entries at a place off the pages and shows the place, if only
// until the questions that it opens are answered.
func (r *Round) decide(heads []int, at string) error {
	var (
		newest *peer.Entry
		told   uint64
		agree  = true // all tell of the same name
		from   = len(r.candidates)
	)
	for i, p := range r.pages {
		if heads[i] == len(p.Entries) || place(&p.Entries[heads[i]]) != at {
			continue
		}
		e := &p.Entries[heads[i]]
		heads[i]++
		if newest != nil {
			if e.CommonPrefix != newest.CommonPrefix {
				return errs.New("merge.New", errs.Corrupt, "%q is a name and a common prefix", at)
			}
			agree = agree && e.Name == newest.Name
		}
		if newest == nil || e.Row.Newer(&newest.Row) {
			newest = e
		}
		told |= 1 << i
	}
	r.entries = append(r.entries, *newest)
	if agree && told == r.all() {
		return nil
	}
	for i, p := range r.pages {
		if told&(1<<i) != 0 {
			r.candidate(from, i, &p.Entries[heads[i]-1].Row)
		}
	}
	r.open = append(r.open, open{at: len(r.entries) - 1, from: from, to: len(r.candidates)})
	return nil
}

func (r *Round) all() uint64 { return 1<<len(r.pages) - 1 }

// candidate notes, among the candidates from the given one on, what a device told.
func (r *Round) candidate(from, device int, row *catalog.Row) {
	for i := from; i < len(r.candidates); i++ {
		if c := &r.candidates[i]; c.newest.Name == row.Name {
			c.told |= 1 << device
			if row.Newer(&c.newest) {
				c.newest = *row
			}
			return
		}
	}
	r.candidates = append(r.candidates, candidate{*row, 1 << device})
}

// Questions returns what must be asked with GetRows, of each device at most once.
func (r *Round) Questions() []Question {
	var out []Question
	for d := range r.pages {
		var q Question
		for i := range r.candidates {
			if r.candidates[i].told&(1<<d) == 0 {
				q.Names = append(q.Names, r.candidates[i].newest.Name)
				q.candidates = append(q.candidates, i)
			}
		}
		if len(q.Names) > 0 {
			q.Device = d
			out = append(out, q)
		}
	}
	return out
}

// Answer takes what a device knows of the names it was asked about, in their order.
func (r *Round) Answer(q Question, states []peer.RowState) error {
	if len(states) != len(q.candidates) {
		return errs.New("merge.Answer", errs.Corrupt, "%d answers to %d questions", len(states), len(q.candidates))
	}
	for i := range states {
		c, s := &r.candidates[q.candidates[i]], &states[i]
		if !s.Found {
			continue
		}
		if s.Row.Name != c.newest.Name {
			return errs.New("merge.Answer", errs.Corrupt, "asked about %q, told of %q", c.newest.Name, s.Row.Name)
		}
		if s.Row.Newer(&c.newest) {
			c.newest = s.Row
		}
	}
	return nil
}

// Unproven is a common prefix under which no reported row lives.
type Unproven struct {
	// Query asks for the names under it. The prefix is to be shown if its merged
	// listing is not empty.
	Query peer.RowQuery

	open int
}

// Unproven returns the common prefixes that the answers have left open.
func (r *Round) Unproven() []Unproven {
	var out []Unproven
	for i := range r.open {
		o := &r.open[i]
		e := &r.entries[o.at]
		c := r.proof(o)
		switch {
		case c != nil:
			e.Row = *c
		case e.CommonPrefix == "":
			o.dropped = true
		default:
			q := *r.q // marker and end marker are bounds in there too
			q.Prefix, q.Delimiter, q.Limit = e.CommonPrefix, "", 1
			out = append(out, Unproven{q, i})
		}
	}
	return out
}

// proof returns the first of the candidates that lives.
func (r *Round) proof(o *open) *catalog.Row {
	var first *catalog.Row
	for i := o.from; i < o.to; i++ {
		c := &r.candidates[i].newest
		if !c.Deleted && (first == nil || before(r.q, c.Name, first.Name)) {
			first = c
		}
	}
	return first
}

// Prove answers Unproven: row is the first that lives under the prefix, nil if
// there is none.
func (r *Round) Prove(u Unproven, row *catalog.Row) {
	o := &r.open[u.open]
	if row == nil {
		o.dropped = true
		return
	}
	r.entries[o.at].Row = *row
}

// Page returns the merged page: everything up to the place from which the next
// round starts, which may be nothing at all while more follows. It may hold more
// entries than the query's limit.
func (r *Round) Page() *peer.RowPage {
	dropped := 0
	for i := range r.open {
		if r.open[i].dropped {
			dropped++
		}
	}
	if dropped > 0 {
		o := 0
		kept := r.entries[:0] // made by walk: shared with nobody
		for at := range r.entries {
			for o < len(r.open) && r.open[o].at < at {
				o++
			}
			if o < len(r.open) && r.open[o].at == at && r.open[o].dropped {
				continue
			}
			kept = append(kept, r.entries[at])
		}
		r.entries, r.open = kept, nil
	}
	return &peer.RowPage{Entries: r.entries, More: r.bounded}
}

// Next returns the query for the next round, and whether there is one.
func (r *Round) Next() (peer.RowQuery, bool) {
	q := *r.q
	q.Marker, q.Inclusive = r.bound, false
	return q, r.bounded
}
