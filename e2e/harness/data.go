package harness

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// oddNames are file names that clients have to escape in one place or another.
var oddNames = [...]string{
	"plain.txt", "with space.txt", "plus+sign", "per%20cent", "amper&sand=1", "tilde~", "ünïcødé-日本.txt",
	"semi;colon", "comma,at@", "paren(1)", "apostrophe's", "hash#tag", "star[1]", "dash -- end", "UPPER.TXT",
}

// Tree writes a tree of files under dir: odd names, empty files, files of a few
// bytes up to 200 KB, deep directories. The same seed gives the same tree.
func Tree(t testing.TB, dir string, seed uint64, files int) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, seed))
	for i := range files {
		sub := fmt.Sprintf("dir%d/sub %d", i%7, i%3)
		name := fmt.Sprintf("%03d-%s", i, oddNames[i%len(oddNames)])
		size := 0
		if i%10 != 0 { // every tenth file is empty
			size = rng.IntN(1 << (4 + rng.IntN(14)))
		}
		path := filepath.Join(dir, sub, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, randomBytes(rng, size), 0o644))
	}
}

// TreeFor returns a tree for a sync: a small made one, or in the long form the
// source tree of Go, some 11,000 files. It is not to be changed.
func TreeFor(t testing.TB) string {
	t.Helper()
	if Long() {
		return filepath.Join(goRoot(t), "src")
	}
	dir := filepath.Join(t.TempDir(), "tree")
	Tree(t, dir, 1, 120)
	return dir
}

func goRoot(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	must(t, err)
	return strings.TrimSpace(string(out))
}

// BigFile writes a file that clients send in parts: of shortBytes, or of 2 GiB in
// the long form.
func BigFile(t testing.TB, path string, shortBytes int64) string {
	t.Helper()
	size := shortBytes
	if Long() {
		size = 2 << 30
	}
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	rng := rand.NewChaCha8([32]byte{1})
	_, err = io.CopyN(f, rng, size)
	must(t, err)
	must(t, f.Close())
	return path
}

// CopyTree copies a tree, so that the copy can be changed. The copy's files look an
// hour old: a client that goes by times would send a file again that seems to have
// been written in the second of its upload.
func CopyTree(t testing.TB, from, to string) {
	t.Helper()
	must(t, os.CopyFS(to, os.DirFS(from)))
	earlier := time.Now().Add(-time.Hour)
	must(t, filepath.WalkDir(to, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		return os.Chtimes(path, earlier, earlier)
	}))
}

// SameTree fails the test unless two trees hold the same files with the same
// bytes.
func SameTree(t testing.TB, want, got string) {
	t.Helper()
	diff, err := exec.LookPath("diff")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(diff, "-r", want, got).CombinedOutput(); err != nil {
		t.Errorf("diff -r: %v\n%s", err, last(string(out)))
	}
}

// SameFile fails the test unless two files hold the same bytes.
func SameFile(t testing.TB, want, got string) {
	t.Helper()
	a, err := os.Open(want)
	must(t, err)
	defer a.Close()
	b, err := os.Open(got)
	must(t, err)
	defer b.Close()
	bufA, bufB := make([]byte, 1<<20), make([]byte, 1<<20)
	for offset := int64(0); ; {
		n, errA := io.ReadFull(a, bufA)
		m, errB := io.ReadFull(b, bufB)
		if n != m || !bytes.Equal(bufA[:n], bufB[:m]) {
			t.Errorf("%s and %s differ in the mebibyte after byte %d", want, got, offset)
			return
		}
		if errA != nil || errB != nil {
			return // both ended: the lengths were the same
		}
		offset += int64(n)
	}
}

// Files counts the regular files below dir.
func Files(t testing.TB, dir string) int {
	t.Helper()
	n := 0
	must(t, filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			n++
		}
		return err
	}))
	return n
}

func randomBytes(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// Lines counts the lines of s that hold substring.
func Lines(s, substring string) int {
	n := 0
	for line := range strings.Lines(s) {
		if strings.Contains(line, substring) {
			n++
		}
	}
	return n
}
