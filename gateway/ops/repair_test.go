package ops

import (
	"bytes"
	"context"
	"slices"
	"testing"

	"ringfort/internal/blob"
	"ringfort/internal/catalog"
	"ringfort/internal/errs"
	"ringfort/internal/peer"
	"ringfort/internal/policy"
	"ringfort/internal/register"
	"ringfort/internal/timestamp"
)

// sleeper is a PUT that has written its fragments and is asleep before its record.
type sleeper struct {
	w     *writing
	o     *catalog.Object
	rec   register.Record
	group timestamp.T
}

func fallAsleep(t *testing.T, s *Service, co *catalog.Container, name string, body []byte) *sleeper {
	t.Helper()
	k, pol, err := s.objectKey(co, name)
	if err != nil {
		t.Fatal(err)
	}
	w := &writing{s: s, key: k, policy: pol, container: co, name: name}
	w.learn(t.Context())
	in := &intake{s: s, ctx: t.Context(), key: k, policy: pol, body: bytes.NewReader(body), size: int64(len(body)), max: MaxPartBytes}
	st, err := in.store(blob.ID{Group: s.clock.Now()})
	if err != nil {
		t.Fatal(err)
	}
	o := &catalog.Object{ContainerAccount: co.Account, Container: co.Name, Incarnation: co.Incarnation, Name: name}
	st.describe(o)
	return &sleeper{w, o, register.Record{Group: st.group}, st.group}
}

