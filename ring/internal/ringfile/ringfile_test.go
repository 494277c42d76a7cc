package ringfile

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"ringfort/internal/errs"
)

// TestWriteSurvivesEveryFault replaces a file while the n-th operation fails, or
// the power is cut there with everything not synced lost, for each n. The name
// must hold the old content or the new, and the new one if Write said so.
func TestWriteSurvivesEveryFault(t *testing.T) {
	const path = "/d/x.ring"
	for n := 0; ; n++ {
		mem := vfs.NewCrashableMem()
		if err := mem.MkdirAll("/d", 0o755); err != nil {
			t.Fatal(err)
		}
		root, err := mem.OpenDir("/")
		if err != nil {
			t.Fatal(err)
		}
		if err := root.Sync(); err != nil {
			t.Fatal(err)
		}
		if err := Write(mem, path, []byte("old")); err != nil {
			t.Fatal(err)
		}
		ops := 0
		failing := errors.New("injected")
		fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			ops++
			if ops == n+1 {
				return failing
			}
			return nil
		}))
		err = Write(fs, path, []byte("new"))
		for name, after := range map[string]vfs.FS{"same": mem, "crashed": mem.CrashClone(vfs.CrashCloneCfg{})} {
			got, rerr := Read(after, path)
			if rerr != nil {
				t.Fatalf("operation %d, %s: %v", n+1, name, rerr)
			}
			if s := string(got); s != "new" && (s != "old" || err == nil) {
				t.Fatalf("operation %d, %s: holds %q after %v", n+1, name, s, err)
			}
		}
		if ops <= n {
			if err != nil {
				t.Fatal(err)
			}
			if n < 5 {
				t.Errorf("a write takes %d operations: create, write, sync, rename, sync of the directory are five", n)
			}
			return
		}
	}
}

func TestUnsealTellsWhatIsWrong(t *testing.T) {
	m := Magic{'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H'}
	good := Seal(m, 3, []byte("payload"))
	if v, p, err := Unseal("file", m, 3, good); err != nil || v != 3 || string(p) != "payload" {
		t.Fatal(v, p, err)
	}
	for i, c := range []struct {
		b    []byte
		max  uint16
		kind errs.Kind
	}{
		{good, 2, errs.NotImplemented},
		{good[:10], 3, errs.Corrupt},
		{nil, 3, errs.Corrupt},
		{good[:len(good)-1], 3, errs.Corrupt},
		{Seal(m, 0, nil), 3, errs.Corrupt},
		{Seal(Magic{1}, 3, nil), 3, errs.Corrupt},
	} {
		if _, _, err := Unseal("file", m, c.max, c.b); !errs.Is(err, c.kind) {
			t.Errorf("case %d: %v", i, err)
		}
	}
}

func ExampleUnseal() {
	m := Magic{'R', 'F', 'R', 'T', 'R', 'I', 'N', 'G'}
	_, _, err := Unseal("ring file", m, 1, []byte("#!/bin/sh"))
	fmt.Println(err)
	// Output: read ring file: corrupt: not a ring file: it does not begin with "RFRTRING"
}
