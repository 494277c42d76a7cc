package ops

import (
	"bytes"
	"context"
	"testing"
	"time"

	"ringfort/internal/catalog"
	"ringfort/internal/catalog/catalogtest"
	"ringfort/internal/errs"
	"ringfort/internal/peer"
	"ringfort/internal/policy"
	"ringfort/internal/register"
)

// A record that was chosen keeps its bytes, also when its row cannot be stored:
// it has replaced what was there.
func TestRowsFailAfterTheRecord(t *testing.T) {
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			c := newCluster(t, policy.EC(2, 2), 4, b.make)
			s := c.gateway(func(cfg *Config) { cfg.Timeout = time.Second })
			co := s.mustContainer(t, "c")
			mustPut(t, s, co, "o", random(1, 40*testBlock))
			c.all(only(down, "PutRows"), nil)
			second := random(2, 50*testBlock)
			_, err := putBytes(t.Context(), s, co, "o", second)
			wantKind(t, err, errs.OutcomeUnknown)
			wantKind(t, s.Delete(t.Context(), co, "o", func(o *catalog.Object) error {
				return errs.New("test", errs.Precondition, "")
			}), errs.Precondition)
			_, err = s.Modify(t.Context(), co, "o", func(o *catalog.Object) error {
				o.ContentType = "changed"
				return nil
			})
			wantKind(t, err, errs.OutcomeUnknown)
			c.all(nil, nil)
			wantBytes(t, s, co, "o", second)
			o, err := s.Head(t.Context(), co, "o")
			if err != nil || o.ContentType != "changed" {
				t.Fatalf("Head: %+v, %v", o, err)
			}
			c.all(only(down, "PutRows"), nil)
			wantKind(t, s.Delete(t.Context(), co, "o", nil), errs.OutcomeUnknown)
			c.all(nil, nil)
			_, err = s.Head(t.Context(), co, "o")
			wantKind(t, err, errs.NotFound)
		})
	}
}

// A PUT into a container that is being deleted waits for what becomes of it.
func TestPutWhileDeleting(t *testing.T) {
	for _, end := range []catalog.ContainerState{catalog.Live, catalog.Deleted} {
		c := newCluster(t, policy.EC(2, 2), 4, real)
		s := c.gateway(nil)
		co := s.mustContainer(t, "c")
		body := random(2, 40*testBlock)
		mustPut(t, s, co, "o", random(1, 40*testBlock))
		blobs := c.watchBlobs()
		set := func(state catalog.ContainerState) {
			if _, _, err := s.changeContainer(t.Context(), "a", "c", func(c *catalog.Container, _ *register.Record) error {
				c.State = state
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		set(catalog.Deleting)
		done := make(chan error, 1)
		refused := make(chan struct{}, 100)
		c.all(nil, func(_ context.Context, x call) error {
			if x.name == "Read" && x.service == peer.Containers {
				refused <- struct{}{}
			}
			return nil
		})
		go func() {
			_, err := putBytes(t.Context(), s, co, "o", body)
			done <- err
		}()
		<-refused // its rows were refused, and it looks why
		c.all(nil, nil)
		// The replicator comes across the record meanwhile.
		k, _, err := s.objectKey(co, "o")
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.proposer.Read(t.Context(), k.quorum, false)
		if err != nil {
			t.Fatal(err)
		}
		deliver := make(chan error, 1)
		go func() { deliver <- s.Deliver(t.Context(), peer.Objects, k.place.Policy, k.hash, r.Value) }()
		set(end)
		err = <-done
		if derr := <-deliver; derr != nil && end == catalog.Live {
			t.Errorf("Deliver: %v", derr)
		}
		if end == catalog.Live {
			if err != nil {
				t.Fatalf("the container stays, and Put says %v", err)
			}
			wantBytes(t, s, co, "o", body)
			continue
		}
		wantKind(t, err, errs.NoBucket)
		eventually(t, "no fragment is left", func() bool { return c.fragments(s, co, "o", blobs.list()...) == 0 })
	}
}

// A tombstone on one device that was never chosen proves nothing: a DELETE that is
// told of it alone must not say that there is no such object.
func TestDeleteAsksForProof(t *testing.T) {
	for _, spec := range []policy.Spec{policy.Replica(2), policy.EC(2, 2)} {
		c := newCluster(t, spec, 3, real)
		s := c.gateway(nil)
		co := s.mustContainer(t, "c")
		mustPut(t, s, co, "o", []byte("x"))
		k, _, err := s.objectKey(co, "o")
		if err != nil {
			t.Fatal(err)
		}
		// R devices, which are fewer than W here, have it; a gateway died there.
		ts := s.clock.Now()
		gone := &catalog.Object{ContainerAccount: "a", Container: "c", Incarnation: co.Incarnation, Name: "o"}
		for i := range k.quorum.R {
			d := &k.place.Devices[i]
			a, err := d.Node.Write(t.Context(), k.target(d), peer.Objects, k.hash, &register.Record{
				Ballot: ts, TS: ts, Op: ts, Root: ts, Mod: ts, Tombstone: true, Value: catalogtest.Bytes(gone),
			})
			if err != nil || !a.Accepted {
				t.Fatalf("%+v, %v", a, err)
			}
		}
		err = s.Delete(t.Context(), co, "o", nil)
		if err != nil {
			wantKind(t, err, errs.NotFound)
		}
		for range 4 { // whoever is asked
			if _, err := s.Head(t.Context(), co, "o"); !errs.Is(err, errs.NotFound) {
				t.Fatalf("%v: deleted, and Head says %v", spec, err)
			}
			c.nodes = append(c.nodes[1:], c.nodes[0])
		}
	}
}

// What was learnt at the start of a long upload need not have been to be had.
func TestOutageWhileTheBodyArrives(t *testing.T) {
	c := newCluster(t, policy.EC(2, 2), 4, fake)
	s := c.gateway(nil)
	co := s.mustContainer(t, "c")
	c.all(only(down, "Learn"), nil)
	asked := make(chan struct{}, 100)
	c.all(func(_ context.Context, x call) error {
		if x.name == "Learn" {
			asked <- struct{}{}
			return errDown
		}
		return nil
	}, nil)
	body := random(1, 20*testBlock)
	p := &Put{Container: co, Name: "o", Size: int64(len(body)), Body: &during{Reader: bytes.NewReader(body), at: func() {
		for range 4 {
			<-asked // all were asked, and failed
		}
		c.all(nil, nil)
	}}}
	if _, err := s.Put(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	wantBytes(t, s, co, "o", body)
}

// during is a body that calls at once, when it is first read.
type during struct {
	*bytes.Reader
	at func()
}

func (d *during) Read(p []byte) (int, error) {
	if d.at != nil {
		d.at()
		d.at = nil
	}
	return d.Reader.Read(p)
}