// A gateway that died between record and row: Deliver stores the row.
func TestDeliver(t *testing.T) {
	for _, b := range backends {
		c := newCluster(t, policy.EC(2, 2), 4, b.make)
		s, other := c.gateway(nil), c.gateway(nil)
		co := s.mustContainer(t, "c")
		mustPut(t, s, co, "old", random(1, 30000))
		c.all(only(down, "PutRows", "Settle"), nil)
		_, err := putBytes(t.Context(), s, co, "new", random(2, 30000))
		wantKind(t, err, errs.OutcomeUnknown)
		wantKind(t, s.Delete(t.Context(), co, "old", nil), errs.OutcomeUnknown)
		c.all(nil, nil)
		for _, name := range []string{"new", "old"} {
			k, _, err := s.objectKey(co, name)
			if err != nil {
				t.Fatal(err)
			}
			r, err := s.proposer.Read(t.Context(), k.quorum, false)
			if err != nil || r == nil {
				t.Fatalf("%+v, %v", r, err)
			}
			for range 2 { // again does no harm
				if err := other.Deliver(t.Context(), peer.Objects, k.place.Policy, k.hash, r.Value); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got, err := names(t.Context(), s, co, 10); err != nil || !slices.Equal(got, []string{"new"}) {
			t.Fatalf("%s: listed are %v, %v", b.name, got, err)
		}
		wantBytes(t, other, co, "new", random(2, 30000))
	}
}

// A record that fewer than W devices have may or may not take effect. Once it was
// seen it stays, and Deliver brings the listing up to it.
func TestDeliverFinishes(t *testing.T) {
	c := newCluster(t, policy.EC(2, 2), 4, real)
	s, other := c.gateway(nil), c.gateway(nil)
	co := s.mustContainer(t, "c")
	mustPut(t, s, co, "o", []byte("old"))
	settled(t, c, s, co, "o")
	k, _, err := s.objectKey(co, "o")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range k.place.Devices[1:] {
		d.Node.(*node).set(only(down, "Write", "Prepare"), nil)
	}
	_, err = putBytes(t.Context(), s, co, "o", []byte("new"))
	wantKind(t, err, errs.OutcomeUnknown)
	seen := ""
	for i := range 8 { // whoever is asked
		c.all(nil, nil)
		c.nodes[(7-i)%4].set(down, nil)
		got, _, err := get(t.Context(), s, co, "o")
		if err != nil {
			t.Fatal(err)
		}
		if seen == "new" && string(got) != seen {
			t.Fatalf("read %q after %q", got, seen)
		}
		seen = string(got)
	}
	c.all(nil, nil)
	if seen != "new" {
		t.Fatalf("every device was among those asked, and nobody saw what the first one has")
	}
	r, err := s.proposer.Read(t.Context(), k.quorum, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Deliver(t.Context(), peer.Objects, k.place.Policy, k.hash, r.Value); err != nil {
		t.Fatal(err)
	}
	p, err := s.List(t.Context(), co, &Query{Limit: 5})
	if err != nil || len(p.Items) != 1 || p.Items[0].ETag != etag([]byte("new")) {
		t.Fatalf("listed is %+v, %v", p, err)
	}
}

// Fragments that no record names are swept; then whoever wrote them is refused.
func TestSweep(t *testing.T) {
	for _, before := range []string{"", "inline", "blob"} {
		c := newCluster(t, policy.EC(2, 2), 4, real)
		s, other := c.gateway(nil), c.gateway(nil)
		co := s.mustContainer(t, "c")
		var old []byte
		switch before {
		case "inline":
			old = []byte("old")
		case "blob":
			old = random(9, 30000)
		}
		if old != nil {
			mustPut(t, s, co, "o", old)
		}
		blobs := c.watchBlobs()
		z := fallAsleep(t, s, co, "o", random(1, 30000))
		if n := c.fragments(s, co, "o", blobs.list()...); n != 4 {
			t.Fatalf("%d fragments", n)
		}
		swept, err := other.Sweep(t.Context(), 3, z.w.key.hash, z.group)
		if err != nil || !swept {
			t.Fatalf("%q: Sweep: %v, %v", before, swept, err)
		}
		if n := c.fragments(s, co, "o", blobs.list()...); n != 0 {
			t.Fatalf("%d fragments are left", n)
		}
		wantKind(t, z.w.commit(t.Context(), z.o, &z.rec), errs.Swept)
		if old == nil {
			_, err := s.Head(t.Context(), co, "o")
			wantKind(t, err, errs.NotFound)
		} else {
			wantBytes(t, s, co, "o", old)
		}
		mustPut(t, s, co, "o", random(4, 20000)) // the key is as good as ever
		wantBytes(t, other, co, "o", random(4, 20000))
	}
}

// What a record names is not swept, nor what an upload may yet make an object of.
func TestSweepSpares(t *testing.T) {
	c := newCluster(t, policy.EC(2, 2), 4, real)
	s := c.gateway(nil)
	co := s.mustContainer(t, "c")
	body := random(1, 30000)
	mustPut(t, s, co, "o", body)
	h, err := s.Open(t.Context(), co, "o")
	if err != nil {
		t.Fatal(err)
	}
	spared := func(owner *key, group timestamp.T) {
		t.Helper()
		swept, err := s.Sweep(t.Context(), 3, owner.hash, group)
		if err != nil || swept {
			t.Fatalf("Sweep: %v, %v", swept, err)
		}
	}
	spared(h.key, h.record.Group)
	wantBytes(t, s, co, "o", body)

	u := s.mustUpload(t, co, "o")
	s.mustPart(t, u, 1, body)
	spared(h.key, u.group())
	// Nor while the container may be deleted, and may live on.
	for _, state := range []catalog.ContainerState{catalog.Deleting, catalog.Live} {
		if _, _, err := s.changeContainer(t.Context(), "a", "c", func(c *catalog.Container, _ *register.Record) error {
			c.State = state
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		spared(h.key, u.group())
	}
	if _, err := complete(t.Context(), s, u); err != nil {
		t.Fatal(err)
	}
	spared(h.key, u.group())
	wantBytes(t, s, co, "o", body)

	// One that was aborted is swept, whatever its gateway did not come to.
	u = s.mustUpload(t, co, "p")
	s.mustPart(t, u, 1, body)
	k, _, err := s.objectKey(co, "p")
	if err != nil {
		t.Fatal(err)
	}
	m := &making{s: s, u: u, key: k}
	if err := m.change(t.Context(), func(st *catalog.Upload) error { st.State = catalog.UploadAborted; return nil }); err != nil {
		t.Fatal(err)
	}
	if swept, err := s.Sweep(t.Context(), 3, k.hash, u.group()); err != nil || !swept {
		t.Fatalf("Sweep: %v, %v", swept, err)
	}
	_, err = s.Sweep(t.Context(), 99, k.hash, u.group())
	wantKind(t, err, errs.Invalid)
}

// While too few devices answer nothing is swept.
func TestSweepNeedsQuorums(t *testing.T) {
	c := newCluster(t, policy.EC(2, 2), 4, real)
	s := c.gateway(nil)
	co := s.mustContainer(t, "c")
	blobs := c.watchBlobs()
	z := fallAsleep(t, s, co, "o", random(1, 30000))
	c.all(nil, nil)
	for i := range 2 {
		c.nodes[i].set(only(down, "Prepare"), nil)
	}
	if swept, err := s.Sweep(t.Context(), 3, z.w.key.hash, z.group); err == nil || swept {
		t.Fatalf("Sweep: %v, %v", swept, err)
	}
	if n := c.fragments(s, co, "o", blobs.list()...); n != 4 {
		t.Fatalf("%d fragments are left", n)
	}
	c.all(nil, nil)
	// Its writer may be refused all the same: some devices have promised to.
	if err := z.w.commit(t.Context(), z.o, &z.rec); err != nil {
		wantKind(t, err, errs.Swept)
		return
	}
	wantBytes(t, s, co, "o", random(1, 30000))
}

// Records of a container that is gone are buried, and of nothing else.
func TestDeliverBuries(t *testing.T) {
	c := newCluster(t, policy.EC(2, 2), 4, real)
	s := c.gateway(nil)
	co := s.mustContainer(t, "c")
	c.all(func(_ context.Context, x call) error {
		if x.name == "PutRows" && x.table == catalog.Objects {
			return errDown
		}
		return nil
	}, nil)
	_, err := putBytes(t.Context(), s, co, "o", []byte("x"))
	wantKind(t, err, errs.OutcomeUnknown)
	c.all(nil, nil)
	if err := s.DeleteContainer(t.Context(), "a", "c"); err != nil {
		t.Fatal(err) // the object was not acknowledged
	}
	k, _, err := s.objectKey(co, "o")
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.proposer.Read(t.Context(), k.quorum, false)
	if err != nil || r.Tombstone {
		t.Fatal(r, err)
	}
	s.mustContainer(t, "c") // made again
	if err := s.Deliver(t.Context(), peer.Objects, k.place.Policy, k.hash, r.Value); err != nil {
		t.Fatal(err)
	}
	if r, err = s.proposer.Read(t.Context(), k.quorum, false); err != nil || !r.Tombstone {
		t.Fatalf("%+v, %v", r, err)
	}
	for _, svc := range []peer.Service{peer.Accounts, peer.Containers} {
		if err := s.Deliver(t.Context(), svc, 0, s.secret.Of(1, "never"), nil); err != nil {
			t.Error(err)
		}
	}
	if err := s.Deliver(t.Context(), peer.Objects, k.place.Policy, k.hash, []byte("not a record's value")); err == nil {
		t.Error("delivered what is no record")
	}
}
