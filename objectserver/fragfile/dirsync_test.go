package fragfile

import (
	"errors"
	"testing"
	"testing/synctest"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"

	"ringfort/internal/vfs"
)

// gateFS holds every directory sync until the test lets it go with a result.
type gateFS struct {
	vfs.FS
	begun chan struct{}
	gate  chan error
}

type gateFile struct {
	vfs.File
	fs *gateFS
}

func (g *gateFS) OpenDir(name string) (vfs.File, error) {
	f, err := g.FS.OpenDir(name)
	return &gateFile{File: f, fs: g}, err
}

func (f *gateFile) Sync() error {
	f.fs.begun <- struct{}{}
	return <-f.fs.gate
}

// TestDirSyncRounds holds a sync open while others come: none of them may rely on
// it, and all of them share the next one and its result.
func TestDirSyncRounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gateFS{FS: pebblevfs.NewMem(), begun: make(chan struct{}, 10), gate: make(chan error)}
		g.FS.MkdirAll("/d", 0o755)
		var d dirSync
		results := make(chan error, 10)
		call := func() { results <- d.sync(g, "/d") }

		go call()
		synctest.Wait()
		for range 4 {
			go call()
		}
		synctest.Wait()
		if n := len(g.begun); n != 1 {
			t.Fatalf("%d syncs run at a time", n)
		}
		g.gate <- nil
		synctest.Wait()
		if err := <-results; err != nil || len(results) != 0 {
			t.Fatalf("first round: %v, and %d others returned early", err, len(results))
		}
		// One comes late, while the second round runs.
		go call()
		synctest.Wait()
		broken := errors.New("broken")
		g.gate <- broken
		synctest.Wait()
		if len(results) != 4 {
			t.Fatalf("second round let %d of 4 go", len(results))
		}
		for range 4 {
			if err := <-results; err != broken {
				t.Errorf("one of the second round was told %v", err)
			}
		}
		g.gate <- nil
		synctest.Wait()
		if err := <-results; err != nil {
			t.Errorf("third round: %v", err)
		}
		if n := len(g.begun); n != 3 {
			t.Errorf("%d syncs for 6 callers, want 3", n)
		}
		if d.running != nil || d.next != nil {
			t.Error("a round is left over")
		}
	})
}
