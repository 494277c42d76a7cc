// Package peertest is for tests of and with package peer: a conformance suite
// for everything that claims to be a peer.Node, and a fake that keeps a node's
// promises in memory.
//
// Read [Suite] and [Remote] first: the former holds for every Node, the latter
// for a Node behind a transport. [Fake] is what both are tried on, and what tests
// of a gateway may stand on: it accepts and refuses as rules 1 and 2 of the
// register protocol say.
package peertest

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"

	"ringfort/internal/blob"
	"ringfort/internal/catalog"
	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/peer"
	"ringfort/internal/register"
	"ringfort/internal/timestamp"
	"ringfort/ring"
)

// Fake is a node in memory, with every device that it is asked for. It is safe
// for concurrent use; nothing outlives it. Make one with NewFake.
type Fake struct {
	mu        sync.Mutex // guards the rest
	intercept func(ctx context.Context, call string) error
	registers map[registerKey]*register.State
	leases    map[registerKey][]lease
	tables    map[tableKey]map[string]catalog.Row
	fragments map[fragmentKey][]byte
	settled   int
	revoked   []keyhash.Hash
	writers   int
}

type registerKey struct {
	device  ring.DeviceID
	service peer.Service
	key     keyhash.Hash
}

type lease struct {
	register.Lease
	until time.Time
}

type tableKey struct {
	device      ring.DeviceID
	service     peer.Service
	key         keyhash.Hash
	incarnation catalog.Incarnation
	table       catalog.Table
}

type fragmentKey struct {
	device ring.DeviceID
	name   peer.FragmentName
}

var _ peer.Node = (*Fake)(nil)

// NewFake returns an empty node.
func NewFake() *Fake {
	return &Fake{
		registers: make(map[registerKey]*register.State),
		leases:    make(map[registerKey][]lease),
		tables:    make(map[tableKey]map[string]catalog.Row),
		fragments: make(map[fragmentKey][]byte),
	}
}

// Intercept has fn called at the start of every call but Settle, with the call's
// name ("Write", "CommitFragment", …). An error of fn is the call's; fn may wait
// or panic. Nil ends it.
func (f *Fake) Intercept(fn func(ctx context.Context, call string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.intercept = fn
}

// enter begins a call; on success the caller holds mu.
func (f *Fake) enter(ctx context.Context, call string) error {
	f.mu.Lock()
	fn := f.intercept
	f.mu.Unlock()
	if fn != nil {
		if err := fn(ctx, call); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return errs.Wrap("peertest."+call, errs.Canceled, err)
	}
	f.mu.Lock()
	return nil
}

// Revoked returns the keys that Revoke was called with.
func (f *Fake) Revoked() []keyhash.Hash {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.revoked)
}

// Settled returns how many records were settled.
func (f *Fake) Settled() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.settled
}

// OpenWriters returns how many fragments are being written: begun and neither
// committed nor aborted.
func (f *Fake) OpenWriters() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.writers
}

// state returns what is held of a key, and refuses one of another policy.
func (f *Fake) state(k registerKey, policy uint32) (*register.State, error) {
	s := f.registers[k]
	if s == nil {
		s = &register.State{}
		f.registers[k] = s
	}
	if policy != 0 && k.service != peer.Objects {
		return nil, errs.New("peertest", errs.Invalid, "service %d has no policy %d", k.service, policy)
	}
	if !s.Highest().IsZero() && s.Policy != policy {
		return nil, errs.New("peertest", errs.Invalid, "the key lies under policy %d, not %d", s.Policy, policy)
	}
	return s, nil
}

// Learn implements peer.Registers.
func (f *Fake) Learn(ctx context.Context, t peer.Target, s peer.Service, key keyhash.Hash) (register.Known, error) {
	if err := f.enter(ctx, "Learn"); err != nil {
		return register.Known{}, err
	}
	defer f.mu.Unlock()
	st, err := f.state(registerKey{t.Device, s, key}, t.Policy)
	if err != nil {
		return register.Known{}, err
	}
	return register.Known{Highest: st.Highest(), Exists: st.Record != nil && !st.Record.Tombstone}, nil
}

