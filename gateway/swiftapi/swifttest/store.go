// Package swifttest is for testing the Swift protocol: [Store], a fake of
// gateway/ops in memory, and [Run], the tests of the protocol that can be run
// against any endpoint.
//
// It is for tests only: Store forgets everything when the process ends, and holds
// all bytes in memory. It is safe for concurrent use.
package swifttest

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/rand"
	"encoding/hex"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"ringfort/gateway/ops"
	"ringfort/gateway/swiftapi"
	"ringfort/internal/catalog"
	"ringfort/internal/errs"
	"ringfort/internal/timestamp"
)

// Store is a swiftapi.Store in memory. Make one with NewStore.
type Store struct {
	// Now is the wall clock. Set it before use.
	Now func() time.Time
	// Fail, if not nil, is asked before every operation, by its method's name; an
	// error makes the operation fail. Set it before use.
	Fail func(op string) error
	// PageRows, if not 0, is the longest page of a listing, whatever is asked for.
	PageRows int

	mu         sync.Mutex // guards everything below
	clock      *timestamp.Clock
	policies   []ops.Policy
	accounts   map[string]*catalog.Account
	containers map[[2]string]*bucket // by account and name
}

type bucket struct {
	c       *catalog.Container
	objects map[string]*entry
}

type entry struct {
	o     *catalog.Object
	data  []byte
	parts []catalog.ManifestEntry // of an object that was written in parts
}

// NewStore returns a Store with two policies, "gold" and "silver", of which gold
// is the default.
func NewStore() *Store {
	return &Store{
		Now:        time.Now,
		clock:      timestamp.NewClock(1, nil),
		policies:   []ops.Policy{{Name: "gold", Default: true}, {Name: "silver", Index: 1}},
		accounts:   map[string]*catalog.Account{},
		containers: map[[2]string]*bucket{},
	}
}

var _ swiftapi.Store = (*Store)(nil)

func (s *Store) begin(op string) error {
	if s.Fail != nil {
		if err := s.Fail(op); err != nil {
			return err
		}
	}
	s.mu.Lock()
	return nil
}

func (s *Store) micros() int64 { return s.Now().UnixMicro() }

// Policies implements swiftapi.Store.
func (s *Store) Policies() []ops.Policy { return slices.Clone(s.policies) }

func (s *Store) account(name string) *catalog.Account {
	if a := s.accounts[name]; a != nil {
		c := *a
		c.Meta = slices.Clone(a.Meta)
		return &c
	}
	return &catalog.Account{Name: name}
}

// Account implements swiftapi.Store.
func (s *Store) Account(_ context.Context, name string) (*catalog.Account, error) {
	if err := s.begin("Account"); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	return s.account(name), nil
}

// UpdateAccount implements swiftapi.Store.
func (s *Store) UpdateAccount(_ context.Context, name string, change func(*catalog.Account) error) (*catalog.Account, error) {
	if err := s.begin("UpdateAccount"); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	a := s.account(name)
	if a.Created == 0 {
		a.Created = s.micros()
	}
	if err := change(a); err != nil {
		return nil, err
	}
	s.accounts[name] = a
	return s.account(name), nil
}

// AccountStats implements swiftapi.Store.
func (s *Store) AccountStats(_ context.Context, name string) (ops.Stats, error) {
	total := ops.Stats{Policies: map[string]ops.Stats{}}
	if err := s.begin("AccountStats"); err != nil {
		return total, err
	}
	defer s.mu.Unlock()
	for key, b := range s.containers {
		if key[0] != name {
			continue
		}
		st, p := b.stats(), total.Policies[b.c.Policy]
		p.Containers++
		p.Objects += st.Objects
		p.Bytes += st.Bytes
		total.Policies[b.c.Policy] = p
		total.Containers++
		total.Objects += st.Objects
		total.Bytes += st.Bytes
	}
	return total, nil
}

func (b *bucket) stats() (st ops.Stats) {
	for _, e := range b.objects {
		st.Objects++
		st.Bytes += e.o.Size
	}
	return st
}

func (b *bucket) describe() *catalog.Container {
	c := *b.c
	c.Meta = slices.Clone(b.c.Meta)
	return &c
}

func noContainer(name string) error {
	return errs.New("swifttest", errs.NoBucket, "container %q does not exist", name)
}

func noObject(name string) error {
	return errs.New("swifttest", errs.NotFound, "object %q does not exist", name)
}

