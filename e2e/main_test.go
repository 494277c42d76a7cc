// Package e2e holds the black-box tests: real clients of both protocols against
// real ringfort processes, on one directory, on four, and on four processes.
//
// The short form runs with "make test"; RINGFORT_E2E=long ("make e2e") takes the
// source tree of Go and a file of 2 GiB instead of small ones. Each client has a
// file of its own. How processes and clients are run is in e2e/harness. Tests are
// parallel but for those that measure memory: those come first and have the machine
// to themselves.
package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ringfort/e2e/harness"
)

// rig is what all tests share: the program, built once.
var rig *harness.Harness

func TestMain(m *testing.M) {
	h, err := harness.New()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	rig = h
	code := m.Run()
	if err := h.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// todays are releases of this year of clients that Linux distributions have in
// older ones.
var todays = map[string]harness.Tool{
	"rclone": {Module: "github.com/rclone/rclone", Version: "v1.75.1", Package: "."},
	"restic": {Module: "github.com/restic/restic", Version: "v0.18.1", Package: "./cmd/restic"},
}

// eachProgram runs test on every set-up with the client that is installed and, in
// the long form, with today's release of it.
func eachProgram(t *testing.T, name string, test func(t *testing.T, s *harness.System, program string)) {
	t.Parallel()
	run := func(find func(t testing.TB) string) func(t *testing.T) {
		return func(t *testing.T) {
			t.Parallel()
			program := find(t)
			rig.Each(t, harness.Setups(), func(t *testing.T, s *harness.System) { test(t, s, program) })
		}
	}
	t.Run("installed", run(func(t testing.TB) string { return harness.Find(t, name) }))
	if harness.Long() {
		t.Run("today", run(func(t testing.TB) string { return rig.BuildTool(t, todays[name]) }))
	}
}

// bigBytes is the size of a file that clients send in parts, in the short form.
const bigBytes = 21<<20 + 17

// equal fails the test unless got is want.
func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// change alters a tree in the ways that a sync has to notice: a file with other
// bytes, a file of another length, a new one, and one that is gone. It returns how
// many files are to be sent and deleted.
func change(t *testing.T, tree string) (sent, deleted int) {
	t.Helper()
	// Clients that go by the time of a change see whole seconds only.
	later := time.Now().Add(2 * time.Second)
	write(t, tree, "changed-1", "other", later)
	write(t, tree, "changed-2", "longer than before", later)
	write(t, tree, "new file", "new", later)
	if err := os.Remove(tree + "/doomed"); err != nil {
		t.Fatal(err)
	}
	return 3, 1
}

// changeable copies tree to dir and adds the files that change works on.
func changeable(t *testing.T, tree, dir string) {
	t.Helper()
	harness.CopyTree(t, tree, dir)
	earlier := time.Now().Add(-time.Hour)
	for name, text := range map[string]string{"changed-1": "first", "changed-2": "short", "doomed": "bye"} {
		write(t, dir, name, text, earlier)
	}
}

func write(t *testing.T, dir, name, text string, modified time.Time) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, modified, modified); err != nil {
		t.Fatal(err)
	}
}
