package ops

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"ringfort/internal/blob"
	"ringfort/internal/catalog"
	"ringfort/internal/errs"
	"ringfort/internal/policy"
)

var testPolicies = []policy.Spec{
	policy.Replica(1), policy.Replica(2), policy.Replica(3),
	policy.EC(2, 2), policy.EC(3, 2), policy.EC(4, 2), policy.EC(8, 4),
}

// sizes are lengths at which something changes.
func sizes(spec policy.Spec) []int {
	stripe := spec.K * testBlock
	list := []int{0, 1}
	for _, n := range []int{testBlock, testInline, stripe, testInline + stripe, 3 * stripe, 5*stripe + 777} {
		list = append(list, n-1, n, n+1)
	}
	return list
}

func TestPutGet(t *testing.T) {
	for _, b := range backends {
		for _, spec := range testPolicies {
			t.Run(b.name+" "+spec.String(), func(t *testing.T) {
				t.Parallel()
				c := newCluster(t, spec, 3, b.make)
				s := c.gateway(nil)
				co := s.mustContainer(t, "c")
				rnd := rand.New(rand.NewPCG(1, uint64(spec.Fragments())))
				for i, n := range sizes(spec) {
					body := random(uint64(n), n)
					for _, size := range []int64{int64(n), -1} {
						name := fmt.Sprintf("%d-%d-%d", i, n, size)
						var also bytes.Buffer
						sum := md5.Sum(body)
						o, err := s.Put(t.Context(), &Put{
							Container: co, Name: name, Body: bytes.NewReader(body), Size: size, ContentType: "a/b",
							Meta: catalog.Pairs{{Name: "meta-x", Value: "y"}}, MD5: sum[:], Also: &also,
						})
						if err != nil {
							t.Fatalf("Put of %d bytes, stated as %d: %v", n, size, err)
						}
						if o.Size != int64(n) || o.ETag != etag(body) || o.Missing != 0 || !bytes.Equal(also.Bytes(), body) {
							t.Fatalf("Put of %d bytes: %+v", n, o)
						}
						if inline := n <= testInline; inline != (o.Layout == catalog.Inline) {
							t.Errorf("%d bytes have layout %d", n, o.Layout)
						}
						wantBytes(t, s, co, name, body)
						head, err := s.Head(t.Context(), co, name)
						if err != nil || head.ContentType != "a/b" || head.Meta.Get("meta-x") != "y" || head.Size != int64(n) {
							t.Fatalf("Head: %+v, %v", head, err)
						}
						for range 8 {
							off := rnd.Int64N(int64(n) + 1)
							size := rnd.Int64N(int64(n) - off + 1)
							got, _, err := getRange(t.Context(), s, co, name, off, size)
							if err != nil || !bytes.Equal(got, body[off:off+size]) {
								t.Fatalf("bytes %d to %d of %d: %d bytes, %v", off, off+size, n, len(got), err)
							}
						}
					}
				}
				if lent := s.lent(); lent != 0 {
					t.Errorf("%d bytes of the pool are still lent", lent)
				}
			})
		}
	}
}