// CreateContainer implements swiftapi.Store.
func (s *Store) CreateContainer(_ context.Context, want *catalog.Container) (*catalog.Container, bool, error) {
	if err := s.begin("CreateContainer"); err != nil {
		return nil, false, err
	}
	defer s.mu.Unlock()
	key := [2]string{want.Account, want.Name}
	if b := s.containers[key]; b != nil {
		return b.describe(), false, nil
	}
	c := *want
	c.State, c.Created = catalog.Live, s.micros()
	if c.Policy == "" {
		c.Policy = s.policies[0].Name
	}
	rand.Read(c.Incarnation[:])
	b := &bucket{c: &c, objects: map[string]*entry{}}
	s.containers[key] = b
	return b.describe(), true, nil
}

// Container implements swiftapi.Store.
func (s *Store) Container(_ context.Context, account, name string) (*catalog.Container, error) {
	if err := s.begin("Container"); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	b := s.containers[[2]string{account, name}]
	if b == nil {
		return nil, noContainer(name)
	}
	return b.describe(), nil
}

// UpdateContainer implements swiftapi.Store.
func (s *Store) UpdateContainer(_ context.Context, account, name string, change func(*catalog.Container) error) (*catalog.Container, error) {
	if err := s.begin("UpdateContainer"); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	b := s.containers[[2]string{account, name}]
	if b == nil {
		return nil, noContainer(name)
	}
	c := b.describe()
	if err := change(c); err != nil {
		return nil, err
	}
	b.c = c
	return b.describe(), nil
}

// DeleteContainer implements swiftapi.Store.
func (s *Store) DeleteContainer(_ context.Context, account, name string) error {
	if err := s.begin("DeleteContainer"); err != nil {
		return err
	}
	defer s.mu.Unlock()
	key := [2]string{account, name}
	b := s.containers[key]
	switch {
	case b == nil:
		return noContainer(name)
	case len(b.objects) > 0:
		return errs.New("swifttest", errs.NotEmpty, "container %q is not empty", name)
	}
	delete(s.containers, key)
	return nil
}

// of returns a container's present state, if it is still that incarnation.
func (s *Store) of(c *catalog.Container) (*bucket, error) {
	b := s.containers[[2]string{c.Account, c.Name}]
	if b == nil || b.c.Incarnation != c.Incarnation {
		return nil, noContainer(c.Name)
	}
	return b, nil
}

// ContainerStats implements swiftapi.Store.
func (s *Store) ContainerStats(_ context.Context, c *catalog.Container) (ops.Stats, error) {
	if err := s.begin("ContainerStats"); err != nil {
		return ops.Stats{}, err
	}
	defer s.mu.Unlock()
	b, err := s.of(c)
	if err != nil {
		return ops.Stats{}, err
	}
	return b.stats(), nil
}

// ListContainers implements swiftapi.Store.
func (s *Store) ListContainers(_ context.Context, account string, q *ops.Query) ([]ops.ContainerInfo, bool, error) {
	if err := s.begin("ListContainers"); err != nil {
		return nil, false, err
	}
	defer s.mu.Unlock()
	var names []string
	for key := range s.containers {
		if key[0] == account {
			names = append(names, key[1])
		}
	}
	lines, more := pageOf(names, q, s.PageRows)
	list := make([]ops.ContainerInfo, len(lines))
	for i, l := range lines {
		if list[i] = (ops.ContainerInfo{Name: l.name, Prefix: l.prefix}); l.prefix {
			continue
		}
		c := s.containers[[2]string{account, l.name}].c
		list[i].Created, list[i].Policy, list[i].Incarnation = time.UnixMicro(c.Created).UTC(), c.Policy, c.Incarnation
	}
	return list, more, nil
}

// WithStats implements swiftapi.Store.
func (s *Store) WithStats(_ context.Context, account string, list []ops.ContainerInfo) error {
	if err := s.begin("WithStats"); err != nil {
		return err
	}
	defer s.mu.Unlock()
	for i := range list {
		if b := s.containers[[2]string{account, list[i].Name}]; b != nil && !list[i].Prefix {
			st := b.stats()
			list[i].Count, list[i].Bytes = st.Objects, st.Bytes
		}
	}
	return nil
}

