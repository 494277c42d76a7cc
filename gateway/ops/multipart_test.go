package ops

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"ringfort/internal/catalog"
	"ringfort/internal/errs"
	"ringfort/internal/peer"
	"ringfort/internal/policy"
	"ringfort/internal/register"
)

func (s *Service) mustUpload(t testing.TB, co *catalog.Container, name string) *Upload {
	t.Helper()
	u := &Upload{Container: co, Name: name, ContentType: "a/b", Meta: catalog.Pairs{{Name: "meta-x", Value: "y"}}}
	if err := s.CreateUpload(t.Context(), u); err != nil {
		t.Fatalf("CreateUpload: %v", err)
	}
	return u
}

func putPart(ctx context.Context, s *Service, u *Upload, number int, body []byte) (*catalog.Part, error) {
	return s.PutPart(ctx, &PutPart{Upload: u, Number: number, Body: bytes.NewReader(body), Size: int64(len(body))})
}

func (s *Service) mustPart(t testing.TB, u *Upload, number int, body []byte) {
	t.Helper()
	p, err := putPart(t.Context(), s, u, number, body)
	if err != nil || p.ETag != etag(body) || p.Size != int64(len(body)) {
		t.Fatalf("PutPart %d: %+v, %v", number, p, err)
	}
}

// all chooses every part.
func all(have []catalog.Part) ([]catalog.Part, error) { return have, nil }

func complete(ctx context.Context, s *Service, u *Upload) (*catalog.Object, error) {
	return s.CompleteUpload(ctx, &Complete{Upload: u, Choose: all})
}

// noUploads checks that nothing of an upload is left in the container's tables.
func noUploads(t *testing.T, s *Service, co *catalog.Container) {
	t.Helper()
	for _, table := range []catalog.Table{catalog.Uploads, catalog.Parts} {
		rows, _, err := s.scan(t.Context(), co, table, scanQuery{limit: 10})
		if err != nil || len(rows) > 0 {
			t.Errorf("%d rows are left in table %d, %v", len(rows), table, err)
		}
	}
}

