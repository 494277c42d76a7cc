package node

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"ringfort/internal/errs"
	"ringfort/ring"
)

// claimFile names a directory as a device. It is the first file written into a
// new device and the first one read of an old one.
const claimFile = "ringfort.json"

// claim is the content of the claim file.
type claim struct {
	Format  int       `json:"format"`  // 1
	Cluster string    `json:"cluster"` // id of the cluster that the device belongs to
	UUID    ring.UUID `json:"uuid"`
	Mount   bool      `json:"mount"` // the directory was a mount point when it was claimed
}

// readClaim returns the claim of a directory; nil if the directory is empty or
// absent, and an error if it holds something else.
func readClaim(dir string) (*claim, error) {
	const op = "node.readClaim"
	b, err := os.ReadFile(filepath.Join(dir, claimFile))
	if os.IsNotExist(err) {
		entries, err := os.ReadDir(dir)
		if err != nil && !os.IsNotExist(err) {
			return nil, errs.Wrap(op, errs.Unavailable, err)
		}
		for _, e := range entries {
			if e.Name() != "lost+found" { // of a fresh file system
				return nil, errs.New(op, errs.Invalid, "%s is not a ringfort device and not empty (it has %q): give an empty directory", dir, e.Name())
			}
		}
		return nil, nil
	}
	if err != nil {
		return nil, errs.Wrap(op, errs.Unavailable, err)
	}
	var c claim
	if err := json.Unmarshal(b, &c); err != nil || c.Format != 1 {
		return nil, errs.New(op, errs.Corrupt, "%s is not a claim of this version: %v", filepath.Join(dir, claimFile), err)
	}
	return &c, nil
}

// writeClaim claims an empty directory, durably.
func writeClaim(dir string, c *claim) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return errs.Wrap("node.writeClaim", errs.Unavailable, err)
	}
	c.Format, c.Mount = 1, isMount(dir)
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	return writeFileSync(filepath.Join(dir, claimFile), append(b, '\n'), 0o600)
}

// writeFileSync replaces a file so that it is whole before or after a crash.
func writeFileSync(path string, b []byte, mode os.FileMode) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		os.Remove(tmp)
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// isMount reports whether a directory is the root of a mounted file system.
func isMount(dir string) bool {
	var here, above syscall.Stat_t
	if syscall.Stat(dir, &here) != nil || syscall.Stat(filepath.Join(dir, ".."), &above) != nil {
		return false
	}
	return here.Dev != above.Dev || here.Ino == above.Ino
}

func newUUID() (u ring.UUID) {
	rand.Read(u[:]) // never fails since Go 1.24
	return u
}

func newID() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// newKey makes an access key or secret of n characters that need no quoting.
func newKey(n int) string {
	const letters = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789"
	b := make([]byte, n)
	for i := range b {
		for {
			var one [1]byte
			rand.Read(one[:])
			if k := int(one[0]); k < 256-256%len(letters) {
				b[i] = letters[k%len(letters)]
				break
			}
		}
	}
	return string(b)
}

// problem says in words why a directory cannot be the device it should be; "" if
// it can.
func problem(dir string, want *claim) (why string, empty bool) {
	c, err := readClaim(dir)
	switch {
	case err != nil:
		return err.Error(), false
	case c == nil && want.Mount && !isMount(dir):
		return "its file system is not mounted", false
	case c == nil:
		return "it is empty: the device has lost what it promised, and has no vote until it has been refilled", true
	case c.Cluster != want.Cluster:
		return fmt.Sprintf("it belongs to another cluster, %s", c.Cluster), false
	case c.Mount && !isMount(dir):
		return "its file system is not mounted", false
	}
	return "", false
}
