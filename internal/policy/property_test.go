package policy

import "testing"

// all calls fn with every policy within the limits.
func all(fn func(p Spec)) {
	for k := 1; k <= MaxFragments; k++ {
		for m := 0; m <= MaxFragments; m++ {
			if p := (Spec{k, m}); p.Validate() == nil {
				fn(p)
			}
		}
	}
}

func TestQuorumsMeet(t *testing.T) {
	n := 0
	all(func(p Spec) {
		n++
		r, w, rd := p.RecordDevices(), p.W(), p.R()
		switch {
		case r < 1 || r > p.Fragments():
			t.Errorf("%v: records on %d of %d devices", p, r, p.Fragments())
		case 2*w <= r:
			t.Errorf("%v: two quorums of %d out of %d may miss each other", p, w, r)
		case w+rd != r+1:
			t.Errorf("%v: W=%d and R=%d of %d do not just meet", p, w, rd, r)
		case p.Copies() < w || p.Copies() > r:
			t.Errorf("%v: small bytes on %d devices, W=%d of %d", p, p.Copies(), w, r)
		case p.Copies() <= p.M:
			t.Errorf("%v: %d copies of small bytes do not survive %d failures", p, p.Copies(), p.M)
		case p.MinFragments() < p.K || p.MinFragments() > p.Fragments():
			t.Errorf("%v: acknowledged with %d fragments", p, p.MinFragments())
		case p.M > 0 && p.MinFragments() == p.K:
			t.Errorf("%v: acknowledged without any redundancy", p)
		}
	})
	if n != MaxReplicas+14*15/2 {
		t.Errorf("%d policies", n)
	}
}

// What a start-up message promises must follow from what is kept where.
func TestSurvival(t *testing.T) {
	all(func(p Spec) {
		for listing := 1; listing <= 5; listing++ {
			reads, writes := p.SurvivesReads(listing), p.SurvivesWrites(listing)
			lw := listing/2 + 1
			lr := listing - lw + 1
			able := func(failed int, records, fragments, rows int) bool {
				return p.RecordDevices()-failed >= records && p.Fragments()-failed >= fragments && listing-failed >= rows
			}
			if reads < 0 || !able(reads, p.R(), p.K, lr) || able(reads+1, p.R(), p.K, lr) {
				t.Errorf("%v with %d listing devices: reads survive %d failures", p, listing, reads)
			}
			if writes < 0 || !able(writes, p.W(), p.MinFragments(), lw) || able(writes+1, p.W(), p.MinFragments(), lw) {
				t.Errorf("%v with %d listing devices: writes survive %d failures", p, listing, writes)
			}
			if writes > reads {
				t.Errorf("%v: writes survive more than reads", p)
			}
		}
	})
}

func TestStringsParse(t *testing.T) {
	all(func(p Spec) {
		if got, err := Parse(p.String()); err != nil || got != p {
			t.Errorf("%v became %v, %v", p, got, err)
		}
	})
	for n := 1; n < 200; n++ {
		if p := Default(n); p.Validate() != nil || p.Fragments() > n {
			t.Errorf("Default(%d) = %v", n, p)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"replica(3)", "ec(4,2)", "ec( 8 , 4 )", "ec(,)", "replica(-1)", "ec(4,2))", "ec(1e3,2)"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := Parse(s)
		if err != nil {
			return
		}
		if again, err := Parse(p.String()); p.Validate() != nil || err != nil || again != p {
			t.Fatalf("%q: %v became %v, %v", s, p, again, err)
		}
	})
}
