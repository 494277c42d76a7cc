package node

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"ringfort/gateway/auth/users"
	"ringfort/gateway/s3api/s3test"
	"ringfort/gateway/swiftapi/swifttest"
	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/peer"
	"ringfort/internal/peer/peertest"
	"ringfort/ring"
)

const (
	testKey    = "root-access-key"
	testSecret = "root-secret-key"
)

func testConfig(dirs ...string) Config {
	cfg := Config{Name: "solo", Version: "test", Dirs: dirs, RootAccessKey: testKey, RootSecret: testSecret}
	cfg.Volume.MetaSegmentBytes, cfg.Volume.BulkSegmentBytes = 16<<20, 64<<20
	cfg.Volume.PreallocateBytes = 1 << 20
	cfg.CacheBytes = 8 << 20
	return cfg
}

func tempDirs(t *testing.T, n int) []string {
	base := t.TempDir()
	dirs := make([]string, n)
	for i := range dirs {
		dirs[i] = filepath.Join(base, "d"+strconv.Itoa(i+1))
	}
	return dirs
}

func open(t *testing.T, cfg Config) *Node {
	t.Helper()
	n, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return n
}

// serve serves a node until the test ends and returns its URL.
func serve(t *testing.T, n *Node) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Serve(ctx, Listeners{HTTP: l}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return "http://" + l.Addr().String()
}

// A node's own services keep the promises of a peer, called straight and over HTTP.
func TestConformance(t *testing.T) {
	target := func(peer.Service, keyhash.Hash) peer.Target { return peer.Target{Device: 1} }
	t.Run("straight", func(t *testing.T) {
		peertest.Suite{Target: target, Open: func(t *testing.T) peer.Node { return open(t, testConfig(tempDirs(t, 1)...)).local }}.Run(t)
	})
	t.Run("http", func(t *testing.T) {
		peertest.Suite{Target: target, Open: func(t *testing.T) peer.Node {
			n := open(t, testConfig(tempDirs(t, 1)...))
			secret, err := peer.NewSecret([]byte("a secret of the cluster"))
			if err != nil {
				t.Fatal(err)
			}
			ps := peer.NewServer(n.local, peer.ServerConfig{Secret: secret})
			srv := httptest.NewServer(ps)
			c := peer.NewClient(strings.TrimPrefix(srv.URL, "http://"), peer.ClientConfig{Secret: secret})
			t.Cleanup(func() { c.Close(); srv.Close(); ps.Close() })
			return c
		}}.Run(t)
	})
}

// Both protocols, on the real thing: one directory, and four under ec(2,2).
func TestProtocols(t *testing.T) {
	for _, dirs := range []int{1, 4} {
		t.Run(strconv.Itoa(dirs)+" directories", func(t *testing.T) {
			n := open(t, testConfig(tempDirs(t, dirs)...))
			url := serve(t, n)
			other, err := n.Users.Add(t.Context(), users.User{Account: "other", Name: "someone"})
			if err != nil {
				t.Fatal(err)
			}
			t.Run("s3", func(t *testing.T) {
				s3test.Run(t, s3test.Endpoint{
					URL: url, AccessKey: testKey, SecretKey: testSecret,
					OtherAccessKey: other.AccessKey, OtherSecretKey: other.Secret,
				})
			})
			t.Run("swift", func(t *testing.T) { swifttest.Run(t, url+"/auth/v1.0", "main:"+testKey, testSecret) })
		})
	}
}

func mustFail(t *testing.T, cfg Config, words ...string) {
	t.Helper()
	n, err := Open(t.Context(), cfg)
	if err == nil {
		n.Close()
		t.Fatalf("opened %v", cfg.Dirs)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q is not in: %v", w, err)
		}
	}
}

