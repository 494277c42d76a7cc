package volume

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"ringfort/internal/errs"
	"ringfort/internal/vfs/faultfs"
)

var (
	modelSeeds = flag.Int("volume.seeds", 200, "how many seeds TestModel tries")
	rewrite    = flag.Bool("rewrite", false, "write the golden files anew")
	modelSeed  = flag.Uint64("volume.seed", 0, "the one seed that TestModel tries, 0: many")
)

// TestModel runs random batches against a volume and a map, cuts the power at a
// random file operation, and compares. What was acknowledged must be there; of what
// was not, each batch whole or not at all.
func TestModel(t *testing.T) {
	if *modelSeed != 0 {
		runModel(t, *modelSeed)
		return
	}
	n := *modelSeeds
	if testing.Short() {
		n = min(n, 50)
	}
	seeds := make(chan uint64)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for seed := range seeds {
				if !t.Failed() {
					runModel(t, seed)
				}
			}
		})
	}
	for i := range n {
		seeds <- uint64(i) + 1
	}
	close(seeds)
	wg.Wait()
}

func runModel(t *testing.T, seed uint64) {
	m := &model{seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), mem: faultfs.NewMem()}
	defer func() {
		if p := recover(); p != nil {
			if _, ok := p.(modelFailure); !ok {
				panic(p)
			}
			t.Errorf("seed %d: %v\nrepeat with: go test -run TestModel ./internal/volume -volume.seed=%d", seed, p, seed)
		}
	}()
	m.run()
}

type modelFailure string

// model is one run: a disk, and what should be on it.
type model struct {
	seed uint64
	rng  *rand.Rand
	mem  *faultfs.Mem
	w    [3]modelWriter
	v    *Volume

	mu       sync.Mutex
	findings []string
}

func (m *model) failf(format string, args ...any) {
	panic(modelFailure(fmt.Sprintf(format, args...)))
}

// state is what a writer's keys hold: "space/key" to "head|tail" or counters.
type state map[string]string

// modelWriter is a goroutine with keys of its own.
type modelWriter struct {
	m       *model
	id      int
	rng     *rand.Rand
	acked   state
	pending []change        // after the last acknowledged Commit: lazy ones, and one in flight
	busy    map[string]bool // keys in pending lazy changes, not to be touched again yet
	bulk    []string        // keys put in Bulk and not deleted
	err     error
}

// change is what a batch does to the state.
type change struct {
	lane Lane
	f    []func(state)
}

func (c change) apply(s state) {
	for _, f := range c.f {
		f(s)
	}
}

func (m *model) config(fs *faultfs.FS) Config {
	cfg := testConfig(fs)
	cfg.MemTableBytes = 64 << 10
	cfg.MetaSegmentBytes = 64 << 10
	cfg.BulkSegmentBytes = 128 << 10
	cfg.MaxReplayBytes = 96 << 10
	cfg.CompactBytesPerSecond = 1 << 40
	cfg.directBytes = 2 << 10
	cfg.OnFinding = func(f Finding) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if !fs.IsCut() {
			m.findings = append(m.findings, f.String())
		}
	}
	return cfg
}

func (m *model) run() {
	for i := range m.w {
		m.w[i] = modelWriter{m: m, id: i, acked: state{}, rng: rand.New(rand.NewPCG(m.seed, uint64(i)+10))}
	}
	cycles := 2 + m.rng.IntN(4)
	for range cycles {
		m.cycle()
	}
	m.rebuild()
}

// cycle opens the volume, works until the power is cut, and checks what is left.
func (m *model) cycle() {
	fs := faultfs.Wrap(m.mem)
	if m.rng.IntN(8) > 0 {
		fs.CutAt(1+m.rng.IntN(1<<(3+m.rng.IntN(8))), m.rng.IntN(2) == 0)
	}
	v, err := Open(context.Background(), m.config(fs))
	if err == nil {
		m.v = v
		m.work(v)
		if m.rng.IntN(2) == 0 {
			fs.Cut()
		}
		err = v.Close()
		if !fs.IsCut() && err != nil {
			m.failf("close: %v", err)
		}
	} else if !fs.IsCut() {
		m.failf("open: %v", err)
	}
	m.crash()
	m.check()
}

// crash replaces the disk by what a power cut leaves of it.
func (m *model) crash() {
	if m.rng.IntN(3) == 0 {
		m.mem = m.mem.Crash(nil)
	} else {
		m.mem = m.mem.Crash(m.rng)
	}
}

func (m *model) work(v *Volume) {
	var wg sync.WaitGroup
	steps := 1 + m.rng.IntN(60)
	for i := range m.w {
		w := &m.w[i]
		wg.Go(func() {
			for range steps {
				if w.step(v) {
					return
				}
			}
		})
	}
	wg.Wait()
	for i := range m.w {
		if err := m.w[i].err; err != nil {
			m.failf("writer %d: %v", i, err)
		}
	}
}

