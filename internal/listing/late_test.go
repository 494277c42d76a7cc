package listing

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	pvfs "github.com/cockroachdb/pebble/v2/vfs"

	"ringfort/internal/catalog"
	"ringfort/internal/errs"
	"ringfort/internal/peer"
	"ringfort/internal/vfs"
)

// stuckFS is a file system whose syncs of the log can be made to hang.
type stuckFS struct {
	vfs.FS
	mu    sync.Mutex
	stuck chan struct{} // not nil: syncs wait until it is closed
	syncs chan struct{} // gets one for each sync that begins to wait
}

func (s *stuckFS) hang() (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	stuck := make(chan struct{})
	s.stuck = stuck
	return func() {
		s.mu.Lock()
		s.stuck = nil
		s.mu.Unlock()
		close(stuck)
	}
}

func (s *stuckFS) wrap(name string, f vfs.File, err error) (vfs.File, error) {
	if err != nil || !strings.Contains(name, "/log/") {
		return f, err
	}
	return &stuckFile{f, s}, nil
}

func (s *stuckFS) Create(name string, c pvfs.DiskWriteCategory) (vfs.File, error) {
	f, err := s.FS.Create(name, c)
	return s.wrap(name, f, err)
}

func (s *stuckFS) OpenReadWrite(name string, c pvfs.DiskWriteCategory, o ...pvfs.OpenOption) (vfs.File, error) {
	f, err := s.FS.OpenReadWrite(name, c, o...)
	return s.wrap(name, f, err)
}

func (s *stuckFS) ReuseForWrite(old, name string, c pvfs.DiskWriteCategory) (vfs.File, error) {
	f, err := s.FS.ReuseForWrite(old, name, c)
	return s.wrap(name, f, err)
}

type stuckFile struct {
	vfs.File
	fs *stuckFS
}

func (f *stuckFile) wait() {
	f.fs.mu.Lock()
	stuck := f.fs.stuck
	f.fs.mu.Unlock()
	if stuck != nil {
		f.fs.syncs <- struct{}{}
		<-stuck
	}
}

func (f *stuckFile) Sync() error     { f.wait(); return f.File.Sync() }
func (f *stuckFile) SyncData() error { f.wait(); return f.File.SyncData() }

// TestCallerLeavesHungDevice: a caller whose context ends is let go while its
// batch is being synced; the name stays locked until it is known what became of
// the batch, so the counters stay exact.
func TestCallerLeavesHungDevice(t *testing.T) {
	fs := &stuckFS{FS: pvfs.NewMem(), syncs: make(chan struct{}, 1000)}
	v := openVolume(t, fs, "/vol")
	defer v.Close()
	s := NewStore(v, testSpaces)
	l := testListing(1, catalog.Objects)
	put(t, s, l, row("a", 1, 10), row("b", 1, 1))

	release := fs.hang()
	ctx, cancel := context.WithCancel(context.Background())
	left, known := make(chan error), make(chan struct{})
	go func() {
		left <- s.PutWith(ctx, &l, []catalog.Row{row("a", 2, 20)}, func() { close(known) })
	}()
	<-fs.syncs
	cancel()
	if err := <-left; !errs.Is(err, errs.OutcomeUnknown) {
		t.Fatalf("the caller was told %v", err)
	}
	// Another writer of the name waits, and can leave too; its rows are not stored.
	short, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Put(short, &l, []catalog.Row{row("a", 3, 30)}); !errs.Is(err, errs.Canceled) || !errors.Is(err, context.Canceled) {
		t.Fatalf("a second writer was told %v", err)
	}
	select {
	case <-known:
		t.Fatal("the outcome cannot be known yet")
	default:
	}
	// Readers of what is there do not wait.
	if st, err := s.Get(context.Background(), &l, []string{"a"}); err != nil || st[0].Row.Ballot != at(1) {
		t.Fatalf("%+v, %v", st, err)
	}
	third := make(chan error)
	go func() { third <- s.Put(context.Background(), &l, []catalog.Row{row("a", 4, 40), row("c", 1, 1)}) }()
	release()
	<-known
	if err := <-third; err != nil {
		t.Fatal(err)
	}
	if stats, err := s.Stats(&l); err != nil || stats != (peer.ListingStats{Count: 3, Bytes: 42}) {
		t.Errorf("%+v, %v", stats, err)
	}
	if s.late.full() {
		t.Error("nothing is late any more")
	}
}
