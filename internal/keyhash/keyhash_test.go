package keyhash

import "testing"

func TestPartsDoNotRunTogether(t *testing.T) {
	var s Secret
	a, b := s.Of(Object, "ab", "c"), s.Of(Object, "a", "bc")
	if a == b {
		t.Error("(ab,c) and (a,bc) have one hash")
	}
	if s.Of(Object, "x") == s.Of(Container, "x") {
		t.Error("domains are not kept apart")
	}
	other := NewSecret()
	if other.Of(Object, "ab", "c") == a {
		t.Error("the secret has no effect")
	}
}

// The hash decides where data lies: a change of a single bit would lose it all.
func TestHashIsFrozen(t *testing.T) {
	var s Secret
	for i := range s {
		s[i] = byte(i)
	}
	for _, c := range []struct {
		domain Domain
		parts  []string
		want   string
	}{
		{Account, []string{"main"}, "d23597ff01198fd8f0196ed4191dd35a"},
		{Container, []string{"main", "photos"}, "54d44ca2316eb4ebcaaa6c6c9bde6117"},
		{Object, []string{"incarnation", "name"}, "3a9a56eab1e00b11e058de8598cbbd9d"},
		{Upload, []string{"object's hash", "upload"}, "50b7bacca5bcf403783dace97818ce7c"},
		{Global, []string{"photos"}, "6ee65e4fe4e90e94b3b763c77202e41c"},
		{System, []string{"state"}, "c5db3aff200b5a6fb3bbacb79b0e984c"},
		{System, nil, "4d5d1f1342f48848a5487e592db01214"},
	} {
		if got := s.Of(c.domain, c.parts...).String(); got != c.want {
			t.Errorf("hash of %q in domain %d is %s, was %s", c.parts, c.domain, got, c.want)
		}
	}
}

func TestPrefix(t *testing.T) {
	h := Hash{0xAB, 0xCD, 0xEF, 0x01, 0xFF}
	for power, want := range map[uint]uint32{0: 0, 4: 0xA, 8: 0xAB, 12: 0xABC, 32: 0xABCDEF01} {
		if got := h.Prefix(power); got != want {
			t.Errorf("Prefix(%d) = %x, want %x", power, got, want)
		}
	}
}

func BenchmarkOf(b *testing.B) {
	var s Secret
	b.ReportAllocs()
	for b.Loop() {
		s.Of(Object, "0123456789abcdef", "photos/2026/11/a-typical-object-name.jpg")
	}
}
