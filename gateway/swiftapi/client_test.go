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

// TestSwiftClient uses python-swiftclient, where it is installed: the client that
// most people have.
func TestSwiftClient(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a Python program many times")
	}
	program, err := exec.LookPath("swift")
	if err != nil {
		t.Skip("there is no swift client here")
	}
	s := server(t, swifttest.NewStore(), nil)
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(ctx, program, append([]string{"--retries", "0"}, args...)...)
		cmd.Dir = dir
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LC_ALL=C.UTF-8",
			"ST_AUTH=" + s.URL + "/auth/v1.0", "ST_USER=main:AK", "ST_KEY=secret"}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("swift %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
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
