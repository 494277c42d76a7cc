package account

import (
	"context"
	"fmt"
	"testing"

	pvfs "github.com/cockroachdb/pebble/v2/vfs"

	"ringfort/internal/catalog"
	"ringfort/internal/catalog/catalogtest"
	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/peer"
	"ringfort/internal/register"
	"ringfort/internal/timestamp"
	"ringfort/internal/volume"
)

var ctx = context.Background()

func newServer(t *testing.T) *Server {
	v, err := volume.Open(ctx, volume.Config{Dir: "/vol", FS: pvfs.NewMem(), Spaces: Spaces()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	s, err := New(Config{Volume: v})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func at(n int) timestamp.T { return timestamp.T{Micros: uint64(n)} }

func row(name string, n int) catalog.Row {
	return catalog.Row{Name: name, Ballot: at(n), TS: at(n), Bytes: 3}
}

func write(t *testing.T, s *Server, key keyhash.Hash, n int, value []byte, tombstone bool) {
	t.Helper()
	a, err := s.Write(ctx, key, &register.Record{
		Ballot: at(n), TS: at(n), Op: at(n), Root: at(n), Mod: at(n), Value: value, Tombstone: tombstone,
	})
	if err != nil || !a.Accepted {
		t.Fatalf("%+v, %v", a, err)
	}
}

func TestWhichRowsAreTaken(t *testing.T) {
	s := newServer(t)
	key := keyhash.Hash{1}
	l := peer.Listing{Key: key, Table: catalog.Containers}
	put := func(l peer.Listing, name string, want errs.Kind) {
		t.Helper()
		err := s.PutRows(ctx, &l, []catalog.Row{row(name, 1)})
		if errs.KindOf(err) != want || (err == nil) != (want == errs.Other) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	put(l, "before its register", errs.Other)
	write(t, s, key, 1, catalogtest.Bytes(&catalog.Account{Name: "a"}), false)
	put(l, "live", errs.Other)
	put(peer.Listing{Key: key, Table: catalog.Objects}, "objects", errs.Invalid)
	put(peer.Listing{Key: key, Table: catalog.Versions}, "versions", errs.Invalid)
	put(peer.Listing{Key: key, Table: catalog.Containers, Incarnation: catalog.Incarnation{1}}, "incarnation", errs.Invalid)
	write(t, s, key, 2, catalogtest.Bytes(&catalog.Account{Name: "a", Deleted: true}), false)
	put(l, "deleted", errs.Gone)
	write(t, s, key, 3, nil, true)
	put(l, "again", errs.Other)
	write(t, s, key, 4, []byte{99}, false)
	put(l, "unreadable", errs.Corrupt)
	if _, err := s.ListRows(ctx, &peer.RowQuery{Listing: peer.Listing{Key: key, Table: catalog.Versions}, Limit: 1}); !errs.Is(err, errs.Invalid) {
		t.Error(err)
	}
}

func TestRows(t *testing.T) {
	s := newServer(t)
	l := peer.Listing{Key: keyhash.Hash{1}, Table: catalog.Containers}
	other := peer.Listing{Key: keyhash.Hash{2}, Table: catalog.Containers}
	gone := row("b", 2)
	gone.Deleted = true
	for _, r := range []catalog.Row{row("a", 1), row("b", 1), row("c", 1), gone} {
		if err := s.PutRows(ctx, &l, []catalog.Row{r}); err != nil {
			t.Fatal(err)
		}
	}
	p, err := s.ListRows(ctx, &peer.RowQuery{Listing: l, Limit: 10})
	if err != nil || len(p.Entries) != 2 || p.Entries[0].Name != "a" || p.Entries[1].Name != "c" {
		t.Errorf("%+v, %v", p, err)
	}
	st, err := s.GetRows(ctx, &l, []string{"a", "b", "d"})
	if got := fmt.Sprint(st[0].Row.Deleted, st[1].Row.Deleted, st[0].Found, st[1].Found, st[2].Found); err != nil || got != "false true true true false" {
		t.Errorf("%s, %v", got, err)
	}
	for l, want := range map[peer.Listing]peer.ListingStats{l: {Count: 2, Bytes: 6}, other: {}} {
		if got, err := s.ListingStats(ctx, &l); err != nil || got != want {
			t.Errorf("%+v, %v, want %+v", got, err, want)
		}
	}
}

// TestBucketDirectory: the registers of bucket names live beside the accounts'.
func TestBucketDirectory(t *testing.T) {
	s := newServer(t)
	key := keyhash.Hash{7}
	owner := catalog.BucketOwner{Bucket: "photos", Account: "main", Incarnation: catalog.Incarnation{4}}
	a, err := s.Prepare(ctx, key, at(1), timestamp.T{})
	if err != nil || !a.Accepted || a.State.Record != nil {
		t.Fatalf("%+v, %v", a, err)
	}
	write(t, s, key, 2, catalogtest.Bytes(&owner), false)
	st, err := s.Read(ctx, key, false)
	if err != nil || st.Record == nil || st.Committed {
		t.Fatalf("%+v, %v", st, err)
	}
	if got, err := catalog.DecodeBucketOwner(st.Record.Value); err != nil || *got != owner {
		t.Errorf("%+v, %v", got, err)
	}
	s.Settle([]register.Settled{{Key: key, Ballot: at(2)}})
	write(t, s, keyhash.Hash{8}, 1, nil, true) // the volume takes batches in order
	if st, err = s.Read(ctx, key, false); err != nil || !st.Committed {
		t.Errorf("%+v, %v", st, err)
	}
	if k, err := s.Learn(ctx, key); err != nil || k.Highest != at(2) || !k.Exists {
		t.Errorf("%+v, %v", k, err)
	}
}

// TestSpacesAreFrozen: the numbers are on disks.
func TestSpacesAreFrozen(t *testing.T) {
	got := ""
	for _, s := range Spaces() {
		got += fmt.Sprintf("%d %s kept=%v\n", s.ID, s.Name, s.Kept)
	}
	const want = `32 account registers kept=true
33 account register notes kept=true
34 account rows kept=false
36 account row tombstones kept=false
37 account row counters kept=false
`
	if got != want {
		t.Errorf("spaces are\n%swere\n%s", got, want)
	}
}
