package ops

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ringfort/internal/catalog"
	"ringfort/internal/errs"
	"ringfort/internal/peer"
	"ringfort/internal/policy"
)

// Of many PUTs that ask for no object to be there, one creates it.
func TestIfNoneMatchRace(t *testing.T) {
	for _, spec := range []policy.Spec{policy.Replica(1), policy.Replica(2), policy.EC(2, 2)} {
		c := newCluster(t, spec, 3, real)
		gateways := []*Service{c.gateway(nil), c.gateway(nil)}
		co := gateways[0].mustContainer(t, "c")
		for round := range 6 {
			name := fmt.Sprint("o", round)
			size := []int{10, testInline + 5000}[round%2]
			var won, unknown atomic.Int32
			var winner atomic.Int32
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					body := random(uint64(i), size)
					_, err := gateways[i%2].Put(t.Context(), &Put{Container: co, Name: name, Body: bytes.NewReader(body), Size: int64(size),
						Judge: func(cur *catalog.Object) error {
							if cur != nil {
								return errs.New("test", errs.Precondition, "there is one")
							}
							return nil
						}})
					switch {
					case err == nil:
						won.Add(1)
						winner.Store(int32(i))
					case errs.Is(err, errs.OutcomeUnknown):
						unknown.Add(1)
					case !errs.Is(err, errs.Precondition):
						t.Errorf("Put: %v", err)
					}
				})
			}
			wg.Wait()
			if won.Load() > 1 || won.Load() == 0 && unknown.Load() == 0 {
				t.Fatalf("%v: %d have won, %d do not know", spec, won.Load(), unknown.Load())
			}
			if won.Load() == 1 {
				wantBytes(t, gateways[1], co, name, random(uint64(winner.Load()), size))
			}
		}
	}
}

// If-Match makes a counter that loses nothing.
func TestIfMatchRace(t *testing.T) {
	c := newCluster(t, policy.EC(2, 2), 4, real)
	gateways := []*Service{c.gateway(nil), c.gateway(nil)}
	co := gateways[0].mustContainer(t, "c")
	mustPut(t, gateways[0], co, "o", nil)
	var added atomic.Int64
	var wg sync.WaitGroup
	for i := range 6 {
		s := gateways[i%2]
		wg.Go(func() {
			for range 5 {
				got, o, err := get(t.Context(), s, co, "o")
				if err != nil {
					t.Errorf("Get: %v", err)
					return
				}
				_, err = s.Put(t.Context(), &Put{Container: co, Name: "o", Body: strings.NewReader(string(got) + "x"), Size: int64(len(got)) + 1,
					Judge: func(cur *catalog.Object) error {
						if cur == nil || cur.ETag != o.ETag {
							return errs.New("test", errs.Precondition, "another one")
						}
						return nil
					}})
				switch {
				case err == nil:
					added.Add(1)
				case !errs.Is(err, errs.Precondition):
					t.Errorf("Put: %v", err)
				}
			}
		})
	}
	wg.Wait()
	got, _, err := get(t.Context(), gateways[0], co, "o")
	if err != nil || int64(len(got)) != added.Load() {
		t.Fatalf("%d were added, there are %d, %v", added.Load(), len(got), err)
	}
	t.Logf("%d were added", added.Load())
}