func TestMultipart(t *testing.T) {
	for _, b := range backends {
		for _, spec := range []policy.Spec{policy.Replica(2), policy.EC(2, 2), policy.EC(4, 2)} {
			t.Run(b.name+" "+spec.String(), func(t *testing.T) {
				t.Parallel()
				c := newCluster(t, spec, 0, b.make)
				s := c.gateway(nil)
				co := s.mustContainer(t, "c")
				mustPut(t, s, co, "o", []byte("before"))
				blobs := c.watchBlobs()
				u := s.mustUpload(t, co, "o")
				parts := map[int][]byte{
					7: random(7, 5*spec.K*testBlock+3), 2: random(2, 100), 10000: random(3, testBlock), 1: random(1, testInline+1), 5: {},
				}
				for _, n := range []int{7, 2, 10000, 1, 5} { // in any order
					s.mustPart(t, u, n, parts[n])
				}
				s.mustPart(t, u, 3, random(8, 9999)) // is not used
				s.mustPart(t, u, 2, random(9, 200))
				parts[2] = random(10, 300)
				s.mustPart(t, u, 2, parts[2]) // takes the place of the former two
				_, err := putPart(t.Context(), s, u, 0, nil)
				wantKind(t, err, errs.Invalid)
				_, err = putPart(t.Context(), s, u, MaxParts+1, nil)
				wantKind(t, err, errs.Invalid)
				have, more, err := s.ListParts(t.Context(), u, 1, 3)
				if err != nil || !more || len(have) != 3 || have[0].Number != 2 || have[0].Size != 300 || have[2].Number != 5 {
					t.Fatalf("ListParts: %+v, %v, %v", have, more, err)
				}
				wantBytes(t, s, co, "o", []byte("before"))

				o, err := s.CompleteUpload(t.Context(), &Complete{Upload: u, Choose: func(have []catalog.Part) ([]catalog.Part, error) {
					return slices.DeleteFunc(have, func(p catalog.Part) bool { return p.Number == 3 }), nil
				}, Finish: func(o *catalog.Object, parts []catalog.Part) error {
					o.Meta = o.Meta.With("meta-n", fmt.Sprint(len(parts)))
					return nil
				}})
				if err != nil {
					t.Fatal(err)
				}
				want := slices.Concat(parts[1], parts[2], parts[5], parts[7], parts[10000])
				if o.Size != int64(len(want)) || !strings.HasSuffix(o.ETag, "-5") || o.PartCount != 5 || o.Meta.Get("meta-n") != "5" || o.Meta.Get("meta-x") != "y" {
					t.Fatalf("CompleteUpload: %+v", o)
				}
				wantBytes(t, s, co, "o", want)
				rnd := rand.New(rand.NewPCG(1, 2))
				for range 40 {
					off := rnd.Int64N(o.Size + 1)
					n := rnd.Int64N(o.Size - off + 1)
					got, _, err := getRange(t.Context(), s, co, "o", off, n)
					if err != nil || !bytes.Equal(got, want[off:off+n]) {
						t.Fatalf("bytes %d to %d: %d bytes, %v", off, off+n, len(got), err)
					}
				}
				h, err := s.Open(t.Context(), co, "o")
				if err != nil {
					t.Fatal(err)
				}
				off := int64(0)
				for _, n := range []int{1, 2, 5, 7, 10000} {
					at, size, err := h.Part(t.Context(), n)
					if err != nil || at != off || size != int64(len(parts[n])) {
						t.Errorf("part %d is %d bytes at %d, %v", n, size, at, err)
					}
					off += size
				}
				for _, n := range []int{0, 3, 6, 10001} {
					_, _, err := h.Part(t.Context(), n)
					wantKind(t, err, errs.BadRange)
				}
				list, more, err := h.Parts(t.Context(), 2, 2)
				if err != nil || !more || len(list) != 2 || list[0].Number != 5 || list[1].Number != 7 || list[1].ETag() != etag(parts[7]) {
					t.Fatalf("Parts: %+v, %v, %v", list, more, err)
				}
				noUploads(t, s, co)
				eventually(t, "the unused parts are dropped", func() bool {
					return c.fragments(s, co, "o", blobs.list()...) == 4*spec.Fragments() // the empty one has none
				})
				again, err := complete(t.Context(), s, u)
				if err != nil || again.ETag != o.ETag || again.Size != o.Size {
					t.Fatalf("completed again: %+v, %v", again, err)
				}
				wantKind(t, s.AbortUpload(t.Context(), u), errs.NoUpload)
				_, err = putPart(t.Context(), s, u, 1, []byte("late"))
				wantKind(t, err, errs.NoUpload)
				wantBytes(t, s, co, "o", want)
				if got, err := s.Upload(t.Context(), co, "o", u.ID); err != nil || !got.Done {
					t.Errorf("Upload: %+v, %v", got, err)
				}
				if _, err := s.Modify(t.Context(), co, "o", func(o *catalog.Object) error { o.ContentType = "new"; return nil }); err != nil {
					t.Fatal(err)
				}
				wantBytes(t, s, co, "o", want)
			})
		}
	}
}