// Read implements peer.Registers.
func (f *Fake) Read(ctx context.Context, t peer.Target, s peer.Service, key keyhash.Hash, data bool) (register.State, error) {
	if err := f.enter(ctx, "Read"); err != nil {
		return register.State{}, err
	}
	defer f.mu.Unlock()
	st, err := f.state(registerKey{t.Device, s, key}, t.Policy)
	if err != nil {
		return register.State{}, err
	}
	return shown(st, data), nil
}

// shown copies a state, with or without the record's data.
func shown(s *register.State, data bool) register.State {
	c := *s
	if c.Record != nil {
		r := *c.Record
		if !data {
			r.Data = nil
		}
		c.Record = &r
	}
	return c
}

// ReadLeased implements peer.Registers.
func (f *Fake) ReadLeased(ctx context.Context, t peer.Target, key keyhash.Hash, holder register.Lease) (register.State, error) {
	if err := f.enter(ctx, "ReadLeased"); err != nil {
		return register.State{}, err
	}
	defer f.mu.Unlock()
	k := registerKey{t.Device, peer.Containers, key}
	st, err := f.state(k, t.Policy)
	if err != nil {
		return register.State{}, err
	}
	f.leases[k] = slices.DeleteFunc(f.leases[k], func(l lease) bool { return l.Holder == holder.Holder })
	const longest = 2 * time.Second
	until := time.Now().Add(min(longest, time.Duration(holder.Micros)*time.Microsecond))
	f.leases[k] = append(f.leases[k], lease{holder, until})
	return shown(st, true), nil
}

// running returns the leases of a key that have not run out.
func (f *Fake) running(k registerKey) (out []register.Lease) {
	now := time.Now()
	for _, l := range f.leases[k] {
		if left := l.until.Sub(now); left > 0 {
			l.Micros = left.Microseconds()
			out = append(out, l.Lease)
		}
	}
	return out
}

// Write implements peer.Registers: rule 1.
func (f *Fake) Write(ctx context.Context, t peer.Target, s peer.Service, key keyhash.Hash, r *register.Record) (register.Answer, error) {
	if err := checkRecord(r); err != nil {
		return register.Answer{}, err
	}
	if err := f.enter(ctx, "Write"); err != nil {
		return register.Answer{}, err
	}
	defer f.mu.Unlock()
	k := registerKey{t.Device, s, key}
	st, err := f.state(k, t.Policy)
	if err != nil {
		return register.Answer{}, err
	}
	old := st.Record
	again := old != nil && r.Ballot == old.Ballot && r.TS == old.TS
	answer := register.Answer{Leases: f.running(k)}
	switch {
	case again && (st.Held || r.Bare()):
		answer.Accepted = true
	case again:
		st.Record.Data, st.Held = bytes.Clone(r.Data), true
		answer.Accepted = true
	case r.Ballot.Less(st.Promised) || (old != nil && !old.Ballot.Less(r.Ballot)):
	case !r.Group.IsZero() && st.Swept.Has(r.Group) && (old == nil || old.Group != r.Group):
		answer.Swept = true
	default:
		c := *r
		c.Chain, c.Value, c.Data = slices.Clone(r.Chain), bytes.Clone(r.Value), bytes.Clone(r.Data)
		st.Record, st.Held, st.Committed = &c, !r.Bare(), false
		st.Policy, st.Promised = t.Policy, timestamp.Max(st.Promised, r.Ballot)
		answer.Accepted = true
	}
	answer.State = shown(st, false)
	return answer, nil
}

