package ops

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/bits"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"ringfort/internal/blob"
	"ringfort/internal/catalog"
	"ringfort/internal/errs"
	"ringfort/internal/peer"
	"ringfort/internal/policy"
)

// big is a size of several stripes under every policy.
func big(spec policy.Spec) int { return 3*spec.K*testBlock + testInline + 777 }

// reads are what has to work while as many devices are down as a policy says.
func reads(ctx context.Context, s *Service, co *catalog.Container, small, large []byte) map[string]error {
	out := map[string]error{}
	check := func(name string, want []byte) error {
		got, o, err := get(ctx, s, co, name)
		if err == nil && (!bytes.Equal(got, want) || o.ETag != etag(want)) {
			err = errs.New("test", errs.Corrupt, "%d bytes, other than the %d that were put", len(got), len(want))
		}
		return err
	}
	out["GET small"] = check("small", small)
	out["GET large"] = check("large", large)
	_, out["HEAD"] = s.Head(ctx, co, "large")
	_, err := s.Head(ctx, co, "absent")
	if errs.Is(err, errs.NotFound) {
		err = nil
	} else if err == nil {
		err = errs.New("test", errs.Corrupt, "an absent object was found")
	}
	out["HEAD of nothing"] = err
	list, err := names(ctx, s, co, 1)
	if err == nil && !slices.Equal(list, []string{"large", "small"}) {
		err = errs.New("test", errs.Corrupt, "listed are %v", list)
	}
	out["LIST"] = err
	_, out["container"] = s.Fresh(ctx, "a", co.Name)
	return out
}

// With as many devices down as the policy says, whichever, reads work; with one
// more they work or say that they cannot.
func TestSurvivesReads(t *testing.T) {
	for _, spec := range testPolicies {
		t.Run(spec.String(), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, spec, 0, fake)
			s := c.gateway(nil)
			co := s.mustContainer(t, "c")
			small, large := random(1, 100), random(2, big(spec))
			mustPut(t, s, co, "small", small)
			mustPut(t, s, co, "large", large)
			settled(t, c, s, co, "small", "large")
			survives := spec.SurvivesReads(c.listing)
			broken := 0
			for k := range survives + 2 {
				subsets(len(c.nodes), k, func(pick []int) {
					c.all(nil, nil)
					for _, i := range pick {
						c.nodes[i].set(down, nil)
					}
					for what, err := range reads(t.Context(), s, co, small, large) {
						switch {
						case err == nil:
						case k <= survives:
							t.Errorf("%s with devices %v down: %v", what, pick, err)
						case !errs.Is(err, errs.Unavailable):
							t.Errorf("%s with devices %v down, one too many: %v", what, pick, err)
						default:
							broken++
						}
					}
				})
			}
			if broken == 0 {
				t.Errorf("%v survives more than the %d failures it states", spec, survives)
			}
		})
	}
}

// settled waits until every device has been told that the objects' records were
// chosen.
func settled(t testing.TB, c *cluster, s *Service, co *catalog.Container, list ...string) {
	t.Helper()
	for _, name := range list {
		k, _, err := s.objectKey(co, name)
		if err != nil {
			t.Fatal(err)
		}
		for i := range k.quorum.Replicas {
			d := &k.place.Devices[i]
			eventually(t, "a device has the record", func() bool {
				st, err := d.Node.(*node).Node.Read(t.Context(), k.target(d), peer.Objects, k.hash, false)
				return err == nil && st.Record != nil
			})
		}
	}
}