func TestAbort(t *testing.T) {
	c := newCluster(t, policy.EC(2, 2), 4, real)
	s := c.gateway(nil)
	co := s.mustContainer(t, "c")
	blobs := c.watchBlobs()
	u := s.mustUpload(t, co, "o")
	s.mustPart(t, u, 1, random(1, 9999))
	s.mustPart(t, u, 2, random(1, 99))
	for range 2 { // a second time does no harm
		if err := s.AbortUpload(t.Context(), u); err != nil {
			t.Fatal(err)
		}
	}
	noUploads(t, s, co)
	eventually(t, "no fragment is left", func() bool { return c.fragments(s, co, "o", blobs.list()...) == 0 })
	_, err := complete(t.Context(), s, u)
	wantKind(t, err, errs.NoUpload)
	_, err = putPart(t.Context(), s, u, 1, random(1, 9999))
	wantKind(t, err, errs.NoUpload)
	eventually(t, "no fragment is left", func() bool { return c.fragments(s, co, "o", blobs.list()...) == 0 })
	noUploads(t, s, co)
	_, err = s.Upload(t.Context(), co, "o", u.ID)
	wantKind(t, err, errs.NoUpload)
	for _, id := range []string{"", "x", s.clock.Now().String(), strings.ToUpper(u.ID)} {
		_, err = s.Upload(t.Context(), co, "o", id)
		wantKind(t, err, errs.NoUpload)
	}
	_, err = s.Head(t.Context(), co, "o")
	wantKind(t, err, errs.NotFound)
}

// A refused completion leaves the upload open, and its parts where they are.
func TestCompleteRefused(t *testing.T) {
	c := newCluster(t, policy.EC(2, 2), 4, real)
	s := c.gateway(nil)
	co := s.mustContainer(t, "c")
	u := s.mustUpload(t, co, "o")
	s.mustPart(t, u, 1, random(1, 9999))
	no := errs.New("test", errs.Precondition, "no")
	for i, x := range []*Complete{
		{Choose: func([]catalog.Part) ([]catalog.Part, error) { return nil, no }},
		{Choose: all, Finish: func(*catalog.Object, []catalog.Part) error { return no }},
		{Choose: all, Judge: func(*catalog.Object) error { return no }},
	} {
		x.Upload = u
		_, err := s.CompleteUpload(t.Context(), x)
		wantKind(t, err, errs.Precondition)
		s.mustPart(t, u, i+2, random(uint64(i+2), 100))
	}
	_, err := s.CompleteUpload(t.Context(), &Complete{Upload: u, Choose: func([]catalog.Part) ([]catalog.Part, error) { return nil, nil }})
	wantKind(t, err, errs.Invalid)
	if _, err := complete(t.Context(), s, u); err != nil {
		t.Fatal(err)
	}
	wantBytes(t, s, co, "o", slices.Concat(random(1, 9999), random(2, 100), random(3, 100), random(4, 100)))
}

