package merge

import (
	"context"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"ringfort/internal/catalog"
	"ringfort/internal/errs"
	"ringfort/internal/peer"
)

// Device is one of the R devices whose pages are merged. What stands behind it may
// change from call to call, when a device fails and another takes its place, as
// long as the other is not one of the R at the same time or was before.
type Device interface {
	ListRows(ctx context.Context, q *peer.RowQuery) (*peer.RowPage, error)
	GetRows(ctx context.Context, l *peer.Listing, names []string) ([]peer.RowState, error)
}

// List returns a merged page. Its entries are at most q.Limit, and fewer only when
// nothing follows. More may be true though what followed turns out to be deleted.
// It ends with the first device's error.
func List(ctx context.Context, q *peer.RowQuery, devices []Device) (*peer.RowPage, error) {
	if q.Limit < 1 || q.Limit > peer.MaxPage {
		return nil, errs.New("merge.List", errs.Invalid, "a limit of %d", q.Limit)
	}
	return list(ctx, *q, devices, q.Limit)
}

const (
	// probePage is how many names are asked for when one that lives is sought.
	probePage = 64
	// maxProbes is how many common prefixes are sought in at a time.
	maxProbes = 8
)

// list merges pages of fetch entries until want = q.Limit are found.
func list(ctx context.Context, q peer.RowQuery, devices []Device, fetch int) (*peer.RowPage, error) {
	want := q.Limit
	var out peer.RowPage
	for {
		q.Limit = min(fetch, peer.MaxPage)
		round, err := roundOf(ctx, &q, devices)
		if err != nil {
			return nil, err
		}
		page := round.Page()
		if out.Entries == nil {
			out.Entries = page.Entries // nearly always all there is
		} else {
			out.Entries = append(slices.Clip(out.Entries), page.Entries...)
		}
		next, more := round.Next()
		out.More = more
		if n := len(out.Entries); n > want {
			out.Entries, out.More = out.Entries[:want], true
		}
		if !more || len(out.Entries) == want {
			return &out, nil
		}
		if !onward(&q, next.Marker) {
			return nil, errs.New("merge.List", errs.Corrupt, "a page does not begin after its marker")
		}
		// Where much is deleted on one device only, a page yields little: the steps
		// grow, so that the number of questions does not.
		left := want - len(out.Entries)
		if len(page.Entries) < q.Limit/2 {
			left = max(left, 2*q.Limit)
		}
		fetch = max(left, 1)
		q = next
	}
}

// onward reports whether a place can follow a query's marker: it is after it, or is
// the common prefix around it.
func onward(q *peer.RowQuery, place string) bool {
	if place == q.Marker {
		return q.Inclusive
	}
	return q.Marker == "" || before(q, q.Marker, place) || strings.HasPrefix(q.Marker, place)
}

// roundOf asks all devices for a page and about what their pages leave open.
func roundOf(ctx context.Context, q *peer.RowQuery, devices []Device) (*Round, error) {
	pages := make([]*peer.RowPage, len(devices))
	err := each(ctx, len(devices), len(devices), func(ctx context.Context, i int) (err error) {
		pages[i], err = devices[i].ListRows(ctx, q)
		return err
	})
	if err != nil {
		return nil, err
	}
	round, err := New(q, pages)
	if err != nil {
		return nil, err
	}
	questions := round.Questions()
	answers := make([][]peer.RowState, len(questions))
	err = each(ctx, len(questions), len(devices), func(ctx context.Context, i int) (err error) {
		answers[i], err = ask(ctx, devices[questions[i].Device], &q.Listing, questions[i].Names)
		return err
	})
	if err != nil {
		return nil, err
	}
	for i, a := range answers {
		if err := round.Answer(questions[i], a); err != nil {
			return nil, err
		}
	}
	return round, prove(ctx, round, devices)
}

// maxAskBytes bounds the names of one question, well below what a message may hold.
const maxAskBytes = 1 << 20

// ask asks one device about any number of names, in several questions if they are
// many or the answers long.
func ask(ctx context.Context, d Device, l *peer.Listing, names []string) ([]peer.RowState, error) {
	var out []peer.RowState
	for {
		n := questionOf(names)
		states, err := d.GetRows(ctx, l, names[:n])
		if err != nil {
			return nil, err
		}
		if len(states) > n || len(states) == 0 {
			return nil, errs.New("merge.ask", errs.Corrupt, "%d answers to %d questions", len(states), n)
		}
		if out == nil && len(states) == len(names) {
			return states, nil // nearly always
		}
		if out, names = append(out, states...), names[len(states):]; len(names) == 0 {
			return out, nil
		}
	}
}

// questionOf returns how many of the names go into one question.
func questionOf(names []string) int {
	n, size := 0, 0
	for n < len(names) && n < peer.MaxPage && (n == 0 || size+len(names[n]) <= maxAskBytes) {
		size += len(names[n])
		n++
	}
	return n
}

// prove looks into the common prefixes that are still open.
func prove(ctx context.Context, round *Round, devices []Device) error {
	open := round.Unproven()
	rows := make([]*catalog.Row, len(open))
	err := each(ctx, len(open), maxProbes, func(ctx context.Context, i int) error {
		page, err := list(ctx, open[i].Query, devices, probePage)
		if err == nil && len(page.Entries) > 0 {
			rows[i] = &page.Entries[0].Row
		}
		return err
	})
	if err != nil {
		return err
	}
	for i, u := range open {
		round.Prove(u, rows[i])
	}
	return nil
}

// each calls fn with 0 to n-1, at most limit at a time, and returns the first
// error, which ends the others' context.
func each(ctx context.Context, n, limit int, fn func(context.Context, int) error) error {
	switch n {
	case 0:
		return nil
	case 1:
		return fn(ctx, 0)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(limit)
	for i := range n {
		g.Go(func() error { return fn(ctx, i) })
	}
	return g.Wait()
}
