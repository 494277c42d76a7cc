package swiftapi_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ringfort/gateway/swiftapi/swifttest"
)

// swiftClient returns python-swiftclient's program, the client that most people
// have, ready to run against a server in the directory that is returned too. Without
// it the test is skipped.
func swiftClient(t *testing.T, url string) (run func(args ...string) string, dir string) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a Python program many times")
	}
	program, err := exec.LookPath("swift")
	if err != nil {
		t.Skip("there is no swift client here")
	}
	dir = t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(ctx, program, append([]string{"--retries", "0"}, args...)...)
		cmd.Dir = dir
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LC_ALL=C.UTF-8",
			"ST_AUTH=" + url + "/auth/v1.0", "ST_USER=main:AK", "ST_KEY=secret"}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("swift %v: %v\n%s", args, err, out)
		}
		return string(out)
	}, dir
}

// TestSwiftClient does with the swift client what people do.
func TestSwiftClient(t *testing.T) {
	s := server(t, swifttest.NewStore(), nil)
	run, dir := swiftClient(t, s.URL)
	has := func(text, want string) {
		t.Helper()
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in:\n%s", want, text)
		}
	}
	big := make([]byte, 3<<20+17)
	rand.Read(big)
	file := filepath.Join(dir, "big")
	if err := os.WriteFile(file, big, 0o600); err != nil {
		t.Fatal(err)
	}
	has(run("info"), "slo")
	for _, kind := range [][]string{{"dlo"}, {"slo", "--use-slo"}} {
		c := kind[0]
		run(append([]string{"upload", "-S", "1048576", "--object-name", "d/big", c, file}, kind[1:]...)...)
		has(run("stat", c, "d/big"), "Content Length: 3145745")
		if got := strings.Count(run("list", c+"_segments"), "\n"); got != 4 {
			t.Errorf("%s: %d segments", c, got)
		}
		back := filepath.Join(dir, c+"-back")
		run("download", c, "d/big", "-o", back)
		if got, err := os.ReadFile(back); err != nil || !bytes.Equal(got, big) {
			t.Errorf("%s: %v, or the file came back changed", c, err)
		}
		has(run("list", "--lh", c), "d/big")
		run(append([]string{"upload", "-S", "1048576", "--changed", "--object-name", "d/big", c, file}, kind[1:]...)...)
		run("copy", "-d", "/"+c+"/copied", c, "d/big")
		run("download", c, "copied", "-o", back)
		if got, err := os.ReadFile(back); err != nil || !bytes.Equal(got, big) {
			t.Errorf("%s: %v, or the copy came back changed", c, err)
		}
		run("delete", c, "d/big")
		if got := run("list", c+"_segments"); got != "" {
			t.Errorf("%s: segments left: %s", c, got)
		}
	}
	small := filepath.Join(dir, "small")
	if err := os.WriteFile(small, []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	name := "a b/ü+&%20.txt"
	run("upload", "--object-name", name, "-H", "X-Object-Meta-Colour: blue", "meta", small)
	run("post", "meta", name, "-m", "Taste:sweet")
	stat := run("stat", "meta", name)
	has(stat, "Meta Taste: sweet")
	has(stat, "781e5e245d69b566979b86e28d23f2c7")
	run("post", "meta", "-m", "Size:big")
	stat = run("stat", "meta")
	has(stat, "Meta Size: big")
	has(stat, "Objects: 1")
	has(stat, "Bytes: 10")
	run("post", "-m", "Owner:me")
	stat = run("stat")
	has(stat, "Meta Owner: me")
	has(stat, "Containers: 5")
	run("delete", "meta")
	has(run("list"), "slo_segments\n")
	run("delete", "--all")
	if got := run("list"); got != "" {
		t.Errorf("left: %s", got)
	}
}

// TestSwiftClientParts: the swift client reads, compares, overwrites and deletes what
// S3 stored in parts, and nothing else goes with it.
func TestSwiftClientParts(t *testing.T) {
	store := swifttest.NewStore()
	run, dir := swiftClient(t, server(t, store, nil).URL)
	write := func(name, body string) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	listed := func(want string) {
		t.Helper()
		if got := run("list", "c"); got != want {
			t.Errorf("listed %q, want %q", got, want)
		}
	}
	same, empty := write("same", "aaabb"), write("empty", "")
	run("upload", "--object-name", "other", "c", same)
	c, err := store.Container(t.Context(), "main", "c")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"deleted", "overwritten", "parts"} {
		if _, err := store.PutParts(c, name, "aaa", "bb"); err != nil {
			t.Fatal(err)
		}
	}
	run("download", "c", "parts", "-o", "back")
	if got, err := os.ReadFile(filepath.Join(dir, "back")); err != nil || string(got) != "aaabb" {
		t.Errorf("downloaded %q, %v", got, err)
	}
	// The same bytes need not be sent again, others must.
	run("upload", "--skip-identical", "--object-name", "parts", "c", same)
	if o, err := store.Head(t.Context(), c, "parts"); err != nil || o.PartCount != 2 {
		t.Errorf("what is identical was replaced: %+v, %v", o, err)
	}
	run("upload", "--skip-identical", "--object-name", "overwritten", "c", empty)
	if o, err := store.Head(t.Context(), c, "overwritten"); err != nil || o.PartCount != 0 || o.Size != 0 {
		t.Errorf("not overwritten: %+v, %v", o, err)
	}
	listed("deleted\nother\noverwritten\nparts\n")
	run("upload", "--object-name", "parts", "c", same)
	listed("deleted\nother\noverwritten\nparts\n")
	run("delete", "c", "deleted")
	listed("other\noverwritten\nparts\n")
}