// A completion that was refused, and then an abort: behind a fence, so that what
// still was under way cannot name the parts.
func TestAbortAfterRefusal(t *testing.T) {
	c := newCluster(t, policy.EC(2, 2), 4, real)
	s := c.gateway(nil)
	co := s.mustContainer(t, "c")
	u := s.mustUpload(t, co, "o")
	s.mustPart(t, u, 1, random(1, 9999))
	// One completion is asleep just before it writes the object …
	sleeper := c.gateway(nil)
	k, pol, err := sleeper.objectKey(co, "o")
	if err != nil {
		t.Fatal(err)
	}
	m := &making{s: sleeper, u: u, key: k, policy: pol}
	o, parts, err := m.assemble(t.Context(), &Complete{Upload: u, Choose: all})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.begin(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	// … another one is refused, and the client gives up.
	_, err = s.CompleteUpload(t.Context(), &Complete{Upload: u, Choose: all, Judge: func(*catalog.Object) error {
		return errs.New("test", errs.Precondition, "no")
	}})
	wantKind(t, err, errs.Precondition)
	if err := s.AbortUpload(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	_, err = m.commit(t.Context(), o, parts)
	wantKind(t, err, errs.Swept)
	_, err = s.Head(t.Context(), co, "o")
	wantKind(t, err, errs.NotFound)
}

// Many completions at a time give one answer; with aborts among them the object is
// whole or not there.
func TestConcurrentCompletes(t *testing.T) {
	c := newCluster(t, policy.EC(2, 2), 4, real)
	gateways := []*Service{c.gateway(nil), c.gateway(nil)}
	s := gateways[0]
	co := s.mustContainer(t, "c")
	for round := range 20 {
		name := fmt.Sprint("o", round)
		older := []byte("older")
		mustPut(t, s, co, name, older)
		u := s.mustUpload(t, co, name)
		for i := range 3 {
			s.mustPart(t, u, i+1, random(uint64(i), 5000))
		}
		want := slices.Concat(random(0, 5000), random(1, 5000), random(2, 5000))
		errors := make([]error, 5)
		var aborted error
		var wg sync.WaitGroup
		for i := range errors {
			wg.Go(func() {
				o, err := complete(t.Context(), gateways[i%2], u)
				if err == nil && (o.Size != int64(len(want)) || !strings.HasSuffix(o.ETag, "-3")) {
					err = fmt.Errorf("answered with %+v", o)
				}
				errors[i] = err
			})
		}
		if round%2 == 1 {
			wg.Go(func() { aborted = gateways[1].AbortUpload(t.Context(), u) })
			wg.Go(func() { putPart(t.Context(), gateways[1], u, 2, random(1, 5000)) })
		}
		wg.Wait()
		got, _, err := get(t.Context(), s, co, name)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		made := !bytes.Equal(got, older)
		if made && !bytes.Equal(got, want) {
			t.Fatalf("round %d: %d bytes, neither as before nor as after", round, len(got))
		}
		for _, cerr := range errors {
			switch {
			case cerr == nil && !made:
				t.Fatalf("round %d: completed, and not there", round)
			case cerr != nil && (round%2 == 0 || !errs.Is(cerr, errs.NoUpload)):
				t.Fatalf("round %d: CompleteUpload: %v", round, cerr)
			}
		}
		if made && round%2 == 1 {
			wantKind(t, aborted, errs.NoUpload)
		}
		if !made && (round%2 == 0 || aborted != nil) {
			t.Fatalf("round %d: not there, abort: %v", round, aborted)
		}
	}
}

// A part that is uploaded again while the upload is completed: whichever attempt
// the object names is there.
func TestPartAgainWhileCompleting(t *testing.T) {
	c := newCluster(t, policy.EC(2, 2), 4, fake)
	s, other := c.gateway(nil), c.gateway(nil)
	co := s.mustContainer(t, "c")
	body := random(1, 9999)
	// Between the choice of the parts and the decision to make an object of them …
	u := s.mustUpload(t, co, "o")
	s.mustPart(t, u, 1, body)
	calls := 0
	_, err := s.CompleteUpload(t.Context(), &Complete{Upload: u, Choose: func(have []catalog.Part) ([]catalog.Part, error) {
		if calls++; calls == 1 {
			other.mustPart(t, u, 1, body)
		}
		return have, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	wantBytes(t, s, co, "o", body)
	// … and after it.
	u = s.mustUpload(t, co, "o")
	s.mustPart(t, u, 1, body)
	calls = 0
	_, err = s.CompleteUpload(t.Context(), &Complete{Upload: u, Choose: func(have []catalog.Part) ([]catalog.Part, error) {
		if calls++; calls == 2 {
			_, err := putPart(t.Context(), other, u, 1, body)
			wantKind(t, err, errs.NoUpload)
		}
		return have, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	wantBytes(t, s, co, "o", body)
	// A part whose row is there and whose writer has not yet looked at the upload.
	u = s.mustUpload(t, co, "o")
	row := make(chan struct{})
	goOn := make(chan struct{})
	var once sync.Once
	c.all(nil, func(_ context.Context, x call) error {
		if x.name == "PutRows" && x.table == catalog.Parts {
			once.Do(func() { close(row); <-goOn })
		}
		return nil
	})
	late := make(chan error, 1)
	go func() {
		_, err := putPart(context.Background(), other, u, 1, body)
		late <- err
	}()
	<-row
	c.all(nil, nil)
	eventually(t, "the part is known", func() bool {
		have, _, err := s.ListParts(t.Context(), u, 0, 1)
		return err == nil && len(have) == 1
	})
	_, err = complete(t.Context(), s, u)
	close(goOn)
	lerr := <-late
	if err != nil {
		t.Fatalf("CompleteUpload: %v (PutPart: %v)", err, lerr)
	}
	wantBytes(t, s, co, "o", body)
}

// A completion that died after its record, and is carried out again: by then the
// object was overwritten, deleted, changed, or not; and its row may be missing.
func TestCompleteAgain(t *testing.T) {
	for _, x := range []struct {
		name string
		then func(t *testing.T, s *Service, co *catalog.Container)
		want []byte
	}{
		{"nothing", func(*testing.T, *Service, *catalog.Container) {}, random(1, 9999)},
		{"overwritten", func(t *testing.T, s *Service, co *catalog.Container) { mustPut(t, s, co, "o", []byte("newer")) }, []byte("newer")},
		{"overwritten on a condition", func(t *testing.T, s *Service, co *catalog.Container) {
			if _, err := s.Put(t.Context(), &Put{Container: co, Name: "o", Body: strings.NewReader("newer"), Size: 5, Judge: func(*catalog.Object) error { return nil }}); err != nil {
				t.Fatal(err)
			}
		}, []byte("newer")},
		{"deleted", func(t *testing.T, s *Service, co *catalog.Container) {
			if err := s.Delete(t.Context(), co, "o", nil); err != nil {
				t.Fatal(err)
			}
		}, nil},
		{"deleted on a condition", func(t *testing.T, s *Service, co *catalog.Container) {
			if err := s.Delete(t.Context(), co, "o", func(*catalog.Object) error { return nil }); err != nil {
				t.Fatal(err)
			}
		}, nil},
		{"changed", func(t *testing.T, s *Service, co *catalog.Container) {
			if _, err := s.Modify(t.Context(), co, "o", func(o *catalog.Object) error { o.ContentType = "new"; return nil }); err != nil {
				t.Fatal(err)
			}
		}, random(1, 9999)},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := newCluster(t, policy.EC(2, 2), 4, real)
			s := c.gateway(nil)
			co := s.mustContainer(t, "c")
			mustPut(t, s, co, "o", []byte("older"))
			u := s.mustUpload(t, co, "o")
			s.mustPart(t, u, 1, random(1, 9999))
			s.mustPart(t, u, 2, random(2, 99))
			first := func(have []catalog.Part) ([]catalog.Part, error) { return have[:1], nil }
			c.all(func(_ context.Context, y call) error {
				if y.name == "PutRows" && y.table == catalog.Objects {
					return errDown
				}
				return nil
			}, nil)
			_, err := s.CompleteUpload(t.Context(), &Complete{Upload: u, Choose: first})
			wantKind(t, err, errs.OutcomeUnknown)
			c.all(nil, nil)
			x.then(t, s, co)
			// With another list of parts: what counts is what was made of the first.
			o, err := complete(t.Context(), c.gateway(nil), u)
			if err != nil {
				t.Fatal(err)
			}
			if len(x.want) == 9999 && (o.Size != 9999 || !strings.HasSuffix(o.ETag, "-1")) {
				t.Errorf("answered with %+v", o)
			}
			got, err := names(t.Context(), s, co, 10)
			if err != nil || len(got) != min(1, len(x.want)) {
				t.Errorf("listed are %v, %v", got, err)
			}
			if x.want == nil {
				_, err := s.Head(t.Context(), co, "o")
				wantKind(t, err, errs.NotFound)
				return
			}
			wantBytes(t, s, co, "o", x.want)
			noUploads(t, s, co)
		})
	}
}

// A list of parts too long for a record is a blob.
func TestManyParts(t *testing.T) {
	for _, n := range []int{testInline / catalog.ManifestEntrySize, testInline/catalog.ManifestEntrySize + 1, 1300} {
		c := newCluster(t, policy.EC(2, 2), 4, fake)
		s := c.gateway(nil)
		co := s.mustContainer(t, "c")
		u := s.mustUpload(t, co, "o")
		var want []byte
		var wg sync.WaitGroup
		for i := range n {
			b := random(uint64(i), 10+i%7)
			want = append(want, b...)
			wg.Go(func() { s.mustPart(t, u, i+1, b) })
			if i%16 == 0 {
				wg.Wait()
			}
		}
		wg.Wait()
		o, err := complete(t.Context(), s, u)
		if err != nil {
			t.Fatal(err)
		}
		if paged := n*catalog.ManifestEntrySize > testInline; paged != (o.Layout == catalog.PagedManifest) {
			t.Errorf("%d parts have layout %d", n, o.Layout)
		}
		wantBytes(t, s, co, "o", want)
		got, _, err := getRange(t.Context(), s, co, "o", 500, int64(len(want))-600)
		if err != nil || !bytes.Equal(got, want[500:len(want)-100]) {
			t.Fatalf("a range: %d bytes, %v", len(got), err)
		}
		h, err := s.Open(t.Context(), co, "o")
		if err != nil {
			t.Fatal(err)
		}
		if _, size, err := h.Part(t.Context(), n); err != nil || size != int64(10+(n-1)%7) {
			t.Errorf("the last part has %d bytes, %v", size, err)
		}
		if list, more, err := h.Parts(t.Context(), n-2, 10); err != nil || more || len(list) != 2 {
			t.Errorf("Parts: %d, %v, %v", len(list), more, err)
		}
		noUploads(t, s, co)
	}
}

// Parts cut into blocks of different sizes cannot be put together: it is said, and
// not found out when they are read.
func TestPartsOfOtherCoding(t *testing.T) {
	c := newCluster(t, policy.EC(2, 2), 4, fake)
	s := c.gateway(nil)
	other := c.gateway(func(cfg *Config) { cfg.BlockSize = 2 * testBlock })
	co := s.mustContainer(t, "c")
	u := s.mustUpload(t, co, "o")
	s.mustPart(t, u, 1, random(1, 99999))
	other.mustPart(t, u, 2, random(2, 99999))
	_, err := complete(t.Context(), s, u)
	wantKind(t, err, errs.Invalid)
	s.mustPart(t, u, 2, random(2, 99999))
	if _, err := complete(t.Context(), s, u); err != nil {
		t.Fatal(err)
	}
	wantBytes(t, s, co, "o", slices.Concat(random(1, 99999), random(2, 99999)))
}

// An upload made by a gateway whose clock is ahead ends all the same.
func TestUploadFromTheFuture(t *testing.T) {
	c := newCluster(t, policy.Replica(3), 3, real)
	s := c.gateway(nil)
	ahead := c.gateway(func(cfg *Config) { cfg.Clock = futureClock() })
	co := s.mustContainer(t, "c")
	for _, abort := range []bool{true, false} {
		u := ahead.mustUpload(t, co, "o")
		ahead.mustPart(t, u, 1, []byte("x"))
		s.mustPart(t, u, 1, []byte("y")) // the later one, whatever its clock says
		var err error
		if abort {
			err = s.AbortUpload(t.Context(), u)
		} else {
			_, err = complete(t.Context(), s, u)
		}
		if err != nil {
			t.Fatal(err)
		}
		noUploads(t, s, co)
	}
	wantBytes(t, s, co, "o", []byte("y"))
	mustPut(t, s, co, "o", []byte("z"))
	wantBytes(t, s, co, "o", []byte("z"))
}

func TestListUploads(t *testing.T) {
	c := newCluster(t, policy.Replica(3), 3, fake)
	s := c.gateway(nil)
	co := s.mustContainer(t, "c")
	type line struct{ name, id string }
	var want []line
	for _, n := range []string{"a", "a", "b/1", "b/2", "b/2", "b/c/3", "b0", "d"} {
		u := s.mustUpload(t, co, n)
		want = append(want, line{n, u.ID})
	}
	list := func(q UploadQuery) []line {
		var out []line
		for range 100 {
			p, err := s.ListUploads(t.Context(), co, &q)
			if err != nil {
				t.Fatal(err)
			}
			if len(p.Uploads) > q.Limit {
				t.Fatalf("%d uploads, %d were asked for", len(p.Uploads), q.Limit)
			}
			for _, u := range p.Uploads {
				out = append(out, line{u.Name, u.ID})
				q.NameMarker, q.IDMarker = u.Name, u.ID
				if u.ID != "" && (u.ContentType != "a/b" || u.Initiated.IsZero()) {
					t.Errorf("%+v", u)
				}
			}
			if !p.More {
				return out
			}
		}
		t.Fatalf("no end: %+v", q)
		return nil
	}
	for limit := 1; limit < 10; limit++ {
		if got := list(UploadQuery{Limit: limit}); !slices.Equal(got, want) {
			t.Errorf("by %d: %v", limit, got)
		}
		if got := list(UploadQuery{Limit: limit, Prefix: "b/"}); !slices.Equal(got, want[2:6]) {
			t.Errorf("by %d, prefix: %v", limit, got)
		}
		if got := list(UploadQuery{Limit: limit, Delimiter: "/"}); !slices.Equal(got, []line{want[0], want[1], {"b/", ""}, want[6], want[7]}) {
			t.Errorf("by %d, delimiter: %v", limit, got)
		}
		if got := list(UploadQuery{Limit: limit, Prefix: "b/", Delimiter: "/"}); !slices.Equal(got, []line{want[2], want[3], want[4], {"b/c/", ""}}) {
			t.Errorf("by %d, both: %v", limit, got)
		}
		if got := list(UploadQuery{Limit: limit, NameMarker: "a"}); !slices.Equal(got, want[2:]) {
			t.Errorf("by %d, after a: %v", limit, got)
		}
		if got := list(UploadQuery{Limit: limit, NameMarker: "a", IDMarker: want[0].id}); !slices.Equal(got, want[1:]) {
			t.Errorf("by %d, after the first: %v", limit, got)
		}
	}
	for _, q := range []UploadQuery{{Prefix: "a\x00", Limit: 5, Delimiter: "/"}, {Prefix: "a\x00" + want[0].id[:9], Limit: 5, Delimiter: "0"}} {
		if got := list(q); len(got) != 0 {
			t.Errorf("%q: %v", q.Prefix, got)
		}
	}
}

// A page of an object's parts costs its own length: what is before it is not read.
func TestPartsBeginWhereTheyAreAsked(t *testing.T) {
	c := newCluster(t, policy.Replica(1), 1, fake)
	s := c.gateway(nil)
	co := s.mustContainer(t, "c")
	const count = 4000 // eight pages
	for _, x := range []struct {
		name  string
		step  int // between part numbers
		pages int // read at most
	}{
		{"no gaps", 1, 2},
		{"gaps", 2, 6}, // to halve eight pages, and the page asked for goes over an edge
	} {
		t.Run(x.name, func(t *testing.T) {
			h := s.paged(t, co, count, x.step)
			for _, page := range []struct{ after, limit, first, n int }{
				{0, 10, 0, 10}, {-5, 10, 0, 10}, {x.step * 2000, 10, 2000, 10}, {x.step*2000 - 1, 10, 1999, 10},
				{x.step * (count - 3), 10, count - 3, 3}, {x.step * count, 10, count, 0}, {1 << 30, 10, count, 0},
				{x.step * 511, 1, 511, 1}, {x.step * 512, 1, 512, 1}, {x.step * 700, 0, 700, 0}, {0, count, 0, count},
			} {
				var reads atomic.Int64
				c.all(only(func(context.Context, call) error { reads.Add(1); return nil }, "OpenFragment"), nil)
				parts, more, err := h.Parts(t.Context(), page.after, page.limit)
				c.all(nil, nil)
				if err != nil || len(parts) != page.n || more != (page.first+page.n < count) {
					t.Errorf("%d after %d: %d parts, more %v, %v", page.limit, page.after, len(parts), more, err)
					continue
				}
				for i, p := range parts {
					if want := x.step * (page.first + i + 1); int(p.Number) != want {
						t.Fatalf("%d after %d: part %d is number %d, not %d", page.limit, page.after, i, p.Number, want)
					}
				}
				if n := reads.Load(); n > int64(x.pages+page.n/manifestPage) {
					t.Errorf("%d after %d: %d reads", page.limit, page.after, n)
				}
			}
			for _, number := range []int{1, x.step, x.step * 1234, x.step * count, x.step*count + 1, 0, -1} {
				i := number/x.step - 1
				off, size, err := h.Part(t.Context(), number)
				if number < 1 || number%x.step != 0 || i >= count {
					wantKind(t, err, errs.BadRange)
				} else if err != nil || off != int64(i*3) || size != 3 {
					t.Errorf("part %d: %d bytes at %d, %v", number, size, off, err)
				}
			}
		})
	}
}

// paged returns an object of parts of 3 bytes, numbered in steps, whose list is a
// blob. The parts themselves are not there.
func (s *Service) paged(t *testing.T, co *catalog.Container, count, step int) *Handle {
	t.Helper()
	k, pol, err := s.objectKey(co, fmt.Sprint("paged ", step))
	if err != nil {
		t.Fatal(err)
	}
	m := &making{s: s, u: s.mustUpload(t, co, fmt.Sprint("paged ", step)), key: k, policy: pol}
	parts := make([]catalog.Part, count)
	for i := range parts {
		parts[i] = catalog.Part{Number: step * (i + 1), Size: 3, ETag: etag(nil), Coding: catalog.Coding{K: 1, BlockSize: testBlock}}
	}
	o, err := m.object(parts)
	if err != nil {
		t.Fatal(err)
	}
	st, err := m.storeList(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	o.Coding = st.coding
	return &Handle{Object: o, s: s, key: k, record: &register.Record{Group: m.u.group()}}
}

// What is rolled up is not gone through: a page of common prefixes costs its length,
// and so does the page behind one of them.
func TestListUploadsSkipsWhatItRollsUp(t *testing.T) {
	c := newCluster(t, policy.Replica(1), 1, fake)
	s := c.gateway(nil)
	co := s.mustContainer(t, "c")
	for range 4 {
		rows := make([]catalog.Row, peer.MaxPage)
		for i := range rows {
			id := s.clock.Now()
			rows[i] = catalog.Row{Name: uploadRow(fmt.Sprintf("b/\U0010FFFF%d", i), id.String()), Ballot: id, TS: id}
		}
		if err := s.putTable(t.Context(), co, catalog.Uploads, rows); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"a", "b0", "c/1", "c/2"} {
		s.mustUpload(t, co, name)
	}
	for _, x := range []struct {
		q     UploadQuery
		want  string
		calls int64
	}{
		{UploadQuery{Delimiter: "/", Limit: 10}, "a b/ b0 c/", 3},
		{UploadQuery{Delimiter: "/", Limit: 2}, "a b/ ...", 2},
		{UploadQuery{Delimiter: "/", Limit: 10, NameMarker: "b/"}, "b0 c/", 2},
		{UploadQuery{Delimiter: "/", Limit: 10, NameMarker: "b/x", IDMarker: "y"}, "b0 c/", 2},
		{UploadQuery{Delimiter: "/", Limit: 10, NameMarker: "b"}, "b/ b0 c/", 3},
		{UploadQuery{Delimiter: "/", Prefix: "c/", Limit: 1}, "c/1 ...", 1},
	} {
		var calls atomic.Int64
		c.all(only(func(context.Context, call) error { calls.Add(1); return nil }, "ListRows"), nil)
		p, err := s.ListUploads(t.Context(), co, &x.q)
		c.all(nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, u := range p.Uploads {
			got = append(got, u.Name)
		}
		if p.More {
			got = append(got, "...")
		}
		if s := strings.Join(got, " "); s != x.want || calls.Load() > x.calls {
			t.Errorf("%+v: %s in %d calls, want %s in %d", x.q, s, calls.Load(), x.want, x.calls)
		}
	}
}