// The same for writes. One that fails leaves nothing half-written behind.
func TestSurvivesWrites(t *testing.T) {
	for _, spec := range testPolicies {
		t.Run(spec.String(), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, spec, 0, fake)
			s := c.gateway(nil)
			co := s.mustContainer(t, "c")
			survives := spec.SurvivesWrites(c.listing)
			broken, n := 0, 0
			for k := range survives + 2 {
				subsets(len(c.nodes), k, func(pick []int) {
					n++
					for _, size := range []int{100, big(spec)} {
						c.all(nil, nil)
						old, body := random(3, size), random(uint64(n), size)
						over, fresh, gone := fmt.Sprintf("over-%d-%d", n, size), fmt.Sprintf("new-%d-%d", n, size), fmt.Sprintf("gone-%d-%d", n, size)
						mustPut(t, s, co, over, old)
						mustPut(t, s, co, gone, old)
						settled(t, c, s, co, over, gone)
						for _, i := range pick {
							c.nodes[i].set(down, nil)
						}
						o, ferr := putBytes(t.Context(), s, co, fresh, body)
						_, oerr := putBytes(t.Context(), s, co, over, body)
						derr := s.Delete(t.Context(), co, gone, nil)
						c.all(nil, nil)
						for what, err := range map[string]error{"PUT": ferr, "PUT over another": oerr, "DELETE": derr} {
							switch {
							case err == nil:
							case k <= survives:
								t.Errorf("%s of %d bytes with devices %v down: %v", what, size, pick, err)
							case !errs.Is(err, errs.Unavailable) && !errs.Is(err, errs.OutcomeUnknown):
								t.Errorf("%s of %d bytes with devices %v down, one too many: %v", what, size, pick, err)
							default:
								broken++
							}
						}
						whole(t, s, co, fresh, ferr, nil, body)
						whole(t, s, co, over, oerr, old, body)
						whole(t, s, co, gone, derr, old, nil)
						if ferr == nil && size > testInline {
							checkMissing(t, s, o, pick, co, fresh)
						}
					}
				})
			}
			if broken == 0 {
				t.Errorf("%v survives more than the %d failures it states", spec, survives)
			}
		})
	}
}

// whole checks that an object is as it was before a write, or as after it, and the
// latter if it was acknowledged. nil is no object.
func whole(t *testing.T, s *Service, co *catalog.Container, name string, acked error, before, after []byte) {
	t.Helper()
	got, _, err := get(t.Context(), s, co, name)
	if errs.Is(err, errs.NotFound) {
		got, err = nil, nil
	}
	switch {
	case err != nil:
		t.Errorf("Get %s after %v: %v", name, acked, err)
	case bytes.Equal(got, after) && (got == nil) == (after == nil):
	case acked == nil || errs.Is(acked, errs.Unavailable) && !bytes.Equal(got, before):
		t.Errorf("%s has %d bytes after a write that ended with %v", name, len(got), acked)
	case bytes.Equal(got, before):
	default:
		t.Errorf("%s is neither as before nor as after: %d bytes", name, len(got))
	}
	list, err := s.List(t.Context(), co, &Query{Prefix: name, Limit: 1})
	if err != nil || acked == nil && (len(list.Items) == 1) != (after != nil) {
		t.Errorf("%s after a write that ended with %v: listed are %v, %v", name, acked, list, err)
	}
}

// checkMissing checks that a record names the fragments that were not synced.
func checkMissing(t *testing.T, s *Service, o *catalog.Object, pick []int, co *catalog.Container, name string) {
	t.Helper()
	k, pol, err := s.objectKey(co, name)
	if err != nil {
		t.Fatal(err)
	}
	var want uint16
	for i := range pol.Spec.Fragments() {
		if slices.Contains(pick, int(k.place.Devices[i].ID)-1) {
			want |= 1 << i
		}
	}
	head, err := s.Head(t.Context(), co, name)
	if err != nil || o.Missing != want || head.Missing != want {
		t.Errorf("%s: missing are %b and %b, not %b: %v", name, o.Missing, head.Missing, want, err)
	}
}