// Put implements swiftapi.Store.
func (s *Store) Put(_ context.Context, p *ops.Put) (*catalog.Object, error) {
	if s.Fail != nil {
		if err := s.Fail("Put"); err != nil {
			return nil, err
		}
	}
	if p.Size > ops.MaxPartBytes {
		return nil, errs.New("swifttest", errs.TooLarge, "%d bytes", p.Size)
	}
	var data []byte
	if p.Body != nil {
		var err error
		if data, err = io.ReadAll(p.Body); err != nil {
			return nil, err
		}
	}
	if p.Size >= 0 && int64(len(data)) != p.Size {
		return nil, errs.New("swifttest", errs.Incomplete, "%d of %d bytes", len(data), p.Size)
	}
	sum := md5.Sum(data)
	if p.MD5 != nil && !bytes.Equal(p.MD5, sum[:]) {
		return nil, errs.New("swifttest", errs.BadDigest, "MD5")
	}
	if p.Also != nil {
		if _, err := p.Also.Write(data); err != nil {
			return nil, err
		}
	}
	o := &catalog.Object{
		ContainerAccount: p.Container.Account, Container: p.Container.Name, Incarnation: p.Container.Incarnation,
		Name: p.Name, Size: int64(len(data)), ETag: hex.EncodeToString(sum[:]), ContentType: p.ContentType,
		Modified: s.micros(), Meta: slices.Clone(p.Meta),
	}
	if p.ETag != "" {
		o.ETag = p.ETag
	}
	if p.Finish != nil {
		if err := p.Finish(o); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.of(p.Container)
	if err != nil {
		return nil, err
	}
	if p.Judge != nil {
		if err := p.Judge(b.objects[p.Name].object()); err != nil {
			return nil, err
		}
	}
	o.TS = s.clock.Now()
	b.objects[p.Name] = &entry{o: o, data: data}
	return o, nil
}

// PutParts stores an object as S3 does that was uploaded in parts.
func (s *Store) PutParts(c *catalog.Container, name string, parts ...string) (*catalog.Object, error) {
	e := &entry{o: &catalog.Object{
		ContainerAccount: c.Account, Container: c.Name, Incarnation: c.Incarnation,
		Name: name, ContentType: "a/b", Modified: s.micros(), PartCount: len(parts),
	}}
	sum := md5.New()
	for i, p := range parts {
		e.data = append(e.data, p...)
		m := catalog.ManifestEntry{End: int64(len(e.data)), Size: int64(len(p)), Number: uint32(i + 1), MD5: md5.Sum([]byte(p))}
		e.parts = append(e.parts, m)
		sum.Write(m.MD5[:])
	}
	e.o.Size, e.o.ETag = int64(len(e.data)), hex.EncodeToString(sum.Sum(nil))+"-"+strconv.Itoa(len(parts))
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.of(c)
	if err != nil {
		return nil, err
	}
	e.o.TS = s.clock.Now()
	b.objects[name] = e
	return e.object(), nil
}

// object returns a copy, nil if there is none.
func (e *entry) object() *catalog.Object {
	if e == nil {
		return nil
	}
	o := *e.o
	o.Meta = slices.Clone(e.o.Meta)
	return &o
}

// find returns an object.
func (s *Store) find(c *catalog.Container, name string) (*bucket, *entry, error) {
	b, err := s.of(c)
	if err != nil {
		return nil, nil, err
	}
	if e := b.objects[name]; e != nil {
		return b, e, nil
	}
	return b, nil, noObject(name)
}

// Head implements swiftapi.Store.
func (s *Store) Head(_ context.Context, c *catalog.Container, name string) (*catalog.Object, error) {
	if err := s.begin("Head"); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	_, e, err := s.find(c, name)
	return e.object(), err
}

// Open implements swiftapi.Store.
func (s *Store) Open(_ context.Context, c *catalog.Container, name string) (*catalog.Object, swiftapi.Handle, error) {
	if err := s.begin("Open"); err != nil {
		return nil, nil, err
	}
	defer s.mu.Unlock()
	_, e, err := s.find(c, name)
	if err != nil {
		return nil, nil, err
	}
	return e.object(), &handle{s: s, data: e.data, parts: e.parts}, nil
}

// handle reads the bytes that an object had when it was opened: they never change.
type handle struct {
	s     *Store
	data  []byte
	parts []catalog.ManifestEntry
}

// Range implements swiftapi.Handle.
func (h *handle) Range(_ context.Context, off, n int64) (io.ReadCloser, error) {
	if h.s.Fail != nil {
		if err := h.s.Fail("Range"); err != nil {
			return nil, err
		}
	}
	if off < 0 || n < 0 || off+n > int64(len(h.data)) {
		return nil, errs.New("swifttest", errs.BadRange, "bytes %d to %d of %d", off, off+n, len(h.data))
	}
	return io.NopCloser(bytes.NewReader(h.data[off : off+n])), nil
}

// Parts implements swiftapi.Handle.
func (h *handle) Parts(_ context.Context, after, limit int) ([]catalog.ManifestEntry, bool, error) {
	rest := slices.Clone(h.parts)
	for len(rest) > 0 && int(rest[0].Number) <= after {
		rest = rest[1:]
	}
	n := min(limit, len(rest))
	return rest[:n], n < len(rest), nil
}

// Close implements swiftapi.Handle.
func (h *handle) Close() {}

// Modify implements swiftapi.Store.
func (s *Store) Modify(_ context.Context, c *catalog.Container, name string, change func(*catalog.Object) error) (*catalog.Object, error) {
	if err := s.begin("Modify"); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	b, e, err := s.find(c, name)
	if err != nil {
		return nil, err
	}
	o := e.object()
	if err := change(o); err != nil {
		return nil, err
	}
	b.objects[name] = &entry{o, e.data, e.parts}
	return b.objects[name].object(), nil
}

// Delete implements swiftapi.Store.
func (s *Store) Delete(_ context.Context, c *catalog.Container, name string, judge func(*catalog.Object) error) error {
	if err := s.begin("Delete"); err != nil {
		return err
	}
	defer s.mu.Unlock()
	b, err := s.of(c)
	if err != nil {
		return err
	}
	e := b.objects[name]
	if judge != nil {
		if err := judge(e.object()); err != nil {
			return err
		}
	}
	if e == nil {
		return noObject(name)
	}
	delete(b.objects, name)
	return nil
}

// List implements swiftapi.Store.
func (s *Store) List(_ context.Context, c *catalog.Container, q *ops.Query) (*ops.Page, error) {
	if err := s.begin("List"); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	b, err := s.of(c)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(b.objects))
	for name := range b.objects {
		names = append(names, name)
	}
	lines, more := pageOf(names, q, s.PageRows)
	page := &ops.Page{Items: make([]ops.Item, len(lines)), More: more}
	for i, l := range lines {
		if page.Items[i] = (ops.Item{Name: l.name, CommonPrefix: l.prefix}); l.prefix {
			continue
		}
		o := b.objects[l.name].o
		page.Items[i].RowValue = catalog.RowValue{
			Size: o.Size, ETag: o.ETag, ContentType: o.ContentType, Modified: o.Modified, Extra: o.Meta.WithPrefix("row-"),
		}
	}
	return page, nil
}