func (w *modelWriter) key(space SpaceID) string {
	return fmt.Sprintf("w%d-%03d", w.id, w.rng.IntN(40))
}

func (w *modelWriter) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = 'a' + byte(w.rng.IntN(26))
	}
	return b
}

// step makes one batch and commits it. It reports true when the volume has failed.
func (w *modelWriter) step(v *Volume) (stop bool) {
	if w.busy == nil {
		w.busy = map[string]bool{}
	}
	lane := Meta
	if w.rng.IntN(4) == 0 {
		lane = Bulk
	}
	lazy := lane == Meta && w.rng.IntN(5) == 0
	b := v.NewBatch(lane)
	c := change{lane: lane}
	var touched []string
	for range 1 + w.rng.IntN(4) {
		k, ok := w.op(v, b, &c, touched)
		if w.err != nil {
			b.Discard()
			return true
		}
		if !ok {
			b.Discard()
			return true // only the power cut makes reads fail
		}
		touched = append(touched, k)
	}
	if b.Len() == 0 {
		b.Discard()
		return false
	}
	w.pending = append(w.pending, c)
	if lazy {
		for _, k := range touched {
			w.busy[k] = true
		}
		v.CommitLazy(b)
		return false
	}
	err := v.Commit(context.Background(), b)
	if err != nil {
		if !errs.Is(err, errs.Unavailable) {
			w.err = err
		}
		return true
	}
	if lane == Meta {
		for _, c := range w.pending {
			c.apply(w.acked)
		}
		w.pending, w.busy = nil, nil
		return w.readBack(v)
	}
	// The lazy ones before it are another lane's: still in doubt.
	c.apply(w.acked)
	w.pending = w.pending[:len(w.pending)-1]
	return false
}

// op adds one random operation. ok is false if the volume could not be read.
func (w *modelWriter) op(v *Volume, b *Batch, c *change, touched []string) (name string, ok bool) {
	add := func(f func(state)) { c.f = append(c.f, f) }
	if b.lane == Bulk {
		return w.putBulk(v, b, add, touched)
	}
	switch w.rng.IntN(10) {
	case 0, 1, 2, 3, 4:
		return w.put(v, b, add, touched)
	case 5, 6:
		return w.remove(v, b, add, touched)
	case 7:
		lo, hi := w.key(rows), w.key(rows)
		if lo > hi {
			lo, hi = hi, lo
		}
		b.DeleteRange(rows, []byte(lo), []byte(hi))
		add(func(s state) {
			maps.DeleteFunc(s, func(k, _ string) bool { return strings.HasPrefix(k, "2/") && k >= "2/"+lo && k < "2/"+hi })
		})
		return "", true
	default:
		n := int64(w.rng.IntN(100)) - 50
		b.Add(cnts, fmt.Appendf(nil, "w%d-n", w.id), 1, n)
		add(func(s state) { addState(s, fmt.Sprintf("3/w%d-n", w.id), 1, n) })
		return "", true
	}
}

// putBulk puts one of few keys, so that most were put and deleted before.
func (w *modelWriter) putBulk(v *Volume, b *Batch, add func(func(state)), touched []string) (string, bool) {
	key := fmt.Sprintf("w%d-bulk%02d", w.id, w.rng.IntN(12))
	name := "1/" + key
	if w.busy[name] || slices.Contains(touched, name) {
		return "", true
	}
	old, ok := w.old(v, kept, key)
	if !ok {
		return "", false
	}
	tail := w.bytes(1 + w.rng.IntN(3500))
	b.Put(kept, []byte(key), []byte("frag"), tail, old)
	add(func(s state) { s[name] = "frag|" + string(tail) })
	if !slices.Contains(w.bulk, key) {
		w.bulk = append(w.bulk, key)
	}
	n := int64(w.rng.IntN(100))
	b.Add(cnts, fmt.Appendf(nil, "w%d-n", w.id), 1, n)
	add(func(s state) { addState(s, fmt.Sprintf("3/w%d-n", w.id), 1, n) })
	return name, true
}

func addState(s state, key string, d ...int64) {
	var old [2]int64
	fmt.Sscanf(s[key], "%d %d", &old[0], &old[1])
	s[key] = fmt.Sprintf("%d %d", old[0]+d[0], old[1]+d[1])
}

// old returns the Ref of an entry, or ok false if it could not be read.
func (w *modelWriter) old(v *Volume, space SpaceID, key string) (Ref, bool) {
	val, err := v.Get(space, []byte(key))
	if errs.Is(err, errs.NotFound) {
		return Ref{}, true
	}
	if errs.Is(err, errs.Corrupt) {
		w.err = err
	}
	return val.Ref, err == nil
}