func checkRecord(r *register.Record) error {
	switch {
	case r == nil || r.Ballot.IsZero() || r.TS.IsZero():
		return errs.New("peertest.Write", errs.Invalid, "record without ballot or timestamp")
	case r.Data != nil && (len(r.Data) != r.DataLen || xxhash.Sum64(r.Data) != r.DataSum):
		return errs.New("peertest.Write", errs.BadDigest, "the record's data does not match its checksum")
	}
	return nil
}

// Prepare implements peer.Registers: rule 2.
func (f *Fake) Prepare(ctx context.Context, t peer.Target, s peer.Service, key keyhash.Hash, ballot, sweep timestamp.T) (register.Answer, error) {
	if err := f.enter(ctx, "Prepare"); err != nil {
		return register.Answer{}, err
	}
	defer f.mu.Unlock()
	k := registerKey{t.Device, s, key}
	st, err := f.state(k, t.Policy)
	if err != nil {
		return register.Answer{}, err
	}
	ok := st.Highest().Less(ballot)
	if ok {
		st.Policy, st.Promised = t.Policy, ballot
		if !sweep.IsZero() {
			st.Swept = st.Swept.With(sweep)
		}
	}
	return register.Answer{Accepted: ok, State: shown(st, false), Leases: f.running(k)}, nil
}

// Settle implements peer.Registers.
func (f *Fake) Settle(t peer.Target, s peer.Service, done []register.Settled) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, d := range done {
		f.settled++
		if st := f.registers[registerKey{t.Device, s, d.Key}]; st != nil && st.Record != nil && st.Record.Ballot == d.Ballot {
			st.Committed = true
		}
	}
}

func (f *Fake) table(t peer.Target, s peer.Service, l *peer.Listing) tableKey {
	return tableKey{t.Device, s, l.Key, l.Incarnation, l.Table}
}

// PutRows implements peer.Rows.
func (f *Fake) PutRows(ctx context.Context, t peer.Target, s peer.Service, l peer.Listing, rows []catalog.Row) error {
	if err := f.enter(ctx, "PutRows"); err != nil {
		return err
	}
	defer f.mu.Unlock()
	if s == peer.Containers {
		if err := f.checkContainer(t, &l); err != nil {
			return err
		}
	}
	k := f.table(t, s, &l)
	if f.tables[k] == nil {
		f.tables[k] = make(map[string]catalog.Row)
	}
	for _, r := range rows {
		if old, ok := f.tables[k][r.Name]; !ok || r.Newer(&old) {
			r.Value = bytes.Clone(r.Value)
			f.tables[k][r.Name] = r
		}
	}
	return nil
}

func (f *Fake) checkContainer(t peer.Target, l *peer.Listing) error {
	st := f.registers[registerKey{t.Device, peer.Containers, l.Key}]
	if st == nil || st.Record == nil {
		return errs.New("peertest.PutRows", errs.Unavailable, "no record of the container on this device")
	}
	if !st.Record.Tombstone {
		c, err := catalog.DecodeContainer(st.Record.Value)
		if err != nil {
			return err
		}
		if c.State == catalog.Live && c.Incarnation == l.Incarnation {
			return nil
		}
	}
	return errs.New("peertest.PutRows", errs.NoBucket, "no live container of this incarnation")
}

// live returns a table's current rows by name.
func (f *Fake) live(k tableKey) []catalog.Row {
	var rows []catalog.Row
	for _, r := range f.tables[k] {
		if !r.Deleted {
			rows = append(rows, r)
		}
	}
	slices.SortFunc(rows, func(a, b catalog.Row) int { return strings.Compare(a.Name, b.Name) })
	return rows
}

