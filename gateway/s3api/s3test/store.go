// Package s3test is for tests of the S3 front end: an in-memory [Store] with the
// semantics of gateway/ops, and [Run], a suite that drives any S3 server with
// real clients.
//
// Read [Run] first. It needs an endpoint and two identities and nothing of ours,
// so that the very same checks run against the handler over the fake, against one
// process and against a cluster, over HTTP and TLS.
//
// The Store keeps everything in memory and loses it with the process. It is safe
// for concurrent use; operations on it are linearizable, being under one lock.
package s3test

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"ringfort/gateway/ops"
	"ringfort/gateway/s3api"
	"ringfort/internal/catalog"
	"ringfort/internal/errs"
	"ringfort/internal/peer"
)

// Store is an in-memory s3api.Store. Make one with NewStore.
type Store struct {
	// Now is the wall clock that objects are stamped with. Set it before use.
	Now func() time.Time
	// Fail, if not nil, is asked before every operation, by the method's name, and
	// makes it fail. Set it before use.
	Fail func(operation string) error

	mu         sync.Mutex // guards everything below
	containers map[string]*bucket
	owners     map[string]string // account that claimed a bucket's name
	uploads    map[string]*upload
	sequence   int
}

type bucket struct {
	c       catalog.Container
	objects map[string]*object
	names   []string // sorted
}

type object struct {
	o     catalog.Object
	data  []byte
	parts []catalog.ManifestEntry
}

type upload struct {
	u     ops.Upload
	parts map[int]*part
	done  *catalog.Object
}

type part struct {
	p    catalog.Part
	data []byte
}

var _ s3api.Store = (*Store)(nil)

// NewStore returns an empty Store.
func NewStore() *Store {
	return &Store{
		Now:        time.Now,
		containers: make(map[string]*bucket), owners: make(map[string]string), uploads: make(map[string]*upload),
	}
}

func (s *Store) failing(op string) error {
	if s.Fail == nil {
		return nil
	}
	return s.Fail(op)
}

func containerKey(account, name string) string { return account + "\x00" + name }

func (s *Store) micros() int64 { return s.Now().UnixMicro() }

// live finds the bucket that c describes, if it still is that one.
func (s *Store) live(c *catalog.Container) (*bucket, error) {
	b := s.containers[containerKey(c.Account, c.Name)]
	if b == nil || b.c.Incarnation != c.Incarnation {
		return nil, errs.New("s3test", errs.NoBucket, "bucket %q", c.Name)
	}
	return b, nil
}