func (w *modelWriter) put(v *Volume, b *Batch, add func(func(state)), touched []string) (string, bool) {
	space := kept
	if w.rng.IntN(3) == 0 {
		space = rows
	}
	key := w.key(space)
	name := fmt.Sprintf("%d/%s", space, key)
	if w.busy[name] || slices.Contains(touched, name) {
		return "", true
	}
	old, ok := w.old(v, space, key)
	if !ok {
		return "", false
	}
	head := w.bytes(w.rng.IntN(40))
	if w.rng.IntN(5) == 0 {
		head = w.bytes(65 + w.rng.IntN(300))
	}
	var tail []byte
	if space == kept && w.rng.IntN(2) == 0 {
		tail = w.bytes(1 + w.rng.IntN(1500))
	}
	if space == rows && len(head) > 64 {
		head = head[:64]
	}
	b.Put(space, []byte(key), head, tail, old)
	add(func(s state) { s[name] = string(head) + "|" + string(tail) })
	return name, true
}

func (w *modelWriter) remove(v *Volume, b *Batch, add func(func(state)), touched []string) (string, bool) {
	space, key := kept, w.key(kept)
	switch n := w.rng.IntN(4); {
	case n == 0:
		space = rows
	case n < 3 && len(w.bulk) > 0:
		i := w.rng.IntN(len(w.bulk))
		key = w.bulk[i]
		w.bulk = slices.Delete(w.bulk, i, i+1)
	}
	name := fmt.Sprintf("%d/%s", space, key)
	if w.busy[name] || slices.Contains(touched, name) {
		return "", true
	}
	old, ok := w.old(v, space, key)
	if !ok {
		return "", false
	}
	if w.rng.IntN(10) == 0 {
		old = Ref{} // the volume must look it up
	}
	b.Delete(space, []byte(key), old)
	add(func(s state) { delete(s, name) })
	return name, true
}

// readBack compares one random entry with the model at once.
func (w *modelWriter) readBack(v *Volume) (stop bool) {
	key := w.key(kept)
	if len(w.bulk) > 0 && w.rng.IntN(2) == 0 {
		key = w.bulk[w.rng.IntN(len(w.bulk))]
	}
	want, exists := w.acked["1/"+key]
	got, err := readState(v, kept, key)
	switch {
	case errs.Is(err, errs.NotFound):
		if exists {
			w.err = fmt.Errorf("%s is gone", key)
		}
	case errs.Is(err, errs.Unavailable):
		return true
	case err != nil:
		w.err = err
	case !exists || got != want:
		w.err = fmt.Errorf("%s is %.40q, want %.40q (there: %v)", key, got, want, exists)
	}
	return w.err != nil
}

func readState(v *Volume, space SpaceID, key string) (string, error) {
	val, err := v.Get(space, []byte(key))
	if err != nil {
		return "", err
	}
	tail, err := v.ReadTail(val, 0, val.TailLen, nil)
	return string(val.Head) + "|" + string(tail), err
}

// check opens the volume, cutting the power during recovery a few times, and
// compares its state with the model's.
func (m *model) check() {
	for m.rng.IntN(2) == 0 {
		fs := faultfs.Wrap(m.mem)
		fs.CutAt(1+m.rng.IntN(60), m.rng.IntN(2) == 0)
		v, err := Open(context.Background(), m.config(fs))
		if err == nil {
			err = v.Close()
		}
		if err != nil && !fs.IsCut() {
			m.failf("open after crash: %v", err)
		}
		m.crash()
	}
	v, err := Open(context.Background(), m.config(faultfs.Wrap(m.mem)))
	if err != nil {
		m.failf("open after crash: %v", err)
	}
	got := m.load(v, kept, rows, cnts)
	for i := range m.w {
		m.w[i].settle(got[i])
	}
	m.consistent(v)
	if err := v.Close(); err != nil {
		m.failf("close: %v", err)
	}
}

