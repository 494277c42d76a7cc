package docs

import (
	"context"
	"crypto/md5"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	mrand "math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ringfort/account"
	"ringfort/container"
	"ringfort/internal/catalog"
	"ringfort/internal/catalog/catalogtest"
	"ringfort/internal/keyhash"
	"ringfort/internal/listing"
	"ringfort/internal/peer"
	"ringfort/internal/register"
	"ringfort/internal/timestamp"
	"ringfort/internal/vfs"
	"ringfort/internal/volume"
	"ringfort/objectserver"
)

// TestMeasureCapacity takes the measured figures of capacity.md. It is for whoever
// changes what is stored, and runs when it is told how many entries to store:
//
//	RINGFORT_MEASURE=1000000 go test -v -run TestMeasureCapacity ./docs
func TestMeasureCapacity(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("RINGFORT_MEASURE"))
	if err != nil || n < 1 {
		t.Skip("set RINGFORT_MEASURE to a number of entries")
	}
	t.Run("records", func(t *testing.T) { measure(t, n, putRecord) })
	t.Run("records in random order of keys, overwritten once", func(t *testing.T) { measure(t, n, putRecordTwice) })
	t.Run("fragments", func(t *testing.T) { measure(t, n, putFragment) })
	t.Run("rows", func(t *testing.T) { measure(t, n, putRow) })
}

// A putter stores entry i.
type putter func(*meter, int) error

type meter struct {
	vol    *volume.Volume
	rows   *listing.Store
	spaces map[string]volume.SpaceID
	clock  *timestamp.Clock
	secret keyhash.Secret
}

// measure stores n entries over 64 writers, closes the volume and looks at it.
func measure(t *testing.T, n int, put putter) {
	m := &meter{spaces: map[string]volume.SpaceID{}, clock: timestamp.NewClock(timestamp.NewWriter(), nil), secret: keyhash.NewSecret()}
	cfg := volume.Config{Dir: t.TempDir() + "/volume", FS: vfs.Default()}
	cfg.Spaces = append(append(objectserver.Spaces(), container.Spaces()...), account.Spaces()...)
	for _, s := range cfg.Spaces {
		m.spaces[s.Name] = s.ID
	}
	m.open(t, cfg)
	begin := time.Now()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for i := int(next.Add(1)); i <= n; i = int(next.Add(1)) {
				if err := put(m, i); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(begin)
	st := m.vol.Stats()
	if err := m.vol.Close(); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	files := descriptors()
	m.open(t, cfg)
	runtime.GC()
	runtime.ReadMemStats(&after)
	end := m.vol.Stats()
	per := func(b int64) string { return fmt.Sprintf("%.1f", float64(b)/float64(n)) }
	t.Logf("%d entries in %v (%.0f/s)", n, took.Round(time.Millisecond), float64(n)/took.Seconds())
	t.Logf("bytes an entry: log %s, index on disk %s, written to the index %s",
		per(st.LogBytes[volume.Meta]+st.LogBytes[volume.Bulk]), per(end.IndexSize), per(st.IndexBytes))
	t.Logf("reopened: heap %d KiB, descriptors %d", (int64(after.HeapAlloc)-int64(before.HeapAlloc))>>10, descriptors()-files)
	if err := m.vol.Close(); err != nil {
		t.Fatal(err)
	}
}

func (m *meter) open(t *testing.T, cfg volume.Config) {
	v, err := volume.Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	m.vol = v
	m.rows = listing.NewStore(v, listing.Spaces{
		Current: m.spaces["container rows"], Versions: m.spaces["container version rows"],
		Tombstones: m.spaces["container row tombstones"], Counters: m.spaces["container row counters"],
	})
}

func descriptors() int {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(list)
}

// name is 40 bytes long, what a name of a backup or a photograph is.
func name(i int) string { return fmt.Sprintf("photos/2026/november/holiday-%08d.jpeg", i) }

func object(i int, op timestamp.T) *catalog.Object {
	return &catalog.Object{
		ContainerAccount: "main", Container: "backups", Incarnation: catalog.Incarnation{1}, Name: name(i),
		Size: 4096, ETag: fmt.Sprintf("%x", md5.Sum([]byte(name(i)))), ContentType: "image/jpeg", Modified: time.Now().UnixMicro(), TS: op,
		Meta: catalog.Pairs{{Name: "meta-mtime", Value: "1763629200.123456789"}},
	}
}

// putRecord stores what a device keeps of a small object, note included, but with
// 64 bytes of it instead of all.
func putRecord(m *meter, i int) error {
	op := m.clock.Now()
	ts := m.clock.Now()
	data := make([]byte, 64)
	rand.Read(data)
	key := m.secret.Of(keyhash.Object, name(i))
	st := register.State{Held: true, Record: &register.Record{
		Ballot: ts, TS: ts, Op: op, Root: ts, Mod: ts, Epoch: 1, DataLen: len(data), Value: catalogtest.Bytes(object(i, op)),
	}}
	note := register.Note{Ballot: ts, Micros: time.Now().UnixMicro()}
	b := m.vol.NewBatch(volume.Meta)
	b.Put(m.spaces["object states"], key[:], st.AppendTo(nil), data, volume.Ref{})
	b.Put(m.spaces["object notes"], key[:], note.AppendTo(nil), nil, volume.Ref{})
	if err := m.vol.Commit(context.Background(), b); err != nil {
		return err
	}
	b = m.vol.NewBatch(volume.Meta)
	b.Delete(m.spaces["object notes"], key[:], volume.Ref{})
	m.vol.CommitLazy(b)
	return nil
}

func putRecordTwice(m *meter, i int) error {
	if err := putRecord(m, i); err != nil {
		return err
	}
	return putRecord(m, mrand.IntN(i)+1)
}

// putFragment stores what the index keeps of a fragment in a file.
func putFragment(m *meter, i int) error {
	key := m.secret.Of(keyhash.Object, name(i))
	k := append(m.clock.Now().AppendTo(key[:]), make([]byte, 13)...)
	head := binary.BigEndian.AppendUint64([]byte{2, 2, 2, 0, 0, 0, 0}, uint64(i))
	b := m.vol.NewBatch(volume.Meta)
	b.Put(m.spaces["fragments"], k, head, nil, volume.Ref{})
	return m.vol.Commit(context.Background(), b)
}

// putRow stores an object's row.
func putRow(m *meter, i int) error {
	o := object(i, m.clock.Now())
	v := catalog.RowValue{Size: o.Size, ETag: o.ETag, ContentType: o.ContentType, Modified: o.Modified}
	ts := m.clock.Now()
	row := catalog.Row{Name: o.Name, Ballot: ts, TS: ts, Bytes: o.Size, Value: catalogtest.Bytes(&v)}
	l := peer.Listing{Table: catalog.Objects, Incarnation: o.Incarnation}
	return m.rows.Put(context.Background(), &l, []catalog.Row{row})
}