// Too few fragments, in whatever way the others fail: refused, and nothing left.
func TestTooFewFragments(t *testing.T) {
	full := func(context.Context, call) error { return errs.New("test", errs.Full, "no space") }
	spec := policy.EC(3, 2)
	for _, where := range []string{"CreateFragment", "WriteFragment", "CommitFragment"} {
		for _, x := range []struct {
			fault fault
			kind  errs.Kind
		}{{down, errs.Unavailable}, {full, errs.Full}} {
			for _, size := range []int{testInline + 1, 40 * spec.K * testBlock} {
				c := newCluster(t, spec, 0, fake)
				s := c.gateway(nil)
				co := s.mustContainer(t, "c")
				blobs := c.watchBlobs()
				for i := range spec.Fragments() - spec.MinFragments() + 1 {
					if i > 0 {
						if _, err := putBytes(t.Context(), s, co, "good", random(1, size)); err != nil {
							t.Errorf("%s fails on %d devices: %v", where, i, err)
						}
					}
					c.nodes[i].set(only(x.fault, where), nil)
				}
				good := blobs.list()
				_, err := putBytes(t.Context(), s, co, "o", random(1, size))
				wantKind(t, err, x.kind)
				_, err = s.Head(t.Context(), co, "o")
				wantKind(t, err, errs.NotFound)
				c.all(nil, nil)
				bad := slices.DeleteFunc(blobs.list(), func(id blob.ID) bool { return slices.Contains(good, id) })
				eventually(t, "no fragment is left", func() bool { return c.fragments(s, co, "o", bad...) == 0 })
				eventually(t, "all memory is given back", func() bool { return s.lent() == 0 })
			}
		}
	}
}

// Answers that are lost are as bad as devices that are down, and no worse.
func TestLostAnswers(t *testing.T) {
	spec := policy.EC(2, 2)
	c := newCluster(t, spec, 0, fake)
	s := c.gateway(nil)
	co := s.mustContainer(t, "c")
	for i, n := range c.nodes {
		n.set(nil, down)
		body := random(uint64(i), big(spec))
		mustPut(t, s, co, "o", body)
		mustPut(t, s, co, "p", body[:10])
		n.set(nil, nil)
		wantBytes(t, s, co, "o", body)
		wantBytes(t, s, co, "p", body[:10])
		if err := s.Delete(t.Context(), co, "p", nil); err != nil {
			t.Fatal(err)
		}
		_, err := s.Head(t.Context(), co, "p")
		wantKind(t, err, errs.NotFound)
	}
}

// Fragments with flipped bits are passed over, wherever in the object they are.
func TestCorruptFragments(t *testing.T) {
	for _, spec := range []policy.Spec{policy.Replica(3), policy.EC(2, 2), policy.EC(4, 2), policy.EC(8, 4)} {
		t.Run(spec.String(), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, spec, 0, fake)
			s := c.gateway(nil)
			co := s.mustContainer(t, "c")
			body := random(1, 10*spec.K*testBlock+321)
			mustPut(t, s, co, "o", body)
			n := 0
			for k := 1; k <= spec.M+1; k++ {
				subsets(spec.Fragments(), k, func(pick []int) {
					if n++; k > 2 && n%11 != 0 {
						return // enough of those
					}
					for i, n := range c.nodes {
						var f fault
						if slices.Contains(pick, i) {
							calls := i // a bad block further and further in
							f = only(func(context.Context, call) error {
								if calls--; calls < 0 {
									return errs.New("test", errs.Corrupt, "bits have flipped")
								}
								return nil
							}, "ReadFragment")
						}
						n.set(f, nil)
					}
					got, _, err := get(t.Context(), s, co, "o")
					if err != nil && k <= spec.M || err == nil && !bytes.Equal(got, body) {
						t.Fatalf("fragments on devices %v are bad: %d bytes, %v", pick, len(got), err)
					}
					if err != nil {
						wantKind(t, err, errs.Unavailable)
					}
				})
			}
			c.all(nil, nil)
			eventually(t, "all memory is given back", func() bool { return s.lent() == 0 })
		})
	}
}

