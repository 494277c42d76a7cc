package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/peer"
	"ringfort/internal/volume"
	"ringfort/ring"
)

// A device whose volume has vanished, or stands in another one's place, is not made
// anew: it has promised what it does not know any more. The others serve.
func TestVanishedVolume(t *testing.T) {
	for name, vanish := range map[string]func(t *testing.T, dir string){
		"deleted": func(t *testing.T, dir string) {
			if err := os.RemoveAll(filepath.Join(dir, "volume")); err != nil {
				t.Fatal(err)
			}
		},
		"another one": func(t *testing.T, dir string) {
			other := tempDirs(t, 1)
			close1(t, open1(t, testConfig(other...)))
			if err := os.RemoveAll(filepath.Join(dir, "volume")); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(filepath.Join(dir, "volume"), os.DirFS(filepath.Join(other[0], "volume"))); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dirs := tempDirs(t, 4)
			n := open1(t, testConfig(dirs...))
			for i := range 20 {
				put(t, n, "bucket", fmt.Sprintf("key%02d", i), strings.Repeat(fmt.Sprint(i), 1+i*9000))
			}
			want := names(t, n, "bucket")
			close1(t, n)
			vanish(t, dirs[2])
			n = open1(t, testConfig(dirs...))
			if d := n.Devices()[2]; d.State != "out of service" || !strings.Contains(d.Problem, "volume") {
				t.Errorf("the device is %+v", d)
			}
			if _, err := n.local.Learn(t.Context(), peer.Target{Device: 3}, peer.Objects, keyhash.Hash{}); !errs.Is(err, errs.Unavailable) {
				t.Error("the device votes:", err)
			}
			for i := range 20 {
				if got := get(t, n, "bucket", fmt.Sprintf("key%02d", i)); got != strings.Repeat(fmt.Sprint(i), 1+i*9000) {
					t.Errorf("key%02d differs: %d bytes", i, len(got))
				}
			}
			if got := names(t, n, "bucket"); !slices.Equal(got, want) {
				t.Errorf("%v are listed", got)
			}
			put(t, n, "bucket", "more", "value")
			close1(t, n)
			if _, err := os.Stat(filepath.Join(dirs[2], "volume", "VOLUME")); name == "deleted" && err == nil {
				t.Error("a volume was made in its place")
			}
		})
	}
}

// A set-up that was cut short between a volume and the claim that names it goes on.
func TestClaimNamesItsVolume(t *testing.T) {
	dirs := tempDirs(t, 1)
	n := open1(t, testConfig(dirs...))
	id, _, _ := n.local.order[0].running.volume.Identity()
	put(t, n, "bucket", "key", "value")
	close1(t, n)
	for _, cut := range []bool{false, true} {
		c, err := readClaim(dirs[0])
		if err != nil || c.Volume != fmt.Sprintf("%x", id) {
			t.Fatalf("the claim is %+v, %v; the volume is %x", c, err, id)
		}
		if cut {
			c.Volume = ""
			if err := c.save(dirs[0]); err != nil {
				t.Fatal(err)
			}
		}
		n = open1(t, testConfig(dirs...))
		if got := get(t, n, "bucket", "key"); got != "value" {
			t.Fatal(got)
		}
		close1(t, n)
	}
	if c, err := readClaim(dirs[0]); err != nil || c.Volume == "" {
		t.Errorf("the claim is %+v, %v", c, err)
	}
}