func close1(t *testing.T, n *Node) {
	t.Helper()
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestSetUp(t *testing.T) {
	dirs := tempDirs(t, 4)
	n, err := Open(t.Context(), testConfig(dirs...))
	if err != nil {
		t.Fatal(err)
	}
	if !n.Fresh() || n.Policies()[0].Spec.String() != "ec(2,2)" {
		t.Errorf("fresh %v, policy %v", n.Fresh(), n.Policies())
	}
	close1(t, n)

	mustFail(t, testConfig(dirs[:3]...), "set up with 4 directories", "ringfort server "+strings.Join(dirs, " "))
	mustFail(t, testConfig(append(dirs, t.TempDir())...), "set up with 4 directories")
	mustFail(t, testConfig(dirs[1], dirs[0], dirs[2], dirs[3]), "in their order", "ringfort server "+strings.Join(dirs, " "))
	mustFail(t, testConfig(dirs[0], dirs[0], dirs[2], dirs[3]), "given twice")
	cfg := testConfig(dirs...)
	cfg.Policy = "replica(3)"
	mustFail(t, cfg, "cannot be changed")
	cfg.Policy = "raid(5)"
	mustFail(t, cfg, "replica(n)", "ec(k,m)")
	cfg.Policy = "ec(2,2)"
	n, err = Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if n.Fresh() {
		t.Error("the second start has set the node up again")
	}
	close1(t, n)
}

func TestForeignDirectories(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "thesis.tex"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	mustFail(t, testConfig(dir), "not empty", "thesis.tex")
	if _, err := os.Stat(filepath.Join(dir, claimFile)); err == nil {
		t.Error("somebody else's directory was claimed")
	}
	cfg := testConfig(tempDirs(t, 3)...)
	cfg.Policy = "ec(2,2)"
	mustFail(t, cfg, "needs 4 directories")
}

// A set-up that was cut short after the claims is made again; none of it is lost
// or in the way.
func TestInterruptedSetUp(t *testing.T) {
	dirs := tempDirs(t, 2)
	if err := writeClaim(dirs[0], &claim{Cluster: "half", UUID: newUUID(), Placement: placementCheck(keyhash.NewSecret())}); err != nil {
		t.Fatal(err)
	}
	open(t, testConfig(dirs...))
}

// An emptied directory has no vote and does not stop the others.
func TestEmptiedDirectory(t *testing.T) {
	dirs := tempDirs(t, 4)
	n := open(t, testConfig(dirs...))
	put(t, n, "bucket", "key", "value")
	close1(t, n)
	if err := os.RemoveAll(dirs[2]); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dirs[2], 0o755); err != nil {
		t.Fatal(err)
	}
	n = open(t, testConfig(dirs...))
	st := n.Devices()
	if st[2].Problem == "" || !strings.Contains(st[2].Problem, "empty") {
		t.Errorf("the emptied device is %+v", st[2])
	}
	if got := get(t, n, "bucket", "key"); got != "value" {
		t.Errorf("read %q", got)
	}
	put(t, n, "bucket", "key", "second")
	if got := get(t, n, "bucket", "key"); got != "second" {
		t.Errorf("read %q", got)
	}
	entries, err := os.ReadDir(dirs[2])
	if err != nil || len(entries) > 0 {
		t.Errorf("the emptied directory was written to: %v, %v", entries, err)
	}
	if r := n.Status(t.Context()); r.Err() == nil {
		t.Error("status says that all is well")
	}
}

// A device of another cluster in the place of ours is left alone.
func TestSwappedDevice(t *testing.T) {
	dirs, others := tempDirs(t, 4), tempDirs(t, 1)
	close1(t, open1(t, testConfig(dirs...)))
	close1(t, open1(t, testConfig(others...)))
	n := open(t, testConfig(dirs[0], dirs[1], others[0], dirs[3]))
	if why := n.Devices()[2].Problem; !strings.Contains(why, "another cluster") {
		t.Errorf("the swapped device: %q", why)
	}
}