// took runs fn and fails if it takes longer than it may, in the bubble's time.
func took(t *testing.T, what string, most time.Duration, fn func() error) error {
	t.Helper()
	begun := time.Now()
	err := fn()
	if d := time.Since(begun); d > most {
		t.Errorf("%s took %v, more than %v (%v)", what, d, most, err)
	}
	return err
}

// A device that never answers costs a bounded time: little while enough others
// do, and at most the time-out when too few are left.
func TestHungDevices(t *testing.T) {
	for _, spec := range []policy.Spec{policy.Replica(3), policy.EC(2, 2), policy.EC(4, 2), policy.EC(8, 4)} {
		t.Run(spec.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, spec, 0, fake)
				s := c.gateway(nil)
				co := s.mustContainer(t, "c")
				small, large := random(1, 100), random(2, big(spec))
				mustPut(t, s, co, "small", small)
				mustPut(t, s, co, "large", large)
				settled(t, c, s, co, "small", "large")
				can := min(spec.SurvivesWrites(c.listing), spec.SurvivesReads(c.listing))
				n := 0
				for k := 1; k <= len(c.nodes); k += max(1, min(can-k+1, 3)) {
					subsets(len(c.nodes), k, func(pick []int) {
						if n++; n%7 != 1 && len(c.nodes) > 6 || n > 200 {
							return
						}
						for i, x := range c.nodes {
							x.set(nil, nil)
							if slices.Contains(pick, i) {
								x.set(hung, nil)
							}
						}
						quick, patient := 3*time.Second, stallTime+straggleTime+3*time.Second
						if k > can {
							quick, patient = s.cfg.Timeout+time.Second, commitTime+2*s.cfg.Timeout
						}
						try := func(what string, most time.Duration, fn func() error) {
							err := took(t, fmt.Sprintf("%s with devices %v hung", what, pick), most, fn)
							switch {
							case err == nil:
							case k <= can:
								t.Errorf("%s with devices %v hung: %v", what, pick, err)
							case !errs.Is(err, errs.Unavailable) && !errs.Is(err, errs.OutcomeUnknown):
								t.Errorf("%s with devices %v hung, too many: %v", what, pick, err)
							}
						}
						try("HEAD", quick, func() error { _, err := s.Head(t.Context(), co, "large"); return err })
						try("GET small", quick, func() error { return same(t, s, co, "small", small) })
						try("GET large", 2*quick, func() error { return same(t, s, co, "large", large) })
						try("LIST", quick, func() error { _, err := names(t.Context(), s, co, 1000); return err })
						try("stats", quick, func() error { _, err := s.ContainerStats(t.Context(), co); return err })
						try("container", quick, func() error { _, err := s.Fresh(t.Context(), "a", "c"); return err })
						try("PUT small", quick, func() error { _, err := putBytes(t.Context(), s, co, "new", small); return err })
						try("PUT large", patient, func() error { _, err := putBytes(t.Context(), s, co, "new", large); return err })
						if k > can {
							return // it may not be there
						}
						try("DELETE", quick, func() error { return s.Delete(t.Context(), co, "new", nil) })
						try("container's life", 4*quick, func() error {
							d, _, err := s.CreateContainer(t.Context(), &catalog.Container{Account: "a", Name: "d"})
							if err != nil {
								return err
							}
							if _, err := putBytes(t.Context(), s, d, "o", small); err != nil {
								return err
							}
							if err := s.DeleteContainer(t.Context(), "a", "d"); !errs.Is(err, errs.NotEmpty) {
								return fmt.Errorf("DeleteContainer: %w", err)
							}
							if err := s.Delete(t.Context(), d, "o", nil); err != nil {
								return err
							}
							return s.DeleteContainer(t.Context(), "a", "d")
						})
					})
				}
				c.all(nil, nil)
				time.Sleep(5 * time.Minute) // what nobody waits for ends on its own
				synctest.Wait()
				if lent := s.lent(); lent != 0 {
					t.Errorf("%d bytes of the pool are still lent", lent)
				}
			})
		})
	}
}