// A device whose index was rebuilt serves records and bytes, and leaves listings to
// the others: an empty table must not pass for an answer, here not even of two.
func TestRebuiltDevice(t *testing.T) {
	dirs := tempDirs(t, 4)
	n := open1(t, testConfig(dirs...))
	for i := range 30 {
		put(t, n, "bucket", fmt.Sprintf("key%02d", i), strings.Repeat(fmt.Sprint(i), 1+i*9000))
	}
	want := names(t, n, "bucket")
	close1(t, n)
	cfg, err := VolumeConfig(dirs[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := volume.Rebuild(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	for range 2 { // and it stays so
		n = open1(t, testConfig(dirs...))
		if d := n.Devices()[1]; d.State != "in service without listings" || d.Problem != lostText {
			t.Errorf("the device is %+v", d)
		}
		if err := n.Status(t.Context()).Err(); err == nil || !strings.Contains(err.Error(), "listings") {
			t.Error("status says", err)
		}
		var listing peer.Listing
		for _, svc := range []peer.Service{peer.Containers, peer.Accounts} {
			if _, err := n.local.ListingStats(t.Context(), peer.Target{Device: 2}, svc, listing); !errs.Is(err, errs.Unavailable) {
				t.Errorf("service %v votes on rows: %v", svc, err)
			}
			if err := n.local.PutRows(t.Context(), peer.Target{Device: 2}, svc, listing, nil); !errs.Is(err, errs.Unavailable) {
				t.Errorf("service %v takes rows: %v", svc, err)
			}
			if _, err := n.local.Learn(t.Context(), peer.Target{Device: 2}, svc, keyhash.Hash{}); err != nil {
				t.Errorf("service %v has no registers: %v", svc, err)
			}
		}
		// With another device away, the rebuilt one's records are needed.
		away := n.local.order[3]
		fail := func(why string) {
			away.mu.Lock()
			away.why = why
			away.mu.Unlock()
		}
		fail("failed by the test")
		for i := range 30 {
			if got := get(t, n, "bucket", fmt.Sprintf("key%02d", i)); got != strings.Repeat(fmt.Sprint(i), 1+i*9000) {
				t.Errorf("key%02d differs: %d bytes", i, len(got))
			}
		}
		fail("")
		if got := names(t, n, "bucket"); !slices.Equal(got, want) {
			t.Errorf("%v are listed", got)
		}
		put(t, n, "bucket", "more", "value")
		if want = names(t, n, "bucket"); want[len(want)-1] != "more" {
			t.Errorf("what was put is not listed: %v", want)
		}
		close1(t, n)
	}
}

// A listing is answered by who can, or not at all.
func TestListingsOfRebuiltDevices(t *testing.T) {
	dirs := tempDirs(t, 3)
	n := open1(t, testConfig(dirs...))
	put(t, n, "bucket", "key", "value")
	close1(t, n)
	for _, dir := range dirs[:2] {
		cfg, err := VolumeConfig(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := volume.Rebuild(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	n = open(t, testConfig(dirs...))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := n.Ops.Resolve(ctx, "main", "bucket")
	if err != nil {
		t.Fatal(err)
	}
	if p, err := n.Ops.List(ctx, c, listAll); err == nil {
		t.Errorf("two of three have lost their rows, and the listing is %v", p.Items)
	}
	if got := get(t, n, "bucket", "key"); got != "value" {
		t.Errorf("read %q", got)
	}
}

// Another placement secret would look for every name where it is not.
func TestPlacementSecret(t *testing.T) {
	dirs := tempDirs(t, 2)
	close1(t, open1(t, testConfig(dirs...)))
	st, err := newestState(dirs)
	if err != nil {
		t.Fatal(err)
	}
	st.Serial++
	st.Secret = []byte(strings.Repeat("x", 32))
	if err := writeState(dirs[1], st); err != nil {
		t.Fatal(err)
	}
	mustFail(t, testConfig(dirs...), "another placement secret", dirs[0])

	dir := t.TempDir()
	secret := keyhash.Secret{1}
	if _, err := FormatDevice(dir, "cluster", secret); err != nil {
		t.Fatal(err)
	}
	c, err := readClaim(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.checkPlacement(dir, secret); err != nil {
		t.Error(err)
	}
	if err := c.checkPlacement(dir, keyhash.Secret{2}); !errs.Is(err, errs.Invalid) {
		t.Error("another secret is taken:", err)
	}
}

// What version 1 has written.
const (
	goldenClaim = `{
  "format": 1,
  "cluster": "0123456789abcdef0123456789abcdef",
  "uuid": "01020000-0000-0000-0000-000000000000",
  "mount": true,
  "placement_check": "378b5eb43bc8b3ed2c6f8dd78c711398",
  "volume": "aa0000000000000000000000000000bb"
}
`
	goldenState = `{"format":1,"sha256":"fafb9aea1b679b72a6e4672073b8b90a149a1ac7ceb8988469c818593f925051","value":{"serial":7,"cluster":"c","secret":"AQI=","tokens":"dA==","policy":"ec(2,2)","devices":[{"id":1,"uuid":"01020000-0000-0000-0000-000000000000","path":"/a\u003cb","mount":true}],"root":{"access_key":"a","secret":"s"},"created":"1970-01-01T00:00:01Z","rings":{"account":"Aw=="}}}`
)

func sampleState() *state {
	return &state{
		Serial: 7, Cluster: "c", Secret: []byte{1, 2}, Tokens: []byte("t"), Policy: "ec(2,2)",
		Devices: []deviceState{{ID: 1, UUID: ring.UUID{1, 2}, Path: "/a<b", Mount: true}},
		Root:    rootKeys{AccessKey: "a", Secret: "s"}, Created: time.Unix(1, 0).UTC(),
		Rings: map[string][]byte{"account": {3}},
	}
}

func TestGoldenClaim(t *testing.T) {
	c := &claim{
		Format: 1, Cluster: "0123456789abcdef0123456789abcdef", UUID: ring.UUID{1, 2}, Mount: true,
		Placement: placementCheck(keyhash.Secret{1, 2, 3}), Volume: "aa0000000000000000000000000000bb",
	}
	b, err := c.encode()
	if err != nil || string(b) != goldenClaim {
		t.Errorf("a claim is now written as\n%s\n%v", b, err)
	}
	got, err := parseClaim("x", []byte(goldenClaim))
	if err != nil || *got != *c {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestGoldenState(t *testing.T) {
	b, err := seal(sampleState())
	if err != nil || string(b) != goldenState {
		t.Errorf("the state is now written as\n%s\n%v", b, err)
	}
	var st state
	if err := unseal("x", []byte(goldenState), &st); err != nil || st.Serial != 7 || st.Devices[0].Path != "/a<b" || len(st.Rings["account"]) != 1 {
		t.Errorf("%+v, %v", st, err)
	}
}

func TestDamagedClaim(t *testing.T) {
	for _, c := range []struct {
		name, from, to string
		want           errs.Kind
	}{
		{"newer", `"format": 1`, `"format": 2`, errs.NotImplemented},
		{"newer, and otherwise unlike", goldenClaim, `{"format": 2, "cluster": 5}`, errs.NotImplemented},
		{"no format", `"format": 1`, `"formats": 1`, errs.Corrupt},
		{"cut short", "\n}\n", "", errs.Corrupt},
		{"empty", goldenClaim, "", errs.Corrupt},
		{"no cluster", `"cluster": "0123456789abcdef0123456789abcdef"`, `"cluster": ""`, errs.Corrupt},
		{"no device", `"01020000-`, `"00000000-`, errs.Corrupt},
		{"volume", `"aa0000`, `"AA0000`, errs.Corrupt},
		{"placement", `"placement_check"`, `"placement"`, errs.Corrupt},
	} {
		b := strings.Replace(goldenClaim, c.from, c.to, 1)
		if b == goldenClaim {
			t.Fatal(c.name)
		}
		if _, err := parseClaim("x", []byte(b)); !errs.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// A damaged copy of the state is passed over while there is a sound one; a newer
// program's is not.
func TestDamagedState(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(b []byte) []byte
		want   errs.Kind
		text   string
	}{
		{"a flipped bit", func(b []byte) []byte { b[len(b)/2] ^= 1; return b }, errs.Corrupt, "damaged"},
		{"cut short", func(b []byte) []byte { return b[:len(b)-1] }, errs.Corrupt, "damaged"},
		{"not JSON", func([]byte) []byte { return []byte("x") }, errs.Corrupt, "damaged"},
		{"newer", func(b []byte) []byte { return []byte(strings.Replace(string(b), `"format":1`, `"format":2`, 1)) }, errs.NotImplemented, "newer program"},
	} {
		dirs := tempDirs(t, 2)
		st := sampleState()
		st.Secret = make([]byte, 32)
		for _, dir := range dirs {
			if err := errors.Join(os.MkdirAll(dir, 0o755), writeState(dir, st)); err != nil {
				t.Fatal(err)
			}
		}
		db, err := openState(dirs[0])
		if err != nil {
			t.Fatal(err)
		}
		err = db.Update(func(tx *bbolt.Tx) error {
			b := tx.Bucket(bucketNode)
			return b.Put(keyState, c.change(slices.Clone(b.Get(keyState))))
		})
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := readState(dirs[0]); !errs.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", c.name, err)
		}
		if st, err := newestState(dirs); (err == nil) != (c.want == errs.Corrupt) || err == nil && st == nil {
			t.Errorf("%s: with a sound copy: %v", c.name, err)
		}
		if _, err := newestState(dirs[:1]); !errs.Is(err, c.want) {
			t.Errorf("%s: alone: %v", c.name, err)
		}
	}
	dir := t.TempDir()
	if err := writeState(dir, sampleState()); err != nil {
		t.Fatal(err)
	}
	if _, err := readState(dir); !errs.Is(err, errs.Corrupt) {
		t.Errorf("a secret of two bytes: %v", err)
	}
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, stateFile), []byte(strings.Repeat("not a database", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readState(dir); !errs.Is(err, errs.Corrupt) {
		t.Errorf("not a database: %v", err)
	}
}

func FuzzClaim(f *testing.F) {
	f.Add([]byte(goldenClaim))
	f.Add([]byte(goldenState))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := parseClaim("x", b); err == nil {
			again, err := c.encode()
			if err != nil {
				t.Fatal(err)
			}
			if d, err := parseClaim("x", again); err != nil || *d != *c {
				t.Fatalf("%+v became %+v, %v", c, d, err)
			}
		}
		var st state
		_ = unseal("x", b, &st)
	})
}
