package auth

import (
	"context"
	"testing"

	"ringfort/internal/errs"
)

func TestStatic(t *testing.T) {
	s := Static{"AK": {Account: "main", User: "joe", AccessKey: "AK", Secret: "s", Enabled: true}}
	if id, err := s.Lookup(context.Background(), "AK"); err != nil || id.Account != "main" {
		t.Errorf("%+v, %v", id, err)
	}
	if _, err := s.Lookup(context.Background(), "nobody"); !errs.Is(err, errs.Unauthenticated) {
		t.Errorf("an unknown key gave %v", err)
	}
}

// Owners' ids are in answers that clients keep: they must not change.
func TestCanonicalID(t *testing.T) {
	if got := CanonicalID("main"); got != "0d6e4079e36703ebd37c00722f5891d28b0e2811dc114b129215123adcce3605" {
		t.Error(got)
	}
	if CanonicalID("main") == CanonicalID("other") {
		t.Error("two accounts with one id")
	}
}
