package node

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/ring"
)

// claimFile names a directory as a device. It is the first file written into a
// new device and the first one read of an old one.
const claimFile = "ringfort.json"

// claimFormat is the version of the claim file. A file of another one still has the
// field "format" and is JSON.
const claimFormat = 1

// claim is the content of the claim file.
type claim struct {
	Format  int       `json:"format"`  // claimFormat
	Cluster string    `json:"cluster"` // id of the cluster that the device belongs to
	UUID    ring.UUID `json:"uuid"`
	Mount   bool      `json:"mount"` // the directory was a mount point when it was claimed
	// Placement tells the cluster's placement secret from another, see placementCheck.
	Placement string `json:"placement_check"`
	// Volume is the id of the device's volume, 32 hexadecimal digits, from when it was
	// made; "" before. INVARIANT: it is there before the device first promises
	// anything, so one that has it and no such volume has forgotten what it promised.
	Volume string `json:"volume,omitempty"`
}

// placementCheck is what a claim says of a placement secret: 32 hexadecimal digits
// that belong to no name and from which the secret cannot be found.
func placementCheck(secret keyhash.Secret) string {
	return secret.Of(keyhash.System, "placement check").String()
}

// parseClaim reads a claim file's content.
func parseClaim(path string, b []byte) (*claim, error) {
	const op = "node.readClaim"
	var c claim
	var head struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return nil, errs.New(op, errs.Corrupt, "%s is damaged: %v", path, err)
	}
	if head.Format > claimFormat {
		return nil, errs.New(op, errs.NotImplemented, "%s has format %d: written by a newer program", path, head.Format)
	}
	err := json.Unmarshal(b, &c)
	if err == nil && (c.Format != claimFormat || c.Cluster == "" || c.UUID == ring.UUID{} || !isID(c.Placement) || c.Volume != "" && !isID(c.Volume)) {
		err = errors.New("a field is missing or cannot be")
	}
	if err != nil {
		return nil, errs.New(op, errs.Corrupt, "%s is damaged: %v", path, err)
	}
	return &c, nil
}

// isID reports whether s is 32 hexadecimal digits as we write them.
func isID(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 16 && hex.EncodeToString(b) == s
}

// checkPlacement refuses a secret that the device's data was not placed by: every
// name would be looked for where it is not.
func (c *claim) checkPlacement(dir string, secret keyhash.Secret) error {
	if want := placementCheck(secret); c.Placement != want {
		return errs.New("node.Open", errs.Invalid,
			"what is on %s was placed by another placement secret (its check is %s, that of the one given %s): start with the secret that the cluster was made with",
			dir, c.Placement, want)
	}
	return nil
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
	return parseClaim(filepath.Join(dir, claimFile), b)
}

// writeClaim claims an empty directory, durably.
func writeClaim(dir string, c *claim) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return errs.Wrap("node.writeClaim", errs.Unavailable, err)
	}
	c.Format, c.Mount = claimFormat, isMount(dir)
	return c.save(dir)
}

// save writes the claim, durably.
func (c *claim) save(dir string) error {
	b, err := c.encode()
	if err != nil {
		return err
	}
	return errs.Wrap("node.writeClaim", errs.Unavailable, writeFileSync(filepath.Join(dir, claimFile), b, 0o600))
}

func (c *claim) encode() ([]byte, error) {
	b, err := json.MarshalIndent(c, "", "  ")
	return append(b, '\n'), err
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