// What is read in small pieces, by WriteTo, or given up half-way.
func TestReaders(t *testing.T) {
	c := newCluster(t, policy.EC(3, 2), 5, fake)
	s := c.gateway(nil)
	co := s.mustContainer(t, "c")
	body := random(9, 20*testBlock+123)
	mustPut(t, s, co, "o", body)
	h, err := s.Open(t.Context(), co, "o")
	if err != nil {
		t.Fatal(err)
	}
	open := func() io.ReadCloser {
		r, err := h.Range(t.Context(), 5, int64(len(body))-5)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	r := open()
	got, err := io.ReadAll(iotestOneByte{r})
	if err != nil || !bytes.Equal(got, body[5:]) {
		t.Fatalf("byte by byte: %d bytes, %v", len(got), err)
	}
	r.Close()
	r.Close() // a second time does nothing
	r = open()
	var w bytes.Buffer
	if n, err := r.(io.WriterTo).WriteTo(&w); err != nil || n != int64(len(body)-5) || !bytes.Equal(w.Bytes(), body[5:]) {
		t.Fatalf("WriteTo: %d, %v", n, err)
	}
	r.Close()
	r = open()
	if _, err := r.(io.WriterTo).WriteTo(&limited{100}); !errors.Is(err, errBody) {
		t.Errorf("WriteTo a writer that fails: %v", err)
	}
	r.Close()
	r = open()
	if _, err := io.ReadFull(r, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	r.Close()
	eventually(t, "all memory is given back", func() bool { return s.lent() == 0 })
	for _, bad := range [][2]int64{{-1, 1}, {0, -1}, {0, int64(len(body)) + 1}, {int64(len(body)), 1}, {1<<63 - 1, 1}, {1, 1<<63 - 1}} {
		_, err := h.Range(t.Context(), bad[0], bad[1])
		wantKind(t, err, errs.BadRange)
	}
}

// A reader whose context ends says so; it never looks like the end of the object.
func TestReaderCanceled(t *testing.T) {
	c := newCluster(t, policy.EC(2, 2), 4, fake)
	s := c.gateway(nil)
	co := s.mustContainer(t, "c")
	body := random(9, 50*testBlock)
	mustPut(t, s, co, "o", body)
	h, err := s.Open(t.Context(), co, "o")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r, err := h.Range(ctx, 0, h.Object.Size)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.ReadFull(r, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	cancel()
	n, err := io.Copy(io.Discard, r)
	if n+10 >= int64(len(body)) {
		t.Fatalf("all %d bytes were read ahead: the test is of no use", n)
	}
	wantKind(t, err, errs.Canceled)
}

type iotestOneByte struct{ io.Reader }

func (r iotestOneByte) Read(p []byte) (int, error) { return r.Reader.Read(p[:min(1, len(p))]) }

// limited is a writer that fails after n bytes.
type limited struct{ n int }

func (l *limited) Write(p []byte) (int, error) {
	if len(p) > l.n {
		return 0, errBody
	}
	l.n -= len(p)
	return len(p), nil
}

// Uploads that fail leave the object that was there, and no fragment.
func TestPutRefused(t *testing.T) {
	refused := errs.New("test", errs.Denied, "no")
	for _, b := range backends {
		for _, n := range []int{100, testInline, 40 * testBlock} {
			for _, known := range []bool{true, false} {
				for _, x := range []struct {
					name string
					kind errs.Kind
					set  func(p *Put)
				}{
					{"shorter than stated", errs.Incomplete, func(p *Put) { p.Size = int64(n + 1) }},
					{"longer than stated", errs.Invalid, func(p *Put) { p.Size = int64(n - 1) }},
					{"reader fails half-way", errs.Other, func(p *Put) { p.Body = &breaking{n / 2, errBody} }},
					{"reader fails at its end", errs.BadDigest, func(p *Put) {
						p.Body = io.MultiReader(p.Body, &breaking{0, errs.New("test", errs.BadDigest, "trailer")})
					}},
					{"wrong MD5", errs.BadDigest, func(p *Put) { p.MD5 = make([]byte, 16) }},
					{"Finish refuses", errs.Denied, func(p *Put) { p.Finish = func(*catalog.Object) error { return refused } }},
					{"Judge refuses", errs.Denied, func(p *Put) { p.Judge = func(*catalog.Object) error { return refused } }},
					{"Also fails", errs.Other, func(p *Put) { p.Also = &limited{n / 3} }},
				} {
					if !known && x.kind == errs.Incomplete || !known && x.kind == errs.Invalid {
						continue
					}
					t.Run(fmt.Sprintf("%s %s %d %v", b.name, x.name, n, known), func(t *testing.T) {
						t.Parallel()
						c := newCluster(t, policy.EC(2, 2), 4, b.make)
						s := c.gateway(nil)
						co := s.mustContainer(t, "c")
						mustPut(t, s, co, "o", []byte("before"))
						blobs := c.watchBlobs()
						p := &Put{Container: co, Name: "o", Body: bytes.NewReader(random(1, n)), Size: -1}
						if known {
							p.Size = int64(n)
						}
						x.set(p)
						_, err := s.Put(t.Context(), p)
						if errs.KindOf(err) != x.kind || err == nil {
							t.Fatalf("Put: %v", err)
						}
						wantBytes(t, s, co, "o", []byte("before"))
						if n > testInline && len(blobs.list()) == 0 {
							t.Error("no blob was begun: the test is of no use")
						}
						eventually(t, "no fragment is left", func() bool { return c.fragments(s, co, "o", blobs.list()...) == 0 })
						eventually(t, "all memory is given back", func() bool { return s.lent() == 0 })
					})
				}
			}
		}
	}
}

func TestPutTooLarge(t *testing.T) {
	c := newCluster(t, policy.EC(2, 2), 4, fake)
	s := c.gateway(nil)
	co := s.mustContainer(t, "c")
	_, err := s.Put(t.Context(), &Put{Container: co, Name: "o", Body: bytes.NewReader(nil), Size: MaxPartBytes + 1})
	wantKind(t, err, errs.TooLarge)
	// Of unknown length: found out on the way.
	k, pol, err := s.objectKey(co, "o")
	if err != nil {
		t.Fatal(err)
	}
	blobs := c.watchBlobs()
	in := &intake{s: s, ctx: t.Context(), key: k, policy: pol, body: bytes.NewReader(random(1, 100*testBlock)), size: -1, max: 50 * testBlock}
	_, err = in.store(blob.ID{Group: s.clock.Now()})
	wantKind(t, err, errs.TooLarge)
	eventually(t, "no fragment is left", func() bool { return c.fragments(s, co, "o", blobs.list()...) == 0 })
}

func TestNames(t *testing.T) {
	c := newCluster(t, policy.Replica(1), 1, fake)
	s := c.gateway(nil)
	co := s.mustContainer(t, "c")
	long := string(bytes.Repeat([]byte("n"), MaxNameBytes))
	for _, name := range []string{"a", "//", "..", "/", " ", "\x01", "ä", "\U0001F600", "a\nb", long} {
		mustPut(t, s, co, name, []byte(name))
		wantBytes(t, s, co, name, []byte(name))
	}
	for _, x := range []struct {
		name string
		kind errs.Kind
	}{{"", errs.Invalid}, {"a\x00b", errs.Invalid}, {"\xff", errs.Invalid}, {long + "n", errs.TooLarge}} {
		_, err := putBytes(t.Context(), s, co, x.name, nil)
		wantKind(t, err, x.kind)
		_, err = s.Head(t.Context(), co, x.name)
		wantKind(t, err, x.kind)
		wantKind(t, s.Delete(t.Context(), co, x.name, nil), x.kind)
	}
}
