package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"ringfort/e2e/harness"
)

// swift returns a function that runs the swift client against s.
func swift(t *testing.T, s *harness.System) (*harness.Sandbox, func(args ...string) string) {
	t.Helper()
	program := harness.Find(t, "swift")
	box := harness.NewSandbox(t)
	box.Setenv("ST_AUTH", s.SwiftAuth(t))
	box.Setenv("ST_USER", s.SwiftUser())
	box.Setenv("ST_KEY", s.SecretKey)
	return box, func(args ...string) string {
		t.Helper()
		return box.Run(program, append([]string{"--retries", "0"}, args...)...)
	}
}

// TestSwiftTree uploads a tree and downloads it.
func TestSwiftTree(t *testing.T) {
	t.Parallel()
	rig.Each(t, harness.Setups(), func(t *testing.T, s *harness.System) {
		box, run := swift(t, s)
		tree := harness.TreeFor(t)
		run("upload", "--object-name", "tree", "swift-tree", tree)
		listed := strings.Count(run("list", "swift-tree", "--prefix", "tree/"), "\n")
		equal(t, "objects listed", listed, harness.Files(t, tree))
		name := strings.SplitN(run("list", "swift-tree", "--prefix", "tree/"), "\n", 2)[0]
		written := header(run("stat", "swift-tree", name), "X-Timestamp")
		run("upload", "--skip-identical", "--object-name", "tree", "swift-tree", tree)
		equal(t, "time of an identical object", header(run("stat", "swift-tree", name), "X-Timestamp"), written)
		run("download", "swift-tree", "-D", box.Path("back"))
		harness.SameTree(t, tree, box.Path("back", "tree"))
		stat := run("stat", "swift-tree")
		if want := fmt.Sprintf("Objects: %d", listed); !strings.Contains(stat, want) {
			t.Errorf("stat lacks %q:\n%s", want, stat)
		}
		run("delete", "swift-tree")
		equal(t, "containers left", harness.Lines(run("list"), "swift-tree"), 0)
	})
}

// header returns the value of a line "name: value" of what stat prints.
func header(stat, name string) string {
	for line := range strings.Lines(stat) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// TestSwiftSegments uploads a large file in segments, as a dynamic and as a static
// large object, and downloads it.
func TestSwiftSegments(t *testing.T) {
	t.Parallel()
	for _, kind := range []struct {
		name    string
		options []string
	}{{"dynamic", nil}, {"static", []string{"--use-slo"}}} {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			rig.Each(t, harness.Setups(), func(t *testing.T, s *harness.System) {
				box, run := swift(t, s)
				big := harness.BigFile(t, box.Path("big"), bigBytes)
				container := "swift-" + kind.name
				args := append([]string{"upload", "--segment-size", fmt.Sprint(segmentBytes())}, kind.options...)
				run(append(args, "--object-name", "dir/big", container, big)...)
				info, err := os.Stat(big)
				if err != nil {
					t.Fatal(err)
				}
				stat := run("stat", container, "dir/big")
				if want := fmt.Sprintf("Content Length: %d", info.Size()); !strings.Contains(stat, want) {
					t.Errorf("stat lacks %q:\n%s", want, stat)
				}
				segments := strings.Count(run("list", container+"_segments"), "\n")
				equal(t, "segments", segments, int((info.Size()+segmentBytes()-1)/segmentBytes()))
				run("download", container, "dir/big", "-o", box.Path("back"))
				harness.SameFile(t, big, box.Path("back"))
				run("delete", container, "dir/big")
				equal(t, "segments left", run("list", container+"_segments"), "")
			})
		})
	}
}

func segmentBytes() int64 {
	if harness.Long() {
		return 256 << 20
	}
	return 5 << 20
}

// TestSwiftMetadata posts, stats, copies and lists.
func TestSwiftMetadata(t *testing.T) {
	t.Parallel()
	rig.Each(t, harness.Setups(), func(t *testing.T, s *harness.System) {
		box, run := swift(t, s)
		if info := run("info"); !strings.Contains(info, "swift") {
			t.Errorf("info says %s", info)
		}
		run("post", "swift-meta", "-m", "Shape:round")
		run("post", "swift-meta", "-m", "Size:big")
		stat := run("stat", "swift-meta")
		if !strings.Contains(stat, "Meta Shape: round") || !strings.Contains(stat, "Meta Size: big") {
			t.Errorf("container metadata does not merge:\n%s", stat)
		}
		small := box.WriteFile("small", "0123456789")
		name := "a b/ü+&%20.txt"
		run("upload", "--object-name", name, "-m", "Colour:blue", "swift-meta", small)
		run("post", "swift-meta", name, "-m", "Taste:sweet")
		stat = run("stat", "swift-meta", name)
		if strings.Contains(stat, "Meta Colour") || !strings.Contains(stat, "Meta Taste: sweet") {
			t.Errorf("object metadata is not replaced:\n%s", stat)
		}
		run("copy", "-d", "/swift-meta/copied", "swift-meta", name)
		run("download", "swift-meta", "copied", "-o", box.Path("copied"))
		harness.SameFile(t, small, box.Path("copied"))
		long := run("list", "--lh", "swift-meta")
		equal(t, "rows of the long listing", harness.Lines(long, ":"), 2)
		folded := run("list", "swift-meta", "--delimiter", "/")
		equal(t, "folded listing", folded, "a b/\ncopied\n")
		run("post", "-m", "Owner:e2e")
		if stat := run("stat"); !strings.Contains(stat, "Meta Owner: e2e") {
			t.Errorf("account metadata is lost:\n%s", stat)
		}
		run("delete", "swift-meta")
	})
}
