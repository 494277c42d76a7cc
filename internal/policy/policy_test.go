package policy

import "testing"

func TestParse(t *testing.T) {
	for in, want := range map[string]string{
		"replica(3)": "replica(3)", " ec( 4, 2 )": "ec(4,2)", "ec(2,2)": "ec(2,2)", "replica(1)": "replica(1)",
	} {
		if p, err := Parse(in); err != nil || p.String() != want {
			t.Errorf("Parse(%q) = %v, %v", in, p, err)
		}
	}
	for _, in := range []string{"", "ec", "ec(4)", "ec(1,2)", "ec(4,0)", "ec(12,5)", "replica(0)", "replica(8)", "ec(2,2)x", "raid(5)", "replica(+3)", "ec(04,2)", "REPLICA(3)", "ec(4,2,1)", "ec(-2,2)", "ec(2,2", "ec(9223372036854775807,1)"} {
		if p, err := Parse(in); err == nil {
			t.Errorf("Parse(%q) = %v", in, p)
		}
	}
}

// A policy's text is in the cluster's configuration and its status.
func TestTextIsFrozen(t *testing.T) {
	for want, p := range map[string]Spec{
		"replica(1)": {1, 0}, "replica(7)": {1, 6}, "ec(2,1)": {2, 1}, "ec(8,4)": {8, 4}, "ec(15,1)": {15, 1},
	} {
		if got := p.String(); got != want {
			t.Errorf("%+v is %q, was %q", p, got, want)
		}
		if got, err := Parse(want); err != nil || got != p {
			t.Errorf("%q is %+v (%v), was %+v", want, got, err, p)
		}
	}
}

func TestArithmetic(t *testing.T) {
	for _, c := range []struct {
		p                              Spec
		r, w, rd, copies, frags        int
		listing, survReads, survWrites int
	}{
		{Replica(1), 1, 1, 1, 1, 1, 1, 0, 0},
		{Replica(2), 2, 2, 1, 2, 2, 2, 1, 0},
		{Replica(3), 3, 2, 2, 3, 2, 3, 1, 1},
		{EC(2, 2), 4, 3, 2, 3, 3, 3, 1, 1},
		{EC(3, 2), 5, 3, 3, 3, 4, 3, 1, 1},
		{EC(4, 2), 5, 3, 3, 3, 5, 3, 1, 1},
		{EC(5, 3), 7, 4, 4, 4, 7, 3, 1, 1},
		{EC(8, 4), 9, 5, 5, 5, 10, 3, 1, 1},
		{EC(8, 4), 9, 5, 5, 5, 10, 5, 2, 2},
	} {
		got := []int{c.p.RecordDevices(), c.p.W(), c.p.R(), c.p.Copies(), c.p.MinFragments(), c.p.SurvivesReads(c.listing), c.p.SurvivesWrites(c.listing)}
		want := []int{c.r, c.w, c.rd, c.copies, c.frags, c.survReads, c.survWrites}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("%v: got %v, want %v (r, W, R, copies, fragments, reads, writes)", c.p, got, want)
				break
			}
		}
	}
}

func TestDefault(t *testing.T) {
	for n, want := range map[int]string{
		1: "replica(1)", 2: "replica(2)", 3: "replica(3)", 4: "ec(2,2)", 5: "ec(3,2)", 6: "ec(4,2)",
		7: "ec(5,2)", 8: "ec(5,3)", 11: "ec(8,3)", 12: "ec(8,4)", 60: "ec(8,4)",
	} {
		if p := Default(n); p.String() != want || p.Fragments() > n || p.Validate() != nil {
			t.Errorf("Default(%d) = %v, want %s", n, p, want)
		}
	}
}