// Objects that are overwritten, changed, deleted and read all at once are always
// whole: bytes, ETag and metadata are of one write.
func TestOverwrites(t *testing.T) {
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			c := newCluster(t, policy.EC(2, 2), 4, b.make)
			gateways := []*Service{c.gateway(nil), c.gateway(nil)}
			co := gateways[0].mustContainer(t, "c")
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			var reads, changes atomic.Int64
			var wg sync.WaitGroup
			ok := func(err error, kinds ...errs.Kind) bool {
				if err == nil || ctx.Err() != nil {
					return err == nil
				}
				for _, k := range kinds {
					if errs.Is(err, k) {
						return false
					}
				}
				t.Error(err)
				return false
			}
			for i := range 6 {
				s := gateways[i%2]
				wg.Go(func() {
					for n := 0; ctx.Err() == nil; n++ {
						name := fmt.Sprint("o", n%2)
						switch i {
						case 0, 1:
							body := random(uint64(n*2+i), []int{0, 50, testInline, 5 * testBlock, 11 * testBlock}[n%5])
							_, err := s.Put(ctx, &Put{Container: co, Name: name, Body: bytes.NewReader(body), Size: int64(len(body)),
								Meta: catalog.Pairs{{Name: "meta-sum", Value: etag(body)}}})
							ok(err)
						case 2:
							_, err := s.Modify(ctx, co, name, func(o *catalog.Object) error {
								o.Meta = o.Meta.With("meta-changed", o.ETag)
								return nil
							})
							if ok(err, errs.NotFound, errs.OutcomeUnknown) {
								changes.Add(1)
							}
						case 3:
							if n%8 == 0 {
								ok(s.Delete(ctx, co, name, nil), errs.NotFound)
							}
							fallthrough
						default:
							got, o, err := get(ctx, s, co, name)
							if !ok(err, errs.NotFound) {
								continue
							}
							reads.Add(1)
							if o.ETag != etag(got) || o.Meta.Get("meta-sum") != o.ETag || o.Size != int64(len(got)) {
								t.Errorf("%s is not of one write: %d bytes, %+v", name, len(got), o)
							}
							if changed, is := o.Meta.Lookup("meta-changed"); is && changed != o.ETag {
								t.Errorf("%s has the metadata of another write", name)
							}
						}
					}
				})
			}
			wg.Wait()
			if reads.Load() == 0 || changes.Load() == 0 {
				t.Errorf("%d reads, %d changes: the test is of no use", reads.Load(), changes.Load())
			}
			t.Logf("%d reads, %d changes", reads.Load(), changes.Load())
		})
	}
}

// A conditional DELETE and a PUT: the DELETE takes what it has judged and no other.
func TestConditionalDelete(t *testing.T) {
	c := newCluster(t, policy.EC(2, 2), 4, real)
	s := c.gateway(nil)
	co := s.mustContainer(t, "c")
	is := func(want string) func(*catalog.Object) error {
		return func(cur *catalog.Object) error {
			if cur == nil || cur.ETag != want {
				return errs.New("test", errs.Precondition, "another one")
			}
			return nil
		}
	}
	o := mustPut(t, s, co, "o", []byte("1"))
	wantKind(t, s.Delete(t.Context(), co, "o", is("x")), errs.Precondition)
	wantBytes(t, s, co, "o", []byte("1"))
	mustPut(t, s, co, "o", []byte("2"))
	wantKind(t, s.Delete(t.Context(), co, "o", is(o.ETag)), errs.Precondition)
	if err := s.Delete(t.Context(), co, "o", is(etag([]byte("2")))); err != nil {
		t.Fatal(err)
	}
	wantKind(t, s.Delete(t.Context(), co, "o", nil), errs.NotFound)
	wantKind(t, s.Delete(t.Context(), co, "o", func(*catalog.Object) error { return nil }), errs.NotFound)
	_, err := s.Modify(t.Context(), co, "o", func(*catalog.Object) error { return nil })
	wantKind(t, err, errs.NotFound)
}

// A DELETE of what no device knows writes nothing.
func TestDeleteOfNothing(t *testing.T) {
	c := newCluster(t, policy.EC(2, 2), 4, fake)
	s := c.gateway(nil)
	co := s.mustContainer(t, "c")
	var wrote atomic.Int32
	c.all(func(_ context.Context, x call) error {
		if x.service == peer.Objects && (x.name == "Write" || x.name == "Prepare") || x.name == "PutRows" && x.table == catalog.Objects {
			wrote.Add(1)
		}
		return nil
	}, nil)
	wantKind(t, s.Delete(t.Context(), co, "never", nil), errs.NotFound)
	if wrote.Load() > 0 {
		t.Errorf("%d writes", wrote.Load())
	}
	k, _, err := s.objectKey(co, "never")
	if err != nil {
		t.Fatal(err)
	}
	if st, err := k.place.Devices[0].Node.Read(t.Context(), k.target(&k.place.Devices[0]), peer.Objects, k.hash, false); err != nil || st.Record != nil {
		t.Errorf("%+v, %v", st, err)
	}
}
