package errs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestKindOf(t *testing.T) {
	base := New("volume.Get", NotFound, "key %d", 7)
	for _, c := range []struct {
		err  error
		want Kind
	}{
		{nil, Other},
		{io.EOF, Other},
		{base, NotFound},
		{fmt.Errorf("outer: %w", base), NotFound},
		{Wrap("ops.Get", Other, base), NotFound},
		{Wrap("ops.Get", Unavailable, base), Unavailable},
		{Wrap("ops.Get", Other, context.Canceled), Canceled},
		{fmt.Errorf("x: %w", context.DeadlineExceeded), Canceled},
	} {
		if got := KindOf(c.err); got != c.want {
			t.Errorf("KindOf(%v) = %v, want %v", c.err, got, c.want)
		}
	}
	if Is(nil, Other) {
		t.Error("a nil error has no kind")
	}
	if Wrap("x", Full, nil) != nil {
		t.Error("wrapping nil must give nil")
	}
}

func TestErrorText(t *testing.T) {
	err := &Error{Op: "ring.Load", Kind: Corrupt, What: "checksum", Err: io.ErrUnexpectedEOF}
	if got, want := err.Error(), "ring.Load: corrupt: checksum: unexpected EOF"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error("the cause is not reachable")
	}
	if int(Gone) != len(kindNames)-1 {
		t.Error("a kind has no name")
	}
}