// load reads everything, by writer.
func (m *model) load(v *Volume, spaces ...SpaceID) []state {
	out := []state{{}, {}, {}}
	for _, space := range spaces {
		it, err := v.NewIter(space, nil, nil)
		if err != nil {
			m.failf("iterator: %v", err)
		}
		n := 0
		for ok := it.First(); ok; ok = it.Next() {
			n++
			key := string(it.Key())
			s := out[key[1]-'0']
			name := fmt.Sprintf("%d/%s", space, key)
			if c := it.Counters(); c != nil {
				s[name] = fmt.Sprintf("%d %d", c[0], c[1])
				continue
			}
			val, err := it.Value()
			if err != nil {
				m.failf("%s: %v", name, err)
			}
			tail, err := v.ReadTail(val, 0, val.TailLen, nil)
			if err != nil || !bytes.Equal(val.Head, it.Head()) {
				m.failf("%s: %v", name, err)
			}
			s[name] = string(val.Head) + "|" + string(tail)
			if got, err := readState(v, space, key); err != nil || got != s[name] {
				m.failf("%s: Get and iterator differ: %v", name, err)
			}
		}
		for ok := it.Last(); ok; ok = it.Prev() {
			n--
		}
		if err := it.Close(); err != nil || n != 0 {
			m.failf("space %d: backwards %d fewer: %v", space, n, err)
		}
	}
	return out
}

// settle finds which of the pending changes are there, and takes that as the truth.
func (w *modelWriter) settle(got state) {
	var lazy, bulk []change
	for _, c := range w.pending {
		if c.lane == Bulk {
			bulk = append(bulk, c)
		} else {
			lazy = append(lazy, c)
		}
	}
	for n := 0; n <= len(lazy); n++ {
		for k := 0; k <= len(bulk); k++ {
			s := maps.Clone(w.acked)
			for _, c := range lazy[:n] {
				c.apply(s)
			}
			for _, c := range bulk[:k] {
				c.apply(s)
			}
			if maps.Equal(s, got) {
				w.acked, w.pending, w.busy = s, nil, nil
				w.bulk = slices.DeleteFunc(w.bulk, func(k string) bool { _, ok := s["1/"+k]; return !ok })
				return
			}
		}
	}
	w.m.failf("writer %d: no prefix of %d lazy and %d bulk changes explains the state:\n%s", w.id, len(lazy), len(bulk), diff(w.acked, got))
}

func diff(want, got state) string {
	var out strings.Builder
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if g, ok := got[k]; !ok || g != want[k] {
			fmt.Fprintf(&out, "%s: acknowledged %.30q, got %.30q (there: %v)\n", k, want[k], g, ok)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[k]; !ok {
			fmt.Fprintf(&out, "%s: not acknowledged, got %.30q\n", k, got[k])
		}
	}
	return out.String()
}

// consistent checks the volume against itself.
func (m *model) consistent(v *Volume) {
	if err := v.Verify(context.Background(), func(f Finding) { m.failf("verify: %v", f) }); err != nil {
		m.failf("verify: %v", err)
	}
	if err := v.checkCounts(); err != nil {
		m.failf("%v", err)
	}
	if f := v.Findings(); len(f) > 0 {
		m.failf("findings: %v", f)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.findings) > 0 {
		m.failf("findings: %v", m.findings)
	}
}

// rebuild makes the index again and compares the kept space.
func (m *model) rebuild() {
	cfg := m.config(faultfs.Wrap(m.mem))
	if err := Rebuild(context.Background(), cfg); err != nil {
		m.failf("rebuild: %v", err)
	}
	v, err := Open(context.Background(), cfg)
	if err != nil {
		m.failf("open after rebuild: %v", err)
	}
	got := m.load(v, kept, rows, cnts)
	for i := range m.w {
		want := maps.Clone(m.w[i].acked)
		maps.DeleteFunc(want, func(k, _ string) bool { return !strings.HasPrefix(k, "1/") })
		if !maps.Equal(want, got[i]) {
			m.failf("writer %d: after rebuild:\n%s", i, diff(want, got[i]))
		}
	}
	m.consistent(v)
	if err := v.Close(); err != nil {
		m.failf("close: %v", err)
	}
}

// checkCounts compares the live bytes that are counted with those the index shows.
// Nothing may be going on.
func (v *Volume) checkCounts() error {
	v.bg.compactMu.Lock()
	defer v.bg.compactMu.Unlock()
	live := map[SegmentID]int64{}
	for id := range v.known {
		if id != int(ownSpace) && !v.known[id] {
			continue
		}
		it, err := v.NewIter(SpaceID(id), nil, nil)
		if err != nil {
			return err
		}
		for ok := it.First(); ok; ok = it.Next() {
			if id == int(ownSpace) && !ownEntry(it.Key()) {
				continue
			}
			r := it.Ref()
			live[r.Segment] += int64(r.Length)
		}
		if err := it.Close(); err != nil {
			return err
		}
	}
	v.applyMu.Lock()
	defer v.applyMu.Unlock()
	for l := range Lane(lanes) {
		for _, s := range v.segs.of(l) {
			if s.live != live[s.id] {
				return fmt.Errorf("segment %d of %s counts %d live bytes, the index shows %d", s.id, l, s.live, live[s.id])
			}
		}
	}
	return nil
}