// ListRows implements peer.Rows.
func (f *Fake) ListRows(ctx context.Context, t peer.Target, s peer.Service, q *peer.RowQuery) (*peer.RowPage, error) {
	if q.Limit < 1 || q.Limit > peer.MaxPage {
		return nil, errs.New("peertest.ListRows", errs.Invalid, "limit %d", q.Limit)
	}
	if err := f.enter(ctx, "ListRows"); err != nil {
		return nil, err
	}
	defer f.mu.Unlock()
	rows := f.live(f.table(t, s, &q.Listing))
	if q.Reverse {
		slices.Reverse(rows)
	}
	p := &peer.RowPage{}
	for _, r := range rows {
		if !strings.HasPrefix(r.Name, q.Prefix) || !within(q, r.Name) {
			continue
		}
		e := peer.Entry{Row: r}
		if i := strings.Index(r.Name[len(q.Prefix):], q.Delimiter); q.Delimiter != "" && i >= 0 {
			e.CommonPrefix = r.Name[:len(q.Prefix)+i+len(q.Delimiter)]
			if e.CommonPrefix == q.Marker && !q.Inclusive {
				continue // the marker stands for all names under it
			}
			if n := len(p.Entries); n > 0 && p.Entries[n-1].CommonPrefix == e.CommonPrefix {
				continue
			}
		}
		if len(p.Entries) == q.Limit {
			p.More = true
			break
		}
		p.Entries = append(p.Entries, e)
	}
	return p, nil
}

func within(q *peer.RowQuery, name string) bool {
	after := func(a, b string) bool { return a > b }
	if q.Reverse {
		after = func(a, b string) bool { return a < b }
	}
	if q.Marker != "" && !after(name, q.Marker) && !(q.Inclusive && name == q.Marker) {
		return false
	}
	return q.EndMarker == "" || after(q.EndMarker, name)
}

// GetRows implements peer.Rows.
func (f *Fake) GetRows(ctx context.Context, t peer.Target, s peer.Service, l peer.Listing, names []string) ([]peer.RowState, error) {
	if err := f.enter(ctx, "GetRows"); err != nil {
		return nil, err
	}
	defer f.mu.Unlock()
	out := make([]peer.RowState, len(names))
	for i, n := range names {
		out[i].Row, out[i].Found = f.tables[f.table(t, s, &l)][n]
	}
	return out, nil
}

// ListingStats implements peer.Rows.
func (f *Fake) ListingStats(ctx context.Context, t peer.Target, s peer.Service, l peer.Listing) (st peer.ListingStats, err error) {
	if err := f.enter(ctx, "ListingStats"); err != nil {
		return st, err
	}
	defer f.mu.Unlock()
	for _, r := range f.live(f.table(t, s, &l)) {
		st.Count++
		st.Bytes += r.Bytes
	}
	return st, nil
}

// CreateFragment implements peer.Fragments.
func (f *Fake) CreateFragment(ctx context.Context, t peer.Target, h *peer.FragmentHeader) (peer.FragmentWriter, error) {
	if err := f.enter(ctx, "CreateFragment"); err != nil {
		return nil, err
	}
	defer f.mu.Unlock()
	f.writers++
	name := peer.FragmentName{Owner: h.Owner, ID: h.ID, Index: h.Index}
	return &fakeWriter{fake: f, ctx: ctx, key: fragmentKey{t.Device, name}, size: h.Size}, nil
}

type fakeWriter struct {
	fake   *Fake
	ctx    context.Context
	key    fragmentKey
	size   int64
	data   []byte
	closed bool
}

func (w *fakeWriter) Write(p []byte) (int, error) {
	if w.closed {
		return 0, errs.New("peertest.Write", errs.Invalid, "the fragment is closed")
	}
	if err := w.fake.enter(w.ctx, "WriteFragment"); err != nil {
		return 0, err
	}
	defer w.fake.mu.Unlock()
	w.data = append(w.data, p...)
	return len(p), nil
}