// CreateContainer implements s3api.Store.
func (s *Store) CreateContainer(_ context.Context, want *catalog.Container) (*catalog.Container, bool, error) {
	if err := s.failing("CreateContainer"); err != nil {
		return nil, false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := containerKey(want.Account, want.Name)
	if owner, ok := s.owners[want.Name]; want.Global && ok && owner != want.Account {
		return nil, false, errs.New("s3test", errs.Exists, "bucket %q", want.Name)
	}
	if b := s.containers[key]; b != nil {
		c := b.c
		return &c, false, nil
	}
	c := *want
	c.State, c.Created, c.Policy = catalog.Live, s.micros(), "default"
	rand.Read(c.Incarnation[:])
	if c.Global {
		s.owners[c.Name] = c.Account
	}
	s.containers[key] = &bucket{c: c, objects: make(map[string]*object)}
	return &c, true, nil
}

// Resolve implements s3api.Store.
func (s *Store) Resolve(_ context.Context, account, name string) (*catalog.Container, error) {
	if err := s.failing("Resolve"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.containers[containerKey(account, name)]
	if b == nil {
		b = s.containers[containerKey(s.owners[name], name)]
	}
	if b == nil {
		return nil, errs.New("s3test", errs.NoBucket, "bucket %q", name)
	}
	c := b.c
	return &c, nil
}

// UpdateContainer implements s3api.Store.
func (s *Store) UpdateContainer(_ context.Context, account, name string, change func(*catalog.Container) error) (*catalog.Container, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.containers[containerKey(account, name)]
	if b == nil {
		return nil, errs.New("s3test", errs.NoBucket, "bucket %q", name)
	}
	c := b.c
	if err := change(&c); err != nil {
		return nil, err
	}
	b.c = c
	return &c, nil
}

// DeleteContainer implements s3api.Store.
func (s *Store) DeleteContainer(_ context.Context, account, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.containers[containerKey(account, name)]
	switch {
	case b == nil:
		return errs.New("s3test", errs.NoBucket, "bucket %q", name)
	case len(b.objects) > 0:
		return errs.New("s3test", errs.NotEmpty, "bucket %q", name)
	}
	delete(s.containers, containerKey(account, name))
	if s.owners[name] == account {
		delete(s.owners, name)
	}
	return nil
}

// ListContainers implements s3api.Store.
func (s *Store) ListContainers(_ context.Context, account string, q *ops.Query) ([]ops.ContainerInfo, bool, error) {
	if err := s.failing("ListContainers"); err != nil {
		return nil, false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for _, b := range s.containers {
		if b.c.Account == account {
			names = append(names, b.c.Name)
		}
	}
	sort.Strings(names)
	var out []ops.ContainerInfo
	items, more := scan(names, q)
	for _, it := range items {
		b := s.containers[containerKey(account, it.name)]
		out = append(out, ops.ContainerInfo{Name: it.name, Prefix: it.prefix, Created: time.UnixMicro(b.c.Created).UTC()})
	}
	return out, more, nil
}

// Put implements s3api.Store.
func (s *Store) Put(ctx context.Context, p *ops.Put) (*catalog.Object, error) {
	if err := s.failing("Put"); err != nil {
		return nil, err
	}
	data, sum, err := take(p.Body, p.Size, p.MD5, p.Also)
	if err != nil {
		return nil, err
	}
	o := catalog.Object{
		ContainerAccount: p.Container.Account, Container: p.Container.Name, Incarnation: p.Container.Incarnation,
		Name: p.Name, Size: int64(len(data)), ETag: sum, ContentType: p.ContentType, Meta: p.Meta, Modified: s.micros(),
	}
	if p.ETag != "" {
		o.ETag = p.ETag
	}
	if p.Finish != nil {
		if err := p.Finish(&o); err != nil {
			return nil, err
		}
	}
	return s.commit(p.Container, &object{o: o, data: data}, p.Judge)
}

// take reads a body and checks it.
func take(r io.Reader, size int64, want []byte, also io.Writer) ([]byte, string, error) {
	if r == nil {
		r = bytes.NewReader(nil)
	}
	var buf bytes.Buffer
	if size > 0 && size <= 1<<20 {
		buf.Grow(int(size) + bytes.MinRead)
	}
	if _, err := buf.ReadFrom(r); err != nil {
		return nil, "", err
	}
	data := buf.Bytes()
	if size >= 0 && int64(len(data)) != size {
		return nil, "", errs.New("s3test", errs.Incomplete, "%d of %d bytes", len(data), size)
	}
	if also != nil {
		if _, err := also.Write(data); err != nil {
			return nil, "", err
		}
	}
	sum := md5.Sum(data)
	if want != nil && !bytes.Equal(want, sum[:]) {
		return nil, "", errs.New("s3test", errs.BadDigest, "the body's MD5 is %x", sum)
	}
	return data, hex.EncodeToString(sum[:]), nil
}

// commit makes an object visible, if judge does not mind.
func (s *Store) commit(c *catalog.Container, x *object, judge func(*catalog.Object) error) (*catalog.Object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.live(c)
	if err != nil {
		return nil, err
	}
	old := b.objects[x.o.Name]
	if judge != nil {
		var cur *catalog.Object
		if old != nil {
			o := old.o
			cur = &o
		}
		if err := judge(cur); err != nil {
			return nil, errs.Wrap("s3test.Put", errs.Other, err)
		}
	}
	if old == nil {
		at, _ := slices.BinarySearch(b.names, x.o.Name)
		b.names = slices.Insert(b.names, at, x.o.Name)
	}
	b.objects[x.o.Name] = x
	o := x.o
	return &o, nil
}

func (s *Store) find(c *catalog.Container, name string) (*object, error) {
	b, err := s.live(c)
	if err != nil {
		return nil, err
	}
	x := b.objects[name]
	if x == nil {
		return nil, errs.New("s3test", errs.NotFound, "object %q", name)
	}
	return x, nil
}

// Head implements s3api.Store.
func (s *Store) Head(_ context.Context, c *catalog.Container, name string) (*catalog.Object, error) {
	if err := s.failing("Head"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	x, err := s.find(c, name)
	if err != nil {
		return nil, err
	}
	o := x.o
	return &o, nil
}

// Open implements s3api.Store.
func (s *Store) Open(_ context.Context, c *catalog.Container, name string) (*catalog.Object, s3api.Handle, error) {
	if err := s.failing("Open"); err != nil {
		return nil, nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	x, err := s.find(c, name)
	if err != nil {
		return nil, nil, err
	}
	o := x.o
	return &o, &handle{s: s, x: x, o: o}, nil
}

type handle struct {
	s *Store
	x *object // data and parts never change
	o catalog.Object
}

// Range implements s3api.Handle.
func (h *handle) Range(_ context.Context, off, n int64) (io.ReadCloser, error) {
	if off < 0 || n < 0 || off+n > int64(len(h.x.data)) {
		return nil, errs.New("s3test", errs.BadRange, "%d bytes from %d", n, off)
	}
	if err := h.s.failing("Range"); err != nil {
		return nil, err
	}
	return memory{bytes.NewReader(h.x.data[off : off+n])}, nil
}

type memory struct{ *bytes.Reader }

func (memory) Close() error { return nil }

// Part implements s3api.Handle.
func (h *handle) Part(_ context.Context, number int) (off, size int64, err error) {
	if len(h.x.parts) == 0 && number == 1 {
		return 0, h.o.Size, nil
	}
	for _, p := range h.x.parts {
		if int(p.Number) == number {
			return p.End - p.Size, p.Size, nil
		}
	}
	return 0, 0, errs.New("s3test", errs.BadRange, "no part %d", number)
}

// Parts implements s3api.Handle.
func (h *handle) Parts(_ context.Context, after, limit int) ([]catalog.ManifestEntry, bool, error) {
	var out []catalog.ManifestEntry
	for _, p := range h.x.parts {
		if int(p.Number) <= after {
			continue
		}
		if len(out) == limit {
			return out, true, nil
		}
		out = append(out, p)
	}
	return out, false, nil
}

// Close implements s3api.Handle.
func (h *handle) Close() {}

// Modify implements s3api.Store.
func (s *Store) Modify(_ context.Context, c *catalog.Container, name string, change func(*catalog.Object) error) (*catalog.Object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x, err := s.find(c, name)
	if err != nil {
		return nil, err
	}
	next := *x
	if err := change(&next.o); err != nil {
		return nil, err
	}
	s.containers[containerKey(c.Account, c.Name)].objects[name] = &next
	o := next.o
	return &o, nil
}

// Delete implements s3api.Store.
func (s *Store) Delete(_ context.Context, c *catalog.Container, name string, judge func(*catalog.Object) error) error {
	if err := s.failing("Delete"); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.live(c)
	if err != nil {
		return err
	}
	x := b.objects[name]
	if judge != nil {
		var cur *catalog.Object
		if x != nil {
			o := x.o
			cur = &o
		}
		if err := judge(cur); err != nil {
			return err
		}
	}
	if x == nil {
		return errs.New("s3test", errs.NotFound, "object %q", name)
	}
	delete(b.objects, name)
	at, _ := slices.BinarySearch(b.names, name)
	b.names = slices.Delete(b.names, at, at+1)
	return nil
}

// found is one line of a page.
type found struct {
	name   string
	prefix bool
}

// scan answers a query over sorted names, forwards only.
func scan(names []string, q *ops.Query) (out []found, more bool) {
	limit := min(q.Limit, peer.MaxPage)
	at := sort.SearchStrings(names, max(q.Prefix, q.Marker))
	for at < len(names) {
		name := names[at]
		if !strings.HasPrefix(name, q.Prefix) || q.EndMarker != "" && name >= q.EndMarker {
			break
		}
		if q.Marker != "" && name == q.Marker && !q.Inclusive {
			at++
			continue
		}
		if q.Delimiter != "" {
			if i := strings.Index(name[len(q.Prefix):], q.Delimiter); i >= 0 {
				common := name[:len(q.Prefix)+i+len(q.Delimiter)]
				next := at + sort.Search(len(names)-at, func(i int) bool { return !strings.HasPrefix(names[at+i], common) })
				if q.Marker != common { // else it was on the last page
					if len(out) == limit {
						return out, true
					}
					out = append(out, found{common, true})
				}
				at = next
				continue
			}
		}
		if len(out) == limit {
			return out, true
		}
		out = append(out, found{name, false})
		at++
	}
	return out, false
}

// List implements s3api.Store.
func (s *Store) List(_ context.Context, c *catalog.Container, q *ops.Query) (*ops.Page, error) {
	if err := s.failing("List"); err != nil {
		return nil, err
	}
	if q.Limit < 1 || q.Reverse {
		return nil, errs.New("s3test", errs.Invalid, "limit %d", q.Limit)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.live(c)
	if err != nil {
		return nil, err
	}
	items, more := scan(b.names, q)
	page := &ops.Page{Items: make([]ops.Item, len(items)), More: more}
	for i, it := range items {
		page.Items[i] = ops.Item{Name: it.name, CommonPrefix: it.prefix}
		if !it.prefix {
			o := &b.objects[it.name].o
			page.Items[i].RowValue = catalog.RowValue{
				Size: o.Size, ETag: o.ETag, ContentType: o.ContentType, Modified: o.Modified,
				Checksum: o.Meta.Get("checksum-algorithm"), Extra: o.Meta.WithPrefix("row-"),
			}
		}
	}
	return page, nil
}

// CreateUpload implements s3api.Store.
func (s *Store) CreateUpload(_ context.Context, u *ops.Upload) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.live(u.Container); err != nil {
		return err
	}
	s.sequence++
	u.ID = fmt.Sprintf("%048x", s.sequence)
	u.Initiated = s.Now().UTC()
	s.uploads[u.ID] = &upload{u: *u, parts: make(map[int]*part)}
	return nil
}

func (s *Store) upload(c *catalog.Container, name, id string) (*upload, error) {
	x := s.uploads[id]
	if x == nil || x.u.Name != name || x.u.Container.Incarnation != c.Incarnation {
		return nil, errs.New("s3test", errs.NoUpload, "upload %q", id)
	}
	return x, nil
}

// Upload implements s3api.Store.
func (s *Store) Upload(_ context.Context, c *catalog.Container, name, id string) (*ops.Upload, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x, err := s.upload(c, name, id)
	if err != nil {
		return nil, err
	}
	u := x.u
	u.Done = x.done != nil
	return &u, nil
}

// PutPart implements s3api.Store.
func (s *Store) PutPart(_ context.Context, p *ops.PutPart) (*catalog.Part, error) {
	if p.Number < 1 || p.Number > ops.MaxParts {
		return nil, errs.New("s3test", errs.Invalid, "part %d", p.Number)
	}
	data, sum, err := take(p.Body, p.Size, p.MD5, p.Also)
	if err != nil {
		return nil, err
	}
	x := &part{p: catalog.Part{Number: p.Number, Size: int64(len(data)), ETag: sum, Modified: s.micros()}, data: data}
	if p.Finish != nil {
		if err := p.Finish(&x.p); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	u, err := s.upload(p.Upload.Container, p.Upload.Name, p.Upload.ID)
	if err != nil {
		return nil, err
	}
	if u.done != nil {
		return nil, errs.New("s3test", errs.NoUpload, "upload %q", u.u.ID)
	}
	u.parts[p.Number] = x
	out := x.p
	return &out, nil
}

func (u *upload) sorted() []catalog.Part {
	out := make([]catalog.Part, 0, len(u.parts))
	for _, p := range u.parts {
		out = append(out, p.p)
	}
	slices.SortFunc(out, func(a, b catalog.Part) int { return a.Number - b.Number })
	return out
}

// ListParts implements s3api.Store.
func (s *Store) ListParts(_ context.Context, u *ops.Upload, after, limit int) ([]catalog.Part, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x, err := s.upload(u.Container, u.Name, u.ID)
	if err != nil {
		return nil, false, err
	}
	all := x.sorted()
	at, _ := slices.BinarySearchFunc(all, after+1, func(p catalog.Part, n int) int { return p.Number - n })
	all = all[at:]
	if len(all) > limit {
		return all[:limit], true, nil
	}
	return all, false, nil
}

// ListUploads implements s3api.Store.
func (s *Store) ListUploads(_ context.Context, c *catalog.Container, q *ops.UploadQuery) (*ops.UploadPage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var open []*upload
	for _, u := range s.uploads {
		if u.done == nil && u.u.Container.Incarnation == c.Incarnation && strings.HasPrefix(u.u.Name, q.Prefix) {
			open = append(open, u)
		}
	}
	slices.SortFunc(open, func(a, b *upload) int {
		if n := strings.Compare(a.u.Name, b.u.Name); n != 0 {
			return n
		}
		return strings.Compare(a.u.ID, b.u.ID)
	})
	page := &ops.UploadPage{}
	last := ""
	for _, u := range open {
		if u.u.Name < q.NameMarker || u.u.Name == q.NameMarker && q.NameMarker != "" && (q.IDMarker == "" || u.u.ID <= q.IDMarker) {
			continue
		}
		line := u.u
		if q.Delimiter != "" {
			if i := strings.Index(line.Name[len(q.Prefix):], q.Delimiter); i >= 0 {
				common := line.Name[:len(q.Prefix)+i+len(q.Delimiter)]
				if common == last || q.NameMarker != "" && strings.HasPrefix(q.NameMarker, common) {
					continue
				}
				last = common
				line = ops.Upload{Container: c, Name: common}
			}
		}
		if len(page.Uploads) == q.Limit {
			page.More = true
			break
		}
		page.Uploads = append(page.Uploads, line)
	}
	return page, nil
}

// CompleteUpload implements s3api.Store.
func (s *Store) CompleteUpload(_ context.Context, c *ops.Complete) (*catalog.Object, error) {
	s.mu.Lock()
	x, err := s.upload(c.Upload.Container, c.Upload.Name, c.Upload.ID)
	if err != nil || x.done != nil {
		defer s.mu.Unlock()
		if err != nil {
			return nil, err
		}
		return &catalog.Object{Name: x.done.Name, ETag: x.done.ETag, Size: x.done.Size, Meta: x.u.Meta}, nil
	}
	have, uploaded := x.sorted(), maps.Clone(x.parts)
	s.mu.Unlock()
	parts, err := c.Choose(have)
	if err != nil {
		return nil, err
	}
	made := &object{o: catalog.Object{
		ContainerAccount: x.u.Container.Account, Container: x.u.Container.Name, Incarnation: x.u.Container.Incarnation,
		Name: x.u.Name, ContentType: x.u.ContentType, Meta: x.u.Meta, Modified: s.micros(), PartCount: len(parts),
	}}
	sum := md5.New()
	for _, p := range parts {
		made.data = append(made.data, uploaded[p.Number].data...)
		e := catalog.ManifestEntry{End: int64(len(made.data)), Size: p.Size, Number: uint32(p.Number), Checksum: p.Checksum}
		raw, err := hex.DecodeString(p.ETag)
		if err != nil {
			return nil, err
		}
		copy(e.MD5[:], raw)
		sum.Write(raw)
		made.parts = append(made.parts, e)
	}
	made.o.Size = int64(len(made.data))
	made.o.ETag = fmt.Sprintf("%x-%d", sum.Sum(nil), len(parts))
	if c.Finish != nil {
		if err := c.Finish(&made.o, parts); err != nil {
			return nil, err
		}
	}
	o, err := s.commit(x.u.Container, made, c.Judge)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	x.done, x.parts = o, nil
	return o, nil
}

// AbortUpload implements s3api.Store.
func (s *Store) AbortUpload(_ context.Context, u *ops.Upload) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	x, err := s.upload(u.Container, u.Name, u.ID)
	if err != nil || x.done != nil {
		return errs.New("s3test", errs.NoUpload, "upload %q", u.ID)
	}
	delete(s.uploads, u.ID)
	return nil
}
