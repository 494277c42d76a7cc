package harness

import (
	"os"
	"path/filepath"
	"testing"
)

// TestDisk checks that a cut of the power is one: what was synced stays, what was
// not is gone.
func TestDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "disk")
	d := NewDisk(t, dir)
	write := func(name string, sync bool) {
		f, err := os.Create(filepath.Join(dir, name))
		must(t, err)
		_, err = f.WriteString("here")
		must(t, err)
		if sync {
			must(t, f.Sync())
		}
		must(t, f.Close())
	}
	write("synced", true)
	write("lost", false)
	d.CutPower(t)
	if _, err := os.Create(filepath.Join(dir, "late")); err == nil {
		t.Error("a disk without power takes a file")
	}
	d.Replug(t)
	b, err := os.ReadFile(filepath.Join(dir, "synced"))
	if err != nil || string(b) != "here" {
		t.Errorf("what was synced is lost: %q, %v", b, err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "lost")); err == nil && string(b) == "here" {
		t.Error("what was not synced is there: this is no cut of the power")
	}
}