type line struct {
	name   string
	prefix bool
}

// pageOf is package listing's rules (its package comment) in the simplest form:
// roll names up, order, cut.
func pageOf(names []string, q *ops.Query, most int) (page []line, more bool) {
	seen := map[line]bool{}
	for _, n := range names {
		rest, ok := strings.CutPrefix(n, q.Prefix)
		if !ok {
			continue
		}
		l := line{name: n}
		if q.Delimiter != "" {
			if at := strings.Index(rest, q.Delimiter); at >= 0 {
				l = line{n[:len(q.Prefix)+at+len(q.Delimiter)], true}
			}
		}
		if between(n, l, q) {
			seen[l] = true
		}
	}
	for l := range seen {
		page = append(page, l)
	}
	slices.SortFunc(page, func(a, b line) int {
		if q.Reverse {
			a, b = b, a
		}
		return strings.Compare(a.name, b.name)
	})
	limit := q.Limit
	if most > 0 {
		limit = min(limit, most)
	}
	if len(page) > limit {
		return page[:limit], true
	}
	return page, false
}

// between reports whether a name is within the query's markers; l is the line that
// shows it.
func between(name string, l line, q *ops.Query) bool {
	lo, hi := q.Marker, q.EndMarker
	if q.Reverse {
		lo, hi = q.EndMarker, q.Marker
	}
	if q.Inclusive && q.Marker == name {
		return true
	}
	if l.prefix && q.Marker == l.name && !q.Inclusive {
		return false
	}
	return (lo == "" || name > lo) && (hi == "" || name < hi)
}
