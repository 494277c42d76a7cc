package ringcmd

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ringfort/internal/vfs"
	"ringfort/ring"
	"ringfort/ring/builder"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

// counting is a source of random bytes that are the same every time.
type counting struct{ n byte }

func (c *counting) Read(p []byte) (int, error) {
	for i := range p {
		c.n++
		p[i] = c.n
	}
	return len(p), nil
}

// TestSessions runs the commands of each testdata/*.session and compares what
// they print. Lines that begin with "$ " are commands, "+1h" lets an hour pass,
// the others are what came out; "[1]" is the exit status.
func TestSessions(t *testing.T) {
	files, err := filepath.Glob("testdata/*.session")
	if err != nil || len(files) == 0 {
		t.Fatal("no sessions", err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			want, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			abs, err := filepath.Abs(f)
			if err != nil {
				t.Fatal(err)
			}
			t.Chdir(t.TempDir())
			got := runSession(t, string(want))
			if *rewrite {
				if err := os.WriteFile(abs, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(want) {
				t.Errorf("%s prints\n%s\nwanted\n%s", f, got, want)
			}
		})
	}
}

func runSession(t *testing.T, script string) string {
	now := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	e := &env{fs: vfs.Default(), now: func() time.Time { return now }, random: &counting{}}
	var out strings.Builder
	for line := range strings.Lines(script) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "#"):
			fmt.Fprintln(&out, line)
		case line == "+1h":
			now = now.Add(time.Hour)
			fmt.Fprintln(&out, line)
		case strings.HasPrefix(line, "$ ring "):
			fmt.Fprintln(&out, line)
			c := newCommand(e)
			var buf bytes.Buffer
			c.SetOut(&buf)
			c.SetErr(&buf)
			c.SetArgs(strings.Fields(line)[2:])
			err := c.Execute()
			for l := range strings.Lines(buf.String()) {
				fmt.Fprintln(&out, strings.TrimRight(l, " \n"))
			}
			if err != nil {
				fmt.Fprintln(&out, err)
			}
			fmt.Fprintf(&out, "[%d]\n", ExitStatus(err))
		}
	}
	return out.String()
}

func TestRebalanceKeepsOldFilesWhenItFails(t *testing.T) {
	t.Chdir(t.TempDir())
	e := &env{fs: vfs.Default(), now: time.Now, random: &counting{}}
	run := func(args ...string) error {
		c := newCommand(e)
		c.SetArgs(args)
		c.SetOut(&bytes.Buffer{})
		return c.Execute()
	}
	if err := run("create", "x.builder", "--power", "4", "--replicas", "2"); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile("x.builder")
	if err != nil {
		t.Fatal(err)
	}
	if err := run("rebalance", "x.builder"); ExitStatus(err) != StatusError {
		t.Errorf("a rebalance without devices: %v", err)
	}
	after, err := os.ReadFile("x.builder")
	if err != nil || !bytes.Equal(before, after) {
		t.Error("a failed rebalance changed the builder", err)
	}
	if _, err := os.Stat("x.ring"); !errors.Is(err, os.ErrNotExist) {
		t.Error("a failed rebalance wrote a ring", err)
	}
}

func TestWrittenRingIsTheBuilders(t *testing.T) {
	t.Chdir(t.TempDir())
	runSession(t, `$ ring create o.builder --power 5 --replicas 2 --seed 3
$ ring add o.builder --node a --address a:1 --weight 1
$ ring add o.builder --node b --address b:1 --weight 1
$ ring add o.builder --node c --address c:1 --weight 2
$ ring rebalance o.builder
`)
	r, err := ring.Load(vfs.Default(), "o.ring")
	if err != nil {
		t.Fatal(err)
	}
	b, err := builder.Load(vfs.Default(), "o.builder")
	if err != nil {
		t.Fatal(err)
	}
	want, err := b.Ring()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(r.Encode(), want.Encode()) || r.Epoch() != 1 {
		t.Error("the ring file is not the ring of the builder")
	}
}

func TestNewHasAllCommands(t *testing.T) {
	for _, name := range []string{"create", "add", "set-weight", "remove", "rebalance", "show", "validate"} {
		c, _, err := New().Find([]string{name})
		if err != nil || c.Name() != name {
			t.Errorf("%s: %v", name, err)
		}
	}
}
