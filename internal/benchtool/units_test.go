package benchtool

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestHistogramBuckets(t *testing.T) {
	last := -1
	for _, v := range []uint64{0, 1, 127, 128, 255, 256, 257, 1000, 1e6, 1e9, 1e12, 1 << 41, 1<<42 - 1} {
		b := bucketOf(v)
		if b < last {
			t.Errorf("%d falls in bucket %d, below a smaller value's %d", v, b, last)
		}
		last = b
		if up := upperBound(b); up < v || (b > 0 && upperBound(b-1) >= v) {
			t.Errorf("%d is not in its bucket %d, which ends at %d", v, b, up)
		}
		if up := upperBound(b); float64(up-v) > float64(v)/subBuckets+1 {
			t.Errorf("bucket %d of %d reaches to %d", b, v, up)
		}
	}
	for _, v := range []uint64{1 << 42, 1 << 63, ^uint64(0)} {
		if b := bucketOf(v); b != bucketsLen-1 {
			t.Errorf("%d falls in bucket %d, not the last", v, b)
		}
	}
}

// TestHistogramModel compares quantiles with those of the sorted values.
func TestHistogramModel(t *testing.T) {
	const seed = 11
	rng := rand.New(rand.NewPCG(seed, seed))
	var a, b histogram
	var all []time.Duration
	for i := range 20_000 {
		d := time.Duration(rng.ExpFloat64() * float64(time.Millisecond))
		if i%2 == 0 {
			a.record(d)
		} else {
			b.record(d)
		}
		all = append(all, d)
	}
	a.merge(&b)
	slices.Sort(all)
	for _, q := range []float64{0, 0.1, 0.5, 0.9, 0.99, 0.999, 1} {
		want := all[max(int(q*float64(len(all)))-1, 0)]
		got := a.quantile(q)
		if diff := (got - want).Abs(); diff > want/64+time.Microsecond {
			t.Errorf("seed %d: quantile %g is %v, want %v", seed, q, got, want)
		}
	}
	if a.max != all[len(all)-1] || a.total != uint64(len(all)) {
		t.Errorf("max %v, total %d", a.max, a.total)
	}
	var empty histogram
	if empty.quantile(0.5) != 0 || empty.mean() != 0 {
		t.Error("an empty histogram has quantiles")
	}
	empty.record(-time.Second)
	if empty.quantile(1) != 0 {
		t.Error("a negative duration is not counted as zero")
	}
}

func TestSizes(t *testing.T) {
	for _, c := range []struct {
		in   string
		want int64
		out  string
	}{
		{"0", 0, "0B"}, {"4096", 4096, "4KiB"}, {"4KiB", 4096, "4KiB"}, {"4k", 4096, "4KiB"},
		{"1 MiB", 1 << 20, "1MiB"}, {"64mib", 64 << 20, "64MiB"}, {"1MB", 1e6, "1000000B"},
		{"5G", 5 << 30, "5GiB"}, {"17b", 17, "17B"},
	} {
		got, err := ParseSize(c.in)
		if err != nil || got != c.want || FormatSize(got) != c.out {
			t.Errorf("ParseSize(%q) = %d, %v, written %q", c.in, got, err, FormatSize(got))
		}
	}
	for _, in := range []string{"", "x", "-1", "4.5K", "99999999999G", "KiB"} {
		if got, err := ParseSize(in); err == nil {
			t.Errorf("ParseSize(%q) = %d", in, got)
		}
	}
}

func TestSuites(t *testing.T) {
	for _, name := range []string{"node", "cluster", "quick"} {
		figures, err := Suite(name)
		if err != nil || len(figures) == 0 {
			t.Errorf("%s: %v", name, err)
		}
		for _, f := range figures {
			if err := f.validate(); err != nil {
				t.Error(err)
			}
		}
	}
	if _, err := Suite("all"); err == nil {
		t.Error("an unknown suite is accepted")
	}
}

// TestFigureFlags checks what the command line turns into.
func TestFigureFlags(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
		ok   bool
	}{
		{[]string{"--op", "put,get", "--size", "4KiB,1MiB"}, "PUT 4KiB,GET 4KiB,PUT 1MiB,GET 1MiB", true},
		{[]string{"--op", "list,put", "--size", "1,2"}, "PUT 1B,PUT 2B,LIST 1000/10000", true},
		{[]string{"--op", "stat"}, "", false},
		{[]string{"--op", "put", "--suite"}, "", false},
		{[]string{"--op", "put", "--data-limit", "much"}, "", false},
		{[]string{"--suite=cluster"}, "PUT 4KiB,GET 4KiB,PUT 1MiB,GET 1MiB", true},
	} {
		f := &flags{cfg: Default()}
		cmd := New()
		cmd.ResetFlags()
		f.register(cmd)
		if err := cmd.ParseFlags(c.args); err != nil {
			t.Fatal(err)
		}
		cfg, err := f.config(cmd)
		if (err == nil) != c.ok {
			t.Errorf("%v: %v", c.args, err)
			continue
		}
		var names []string
		for _, fig := range cfg.Figures {
			names = append(names, fig.String())
		}
		if got := strings.Join(names, ","); c.ok && got != c.want {
			t.Errorf("%v: %s, want %s", c.args, got, c.want)
		}
		if c.ok && cfg.Null != strings.HasPrefix(c.args[0], "--suite") {
			t.Errorf("%v: null is %t", c.args, cfg.Null)
		}
	}
}