func (w *fakeWriter) Commit(ctx context.Context, size int64) error {
	if w.closed {
		return errs.New("peertest.Commit", errs.Invalid, "the fragment is closed")
	}
	defer w.Abort()
	if w.size >= 0 && size != w.size {
		return errs.New("peertest.Commit", errs.Invalid, "a blob of %d bytes, announced as %d", size, w.size)
	}
	if err := w.fake.enter(ctx, "CommitFragment"); err != nil {
		return err
	}
	defer w.fake.mu.Unlock()
	w.fake.fragments[w.key] = w.data
	return nil
}

func (w *fakeWriter) Abort() {
	if w.closed {
		return
	}
	w.closed = true
	w.fake.mu.Lock()
	defer w.fake.mu.Unlock()
	w.fake.writers--
}

// OpenFragment implements peer.Fragments.
func (f *Fake) OpenFragment(ctx context.Context, t peer.Target, name peer.FragmentName, off, n int64) (io.ReadCloser, error) {
	if off < 0 || n < 0 {
		return nil, errs.New("peertest.OpenFragment", errs.Invalid, "offset %d, length %d", off, n)
	}
	if err := f.enter(ctx, "OpenFragment"); err != nil {
		return nil, err
	}
	defer f.mu.Unlock()
	data, ok := f.fragments[fragmentKey{t.Device, name}]
	if !ok {
		return nil, errs.New("peertest.OpenFragment", errs.NotFound, "no fragment %d of %v", name.Index, name.ID)
	}
	off = min(off, int64(len(data)))
	n = min(n, int64(len(data))-off)
	return &fakeReader{fake: f, ctx: ctx, rest: data[off : off+n]}, nil
}

type fakeReader struct {
	fake *Fake
	ctx  context.Context
	rest []byte
}

func (r *fakeReader) Read(p []byte) (int, error) {
	if err := r.fake.enter(r.ctx, "ReadFragment"); err != nil {
		return 0, err
	}
	defer r.fake.mu.Unlock()
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (r *fakeReader) Close() error { return nil }

// DropBlobs implements peer.Fragments.
func (f *Fake) DropBlobs(ctx context.Context, t peer.Target, owner keyhash.Hash, ids []blob.ID) error {
	return f.drop(ctx, "DropBlobs", t, owner, func(id blob.ID) bool { return slices.Contains(ids, id) })
}

// DropGroup implements peer.Fragments.
func (f *Fake) DropGroup(ctx context.Context, t peer.Target, owner keyhash.Hash, group timestamp.T) error {
	return f.drop(ctx, "DropGroup", t, owner, func(id blob.ID) bool { return id.Group == group })
}

func (f *Fake) drop(ctx context.Context, call string, t peer.Target, owner keyhash.Hash, which func(blob.ID) bool) error {
	if err := f.enter(ctx, call); err != nil {
		return err
	}
	defer f.mu.Unlock()
	for k := range f.fragments {
		if k.device == t.Device && k.name.Owner == owner && which(k.name.ID) {
			delete(f.fragments, k)
		}
	}
	return nil
}

// Revoke implements peer.Node.
func (f *Fake) Revoke(ctx context.Context, key keyhash.Hash) error {
	if err := f.enter(ctx, "Revoke"); err != nil {
		return err
	}
	defer f.mu.Unlock()
	f.revoked = append(f.revoked, key)
	return nil
}

// Status implements peer.Node.
func (f *Fake) Status(ctx context.Context) (*peer.NodeStatus, error) {
	if err := f.enter(ctx, "Status"); err != nil {
		return nil, err
	}
	defer f.mu.Unlock()
	return &peer.NodeStatus{
		Name: "fake", Version: "test", Started: 1, Micros: time.Now().UnixMicro(),
		Epochs: map[string]uint64{"objects": 7, "containers": 1},
		Devices: []peer.DeviceStatus{{
			Device: 1, UUID: [16]byte{1, 2, 3}, Path: "/srv/1", State: "in service",
			TotalBytes: 1 << 40, FreeBytes: 1 << 39, Uploads: int64(len(f.tables)),
		}},
	}, nil
}
