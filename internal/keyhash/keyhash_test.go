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
	if got, want := s.Of(Object, "incarnation", "name").String(), "3a9a56eab1e00b11e058de8598cbbd9d"; got != want {
		t.Errorf("hash is %s, was %s", got, want)
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