func same(t *testing.T, s *Service, co *catalog.Container, name string, want []byte) error {
	got, _, err := get(t.Context(), s, co, name)
	if err == nil && !bytes.Equal(got, want) {
		t.Errorf("%s: %d wrong bytes", name, len(got))
	}
	return err
}

// A device that stops taking bytes in the middle holds up the others once, and not
// for each block; all that stop do so together.
func TestDevicesThatStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec := policy.EC(8, 4)
		c := newCluster(t, spec, 0, fake)
		s := c.gateway(nil)
		co := s.mustContainer(t, "c")
		for i := range 2 {
			n := 5
			c.nodes[i].set(only(func(ctx context.Context, x call) error {
				if n--; n > 0 {
					return nil
				}
				return hung(ctx, x)
			}, "WriteFragment"), nil)
		}
		body := random(1, 50*spec.K*testBlock)
		var o *catalog.Object
		if err := took(t, "PUT", stallTime+straggleTime+time.Second, func() (err error) {
			o, err = putBytes(t.Context(), s, co, "o", body)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if bits.OnesCount16(o.Missing) != 2 {
			t.Errorf("missing are %b", o.Missing)
		}
		wantBytes(t, s, co, "o", body)
		time.Sleep(2 * commitTime)
		synctest.Wait()
		if lent := s.lent(); lent != 0 {
			t.Errorf("%d bytes of the pool are still lent", lent)
		}
	})
}

// A reader whose devices all fall silent in the middle ends with an error.
func TestReadThatStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec := policy.EC(2, 2)
		c := newCluster(t, spec, 0, fake)
		s := c.gateway(nil)
		co := s.mustContainer(t, "c")
		body := random(1, 50*spec.K*testBlock)
		mustPut(t, s, co, "o", body)
		h, err := s.Open(t.Context(), co, "o")
		if err != nil {
			t.Fatal(err)
		}
		r, err := h.Range(t.Context(), 0, int64(len(body)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(r, make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		c.all(only(hung, "ReadFragment", "OpenFragment"), nil)
		wantKind(t, took(t, "GET", s.cfg.Timeout*3, func() error {
			_, err := io.Copy(io.Discard, r)
			return err
		}), errs.Unavailable)
		r.Close()
		c.all(nil, nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if lent := s.lent(); lent != 0 {
			t.Errorf("%d bytes of the pool are still lent", lent)
		}
	})
}

// A client that goes away in the middle of its upload ends it at once.
func TestCanceledPut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, policy.EC(2, 2), 0, fake)
		s := c.gateway(nil)
		co := s.mustContainer(t, "c")
		for _, where := range []string{"CreateFragment", "WriteFragment", "CommitFragment", "Write", "Prepare", "Learn"} {
			c.all(only(hung, where), nil)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			p := &Put{Container: co, Name: "o", Body: bytes.NewReader(random(1, 30*testBlock)), Size: -1}
			if where == "Prepare" {
				p.Judge = func(*catalog.Object) error { return nil }
			}
			err := took(t, "PUT that hangs in "+where, 1100*time.Millisecond, func() error {
				_, err := s.Put(ctx, p)
				return err
			})
			if err == nil {
				t.Errorf("%s hangs on all devices, and the PUT was acknowledged", where)
			}
			cancel()
			c.all(nil, nil)
			time.Sleep(2 * commitTime)
			if _, err := s.Head(t.Context(), co, "o"); where != "Write" {
				wantKind(t, err, errs.NotFound)
			}
		}
		synctest.Wait()
		if lent := s.lent(); lent != 0 {
			t.Errorf("%d bytes of the pool are still lent", lent)
		}
	})
}
