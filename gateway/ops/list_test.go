package ops

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"ringfort/internal/catalog"
	"ringfort/internal/errs"
	"ringfort/internal/listing/listingtest"
	"ringfort/internal/peer"
	"ringfort/internal/policy"
	"ringfort/internal/timestamp"
)

// Listings by every option against a model, while devices miss some of the writes.
func TestListModel(t *testing.T) {
	for _, seed := range []uint64{1, 2, 3} {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 7))
			c := newCluster(t, policy.Replica(3), 3, real)
			s := c.gateway(nil)
			co := s.mustContainer(t, "c")
			live := map[string]bool{}
			var model listingtest.Model
			for step := range 200 {
				if step%20 == 0 { // another one is away for a while
					c.all(nil, nil)
					if i := r.IntN(4); i < 3 {
						c.nodes[i].set(down, nil)
					}
				}
				name := []string{"a", "b", "a/", "a/b", "a/b/c", "a//", "ä", "b/1", "b0", "zz"}[r.IntN(10)]
				if r.IntN(3) > 0 {
					name += string(rune('0' + r.IntN(5)))
				}
				ts := timestamp.T{Micros: uint64(step + 1)}
				row := catalog.Row{Name: name, Ballot: ts, TS: ts}
				if row.Deleted = r.IntN(3) == 0; row.Deleted {
					err := s.Delete(t.Context(), co, name, nil)
					if live[name] && err != nil || !live[name] && !errs.Is(err, errs.NotFound) {
						t.Fatalf("Delete %q, which was there: %v: %v", name, live[name], err)
					}
				} else {
					row.Bytes = r.Int64N(50)
					mustPut(t, s, co, name, random(uint64(step), int(row.Bytes)))
				}
				live[name] = !row.Deleted
				model.Put(row)
				for range 2 {
					compare(t, r, s, co, &model)
				}
			}
			c.all(nil, nil)
			for range 100 {
				compare(t, r, s, co, &model)
			}
		})
	}
}

// compare asks for a random page, and for all pages after it.
func compare(t *testing.T, r *rand.Rand, s *Service, co *catalog.Container, model *listingtest.Model) {
	t.Helper()
	q := listingtest.Query(r, peer.Listing{})
	for range 50 {
		want, err := model.ListRows(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.List(t.Context(), co, &Query{
			Prefix: q.Prefix, Delimiter: q.Delimiter, Marker: q.Marker, EndMarker: q.EndMarker,
			Inclusive: q.Inclusive, Reverse: q.Reverse, Limit: q.Limit,
		})
		if err != nil {
			t.Fatalf("%+v: %v", q, err)
		}
		lines := func(i int) string {
			return fmt.Sprintf("%q %v %d", got.Items[i].Name, got.Items[i].CommonPrefix, got.Items[i].Size)
		}
		var have, expect []string
		for i := range got.Items {
			have = append(have, lines(i))
		}
		for _, e := range want.Entries {
			if e.CommonPrefix != "" {
				expect = append(expect, fmt.Sprintf("%q true 0", e.CommonPrefix))
			} else {
				expect = append(expect, fmt.Sprintf("%q false %d", e.Name, e.Bytes))
			}
		}
		if !slices.Equal(have, expect) || want.More && !got.More {
			t.Fatalf("%+v:\ngot  %v %v\nwant %v %v", q, have, got.More, expect, want.More)
		}
		if !want.More {
			return
		}
		q.Marker, q.Inclusive = got.Items[len(got.Items)-1].Name, false
	}
}

// Containers are listed in the same way.
func TestListContainers(t *testing.T) {
	c := newCluster(t, policy.Replica(3), 3, real)
	s := c.gateway(nil)
	for i, n := range []string{"a", "b", "b-1", "b-2", "c"} {
		c.all(nil, nil)
		c.nodes[i%3].set(only(down, "PutRows"), nil)
		if _, _, err := s.CreateContainer(t.Context(), &catalog.Container{Account: "a", Name: n}); err != nil {
			t.Fatal(err)
		}
	}
	c.all(nil, nil)
	for _, x := range []struct {
		q    Query
		want []string
		more bool
	}{
		{Query{Limit: 10}, []string{"a", "b", "b-1", "b-2", "c"}, false},
		{Query{Limit: 2}, []string{"a", "b"}, true},
		{Query{Limit: 10, Marker: "b"}, []string{"b-1", "b-2", "c"}, false},
		{Query{Limit: 10, Prefix: "b", Delimiter: "-"}, []string{"b", "b-*"}, false},
		{Query{Limit: 10, Reverse: true, EndMarker: "b"}, []string{"c", "b-2", "b-1"}, false},
	} {
		list, more, err := s.ListContainers(t.Context(), "a", &x.q)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, i := range list {
			n := i.Name
			if i.Prefix {
				n += "*"
			} else if i.Created.IsZero() || i.Policy != "default" {
				t.Errorf("%+v", i)
			}
			got = append(got, n)
		}
		if !slices.Equal(got, x.want) || more != x.more {
			t.Errorf("%+v: %v, %v", x.q, got, more)
		}
	}
	for _, limit := range []int{0, -1, peer.MaxPage + 1} {
		_, _, err := s.ListContainers(t.Context(), "a", &Query{Limit: limit})
		wantKind(t, err, errs.Invalid)
	}
}
