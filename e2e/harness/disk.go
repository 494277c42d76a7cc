package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// diskBytes is the size of a test disk; its file is sparse.
const diskBytes = 4 << 30

// Disk is an XFS file system in a file of its own, whose power can be cut: after
// [Disk.CutPower] nothing that was not synced is there any more, as after a real
// cut of a disk that keeps its promises.
type Disk struct {
	Dir   string // where it is mounted
	image string
}

// NewDisk makes a disk and mounts it at dir until the test ends. It skips the test
// where that is not possible: it needs root, XFS and loop devices.
func NewDisk(t testing.TB, dir string) *Disk {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a disk")
	}
	for _, tool := range []string{"mkfs.xfs", "xfs_io", "mount", "umount"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s", tool)
		}
	}
	d := &Disk{Dir: dir, image: filepath.Join(t.TempDir(), "disk.img")}
	f, err := os.Create(d.image)
	must(t, err)
	must(t, f.Truncate(diskBytes))
	must(t, f.Close())
	must(t, os.MkdirAll(dir, 0o700))
	must(t, command("mkfs.xfs", "-q", d.image))
	if err := d.mount(); err != nil {
		t.Skipf("cannot mount a disk here: %v", err)
	}
	t.Cleanup(func() {
		if err := command("umount", d.Dir); err != nil {
			t.Error(err)
		}
	})
	return d
}

func (d *Disk) mount() error { return command("mount", "-o", "loop", d.image, d.Dir) }

// CutPower stops the file system where it stands: what its journal holds in memory
// is lost, and every later access fails.
func (d *Disk) CutPower(t testing.TB) {
	t.Helper()
	must(t, command("xfs_io", "-x", "-c", "shutdown", d.Dir))
}

// Replug mounts the disk again after a cut. No process may have a file of it open.
func (d *Disk) Replug(t testing.TB) {
	t.Helper()
	must(t, command("umount", d.Dir))
	must(t, d.mount())
}

func command(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}