func open1(t *testing.T, cfg Config) *Node {
	t.Helper()
	n, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A directory that was a mount point when it was claimed, and is not one now, is
// out of service, whatever is in it.
func TestUnmounted(t *testing.T) {
	dir := t.TempDir()
	want := &claim{Cluster: "c", UUID: ring.UUID{1}, Mount: true}
	if why, empty := problem(dir, want); !strings.Contains(why, "not mounted") || empty {
		t.Errorf("problem = %q, %v", why, empty)
	}
}

func TestAdminNeedsRoot(t *testing.T) {
	n := open(t, testConfig(tempDirs(t, 1)...))
	h := n.admin()
	for _, path := range []string{"/status", "/users", "/debug/pprof/heap"} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", path, nil)
		h.ServeHTTP(w, r)
		if w.Code != http.StatusUnauthorized {
			t.Errorf("%s without keys: %d", path, w.Code)
		}
		w = httptest.NewRecorder()
		r.SetBasicAuth(testKey, testSecret+"x")
		h.ServeHTTP(w, r)
		if w.Code != http.StatusUnauthorized {
			t.Errorf("%s with a wrong secret: %d", path, w.Code)
		}
		w = httptest.NewRecorder()
		r.SetBasicAuth(testKey, testSecret)
		h.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			t.Errorf("%s as root: %d", path, w.Code)
		}
	}
}

// With any one of four devices gone, objects of every shape read back whole, by
// ranges too.
func TestDegradedReads(t *testing.T) {
	n := open(t, testConfig(tempDirs(t, 4)...))
	c := bucket(t, n, "degraded")
	rng := rand.New(rand.NewPCG(1, 1))
	sizes := []int{1, 65536, 65537, 88587, 131073, 262143, 262144, 262145, 524289, 3<<20 + 7}
	want := map[int]string{}
	for _, size := range sizes {
		b := make([]byte, size)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		want[size] = string(b)
		put(t, n, "degraded", strconv.Itoa(size), string(b))
	}
	for _, gone := range n.local.order {
		gone.mu.Lock()
		gone.why = "failed by the test"
		gone.mu.Unlock()
		for _, size := range sizes {
			name := strconv.Itoa(size)
			if get(t, n, "degraded", name) != want[size] {
				t.Errorf("without %v: %d bytes differ", gone.id, size)
			}
			h, err := n.Ops.Open(t.Context(), c, name)
			if err != nil {
				t.Fatal(err)
			}
			for range 5 {
				off := rng.IntN(size)
				k := 1 + rng.IntN(size-off)
				r, err := h.Range(t.Context(), int64(off), int64(k))
				if err != nil {
					t.Fatal(err)
				}
				b, err := io.ReadAll(r)
				if err != nil || string(b) != want[size][off:off+k] {
					t.Errorf("without %v: bytes %d+%d of %d differ: %v", gone.id, off, k, size, err)
				}
				r.Close()
			}
		}
		if got := len(names(t, n, "degraded")); got != len(sizes) {
			t.Errorf("without %v: %d names are listed", gone.id, got)
		}
		gone.mu.Lock()
		gone.why = ""
		gone.mu.Unlock()
	}
}

// A device is not closed under a call: a reader that is open at the stop can end.
func TestCloseWaitsForReaders(t *testing.T) {
	n := open1(t, testConfig(tempDirs(t, 1)...))
	o := put(t, n, "closing", "key", strings.Repeat("x", 300_000))
	if o.Size != 300_000 {
		t.Fatal(o.Size)
	}
	c := bucket(t, n, "closing")
	h, err := n.Ops.Open(t.Context(), c, "key")
	if err != nil {
		t.Fatal(err)
	}
	r, err := h.Range(t.Context(), 0, o.Size)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	go func() { closed <- n.Close() }()
	if b, err := io.ReadAll(r); err != nil || len(b) != 300_000-10 {
		t.Errorf("read %d bytes while the node was closing: %v", len(b), err)
	}
	r.Close()
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if _, err := n.Ops.Head(t.Context(), c, "key"); !errs.Is(err, errs.Unavailable) {
		t.Errorf("after the stop: %v", err)
	}
}
