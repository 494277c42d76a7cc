package ops

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"ringfort/internal/catalog"
	"ringfort/internal/errs"
	"ringfort/internal/listing/merge"
	"ringfort/internal/peer"
)

// List returns a page of a container's objects. It shows every write that was
// acknowledged before it began.
func (s *Service) List(ctx context.Context, c *catalog.Container, q *Query) (*Page, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	h := s.containerHash(c.Account, c.Name)
	page, err := s.listRows(ctx, peer.Containers, s.cluster.Container(h), rowQuery(listingOf(h, c, catalog.Objects), q))
	if err != nil {
		return nil, err
	}
	out := &Page{Items: make([]Item, len(page.Entries)), More: page.More}
	for i := range page.Entries {
		e, item := &page.Entries[i], &out.Items[i]
		if e.CommonPrefix != "" {
			item.Name, item.CommonPrefix = e.CommonPrefix, true
			continue
		}
		item.Name = e.Name
		if item.RowValue, err = catalog.DecodeRowValue(e.Value); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func rowQuery(l peer.Listing, q *Query) *peer.RowQuery {
	return &peer.RowQuery{
		Listing: l, Prefix: q.Prefix, Marker: q.Marker, EndMarker: q.EndMarker,
		Inclusive: q.Inclusive, Reverse: q.Reverse, Delimiter: q.Delimiter, Limit: q.Limit,
	}
}

// listRows merges a read quorum's pages.
func (s *Service) listRows(ctx context.Context, svc peer.Service, place Place, q *peer.RowQuery) (*peer.RowPage, error) {
	f := &failover{service: svc, place: place, listing: q.Listing, slow: s.cfg.HedgeAfter * 10}
	readers := f.quorum()
	devices := make([]merge.Device, len(readers))
	for i, r := range readers {
		devices[i] = r
	}
	return merge.List(ctx, q, devices)
}

// failover gives each of R readers a device of a listing, and another one when
// that fails or hangs.
type failover struct {
	service peer.Service
	place   Place
	listing peer.Listing
	slow    time.Duration

	mu   sync.Mutex
	next int // of place.Devices: not given to a reader yet
}

// quorum returns R readers, the near devices' first.
func (f *failover) quorum() []*failoverReader {
	n := len(f.place.Devices)
	f.place.Devices = nearFirst(f.place.Devices)
	need := n - n/2
	readers := make([]*failoverReader, need)
	for i := range readers {
		readers[i] = &failoverReader{f: f, device: i}
	}
	f.next = need
	return readers
}

func nearFirst(devices []Device) []Device {
	out := make([]Device, 0, len(devices))
	for _, near := range []bool{true, false} {
		for _, d := range devices {
			if d.Near == near {
				out = append(out, d)
			}
		}
	}
	return out
}

// spare takes a device that no reader has had; without one it answers -1.
func (f *failover) spare() (int, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.next == len(f.place.Devices) {
		return -1, false
	}
	f.next++
	return f.next - 1, true
}

type failoverReader struct {
	f      *failover
	device int
}

// tryDevices calls fn with the reader's device, and with spare ones as long as it
// fails. A device that is slow is given up only for a spare one.
func tryDevices[T any](ctx context.Context, r *failoverReader, fn func(context.Context, *Device, peer.Target) (T, error)) (T, error) {
	var failed []error
	for {
		d := &r.f.place.Devices[r.device]
		t := r.f.place.target(d)
		call, cancel := context.WithCancel(ctx)
		taken := make(chan int, 1) // the spare device, or -1
		slow := time.AfterFunc(r.f.slow, func() {
			i, ok := r.f.spare()
			if taken <- i; ok {
				cancel()
			}
		})
		v, err := fn(call, d, t)
		next := -1
		if !slow.Stop() {
			next = <-taken
		}
		cancel()
		if err == nil {
			return v, nil
		}
		failed = append(failed, err)
		if next < 0 {
			next, _ = r.f.spare()
		}
		if next < 0 || ctx.Err() != nil {
			return v, few(ctx, "ops.List", failed)
		}
		r.device = next
	}
}

// few is the error of a call that found too few of a listing's devices: canceled
// if its caller has gone, unavailable otherwise.
func few(ctx context.Context, op string, failed []error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return errs.Wrap(op, errs.Canceled, ctx.Err())
	}
	return &errs.Error{Op: op, Kind: errs.Unavailable, What: "too few of the listing's devices answer", Err: joinAll(failed)}
}

func (r *failoverReader) ListRows(ctx context.Context, q *peer.RowQuery) (*peer.RowPage, error) {
	return tryDevices(ctx, r, func(ctx context.Context, d *Device, t peer.Target) (*peer.RowPage, error) {
		return d.Node.ListRows(ctx, t, r.f.service, q)
	})
}

func (r *failoverReader) ListingStats(ctx context.Context) (peer.ListingStats, error) {
	return tryDevices(ctx, r, func(ctx context.Context, d *Device, t peer.Target) (peer.ListingStats, error) {
		return d.Node.ListingStats(ctx, t, r.f.service, r.f.listing)
	})
}

func (r *failoverReader) GetRows(ctx context.Context, l *peer.Listing, names []string) ([]peer.RowState, error) {
	return tryDevices(ctx, r, func(ctx context.Context, d *Device, t peer.Target) ([]peer.RowState, error) {
		return d.Node.GetRows(ctx, t, r.f.service, *l, names)
	})
}

// scanQuery asks for rows of a table by prefix and marker.
type scanQuery struct {
	prefix, marker string
	limit          int
}

// scan returns rows of one of a container's tables.
func (s *Service) scan(ctx context.Context, c *catalog.Container, t catalog.Table, q scanQuery) ([]catalog.Row, bool, error) {
	h := s.containerHash(c.Account, c.Name)
	page, err := s.listRows(ctx, peer.Containers, s.cluster.Container(h), &peer.RowQuery{
		Listing: listingOf(h, c, t), Prefix: q.prefix, Marker: q.marker, Limit: min(max(q.limit, 1), peer.MaxPage),
	})
	if err != nil {
		return nil, false, err
	}
	rows := make([]catalog.Row, len(page.Entries))
	for i := range page.Entries {
		rows[i] = page.Entries[i].Row
	}
	return rows, page.More, nil
}

// getRow returns the newest row of a name that a read quorum knows, tombstones
// included; the zero row if none does.
func (s *Service) getRow(ctx context.Context, c *catalog.Container, t catalog.Table, name string) (newest catalog.Row, err error) {
	h := s.containerHash(c.Account, c.Name)
	l := listingOf(h, c, t)
	f := &failover{service: peer.Containers, place: s.cluster.Container(h), listing: l, slow: s.cfg.HedgeAfter * 10}
	for _, r := range f.quorum() {
		states, err := r.GetRows(ctx, &l, []string{name})
		if err != nil {
			return newest, err
		}
		if len(states) == 1 && states[0].Found && states[0].Row.Newer(&newest) {
			newest = states[0].Row
		}
	}
	if newest.Deleted {
		newest.Value = nil
	}
	return newest, nil
}

// ListContainers returns a page of an account's containers with their totals.
func (s *Service) ListContainers(ctx context.Context, account string, q *Query) ([]ContainerInfo, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	h := s.accountHash(account)
	l := peer.Listing{Key: h, Table: catalog.Containers}
	page, err := s.listRows(ctx, peer.Accounts, s.cluster.Account(h), rowQuery(l, q))
	if err != nil {
		return nil, false, err
	}
	out := make([]ContainerInfo, len(page.Entries))
	for i := range page.Entries {
		e := &page.Entries[i]
		if e.CommonPrefix != "" {
			out[i] = ContainerInfo{Name: e.CommonPrefix, Prefix: true}
			continue
		}
		v, err := catalog.DecodeContainerRow(e.Value)
		if err != nil {
			return nil, false, err
		}
		out[i] = ContainerInfo{Name: e.Name, Created: time.UnixMicro(v.Created).UTC(), Policy: v.Policy, Incarnation: v.Incarnation}
	}
	return out, page.More, nil
}

// statsAtATime is how many containers are asked for their totals side by side. Each
// waits for a round trip to a few devices: one after another, an account of ten
// thousand containers took seconds. More of them would crowd out other requests.
const statsAtATime = 16

// WithStats fills in the totals of containers of an account.
func (s *Service) WithStats(ctx context.Context, account string, list []ContainerInfo) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(statsAtATime)
	for i := range list {
		x := &list[i]
		if x.Prefix {
			continue
		}
		g.Go(func() error {
			if ctx.Err() != nil { // another one has failed, or the caller left
				return errs.Wrap("ops.WithStats", errs.Canceled, ctx.Err())
			}
			c := &catalog.Container{Account: account, Name: x.Name, Incarnation: x.Incarnation}
			st, err := s.ContainerStats(ctx, c)
			x.Count, x.Bytes = st.Objects, st.Bytes
			return err
		})
	}
	return g.Wait()
}