func TestProc(t *testing.T) {
	for _, c := range []struct {
		stat string
		want float64
		ok   bool
	}{
		{"7 (a) b) (c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 1", 2, true},
		{"7 (a", 0, false},
		{"7 (a) S 1 2", 0, false},
		{"7 (a) S 1 2 3 4 5 6 7 8 9 10 x 50 0", 0, false},
		{"", 0, false},
	} {
		got, err := parseStat([]byte(c.stat))
		if (err == nil) != c.ok || got != c.want {
			t.Errorf("parseStat(%q) = %g, %v", c.stat, got, err)
		}
	}
	for _, c := range []struct {
		stat string
		want float64
		ok   bool
	}{
		{"cpu  100 50 50 9999 8888 0 10 40 7 7\ncpu0 1\n", 2.5, true},
		{"cpu0 100 50 50 9999 8888 0 10 40", 0, false},
		{"cpu 1 2 3", 0, false},
		{"cpu 1 2 3 4 x 6 7 8", 0, false},
		{"", 0, false},
	} {
		if got, ok := parseBusy(c.stat); got != c.want || ok != c.ok {
			t.Errorf("parseBusy(%q) = %g, %t", c.stat, got, ok)
		}
	}
	if got := parseField([]byte("a: 1\nVmRSS:\t  12 kB\n"), "VmRSS:"); got != 12 {
		t.Errorf("parseField = %d", got)
	}
	if u, err := readUsage(os.Getpid()); err != nil || u.ResidentBytes == 0 {
		t.Errorf("readUsage: %+v, %v", u, err)
	}
	if _, err := readUsage(1 << 30); err == nil {
		t.Error("a process that is not there is no error")
	}
}

// TestBodies: an object's bytes do not depend on how they are read, and differ
// from those of its neighbours.
func TestBodies(t *testing.T) {
	src := newSource(1)
	read := func(i, size int64, wrap func(io.Reader) io.Reader) []byte {
		r := bodyReader{src: src}
		r.reset(i, size)
		b, err := io.ReadAll(wrap(&r))
		if err != nil || int64(len(b)) != size {
			t.Fatalf("object %d: %d bytes, %v", i, len(b), err)
		}
		return b
	}
	same := func(r io.Reader) io.Reader { return r }
	for _, size := range []int64{0, 1, 4096, sourceBytes + 5} {
		a := read(3, size, same)
		if !bytes.Equal(a, read(3, size, iotest.HalfReader)) {
			t.Errorf("size %d: the bytes depend on how they are read", size)
		}
		check := bodyChecker{src: src, at: src.offset(3)}
		if err := check.check(a); err != nil {
			t.Errorf("size %d: %v", size, err)
		}
	}
	if bytes.Equal(read(3, 100, same), read(4, 100, same)) {
		t.Error("two objects are equal")
	}
}

func TestKeyspace(t *testing.T) {
	k := newKeyspace("b", "run", 4096, 3)
	if got := k.key(42); got != "run/4096/000000000042" {
		t.Errorf("key is %q", got)
	}
	var order []int64
	for range 5 {
		order = append(order, k.nextPut())
	}
	if !slices.Equal(order, []int64{0, 1, 2, 0, 1}) || k.left() != 3 {
		t.Errorf("PUTs go to %v, %d left", order, k.left())
	}
	m := k.mirror()
	for want := range int64(3) {
		if i, ok := k.nextDelete(); !ok || i != want {
			t.Errorf("DELETE of %d, %t", i, ok)
		}
	}
	if _, ok := k.nextDelete(); ok || k.left() != 0 {
		t.Error("a key too many was deleted")
	}
	if _, ok := k.pick(rand.New(rand.NewPCG(1, 1))); ok {
		t.Error("a deleted key was picked")
	}
	if m.left() != 3 {
		t.Error("the mirror follows the original")
	}
}

// TestCountKeys: marks are counted wherever the pieces they come in are cut.
func TestCountKeys(t *testing.T) {
	text := strings.Repeat("<Contents><Key>abc</Key></Contents>", 50)
	for _, size := range []int{6, 7, 16, 100, 4096} {
		w := &worker{buf: make([]byte, size)}
		rows, moved, err := w.countKeys(iotest.HalfReader(strings.NewReader(text)))
		if err != nil || rows != 50 || moved != int64(len(text)) {
			t.Errorf("buffer of %d: %d keys in %d bytes, %v", size, rows, moved, err)
		}
	}
}

func TestErrorCount(t *testing.T) {
	var e errorCount
	for i := range 30 {
		e.addText(strings.Repeat("x", i), 1)
	}
	if e.total != 30 || len(e.byText) > maxErrorTexts+1 {
		t.Errorf("%d failures under %d texts", e.total, len(e.byText))
	}
}
