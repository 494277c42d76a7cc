package register

import (
	"context"
	"encoding/binary"
	"testing"

	"github.com/cespare/xxhash/v2"

	"ringfort/internal/keyhash"
	"ringfort/internal/timestamp"
	"ringfort/internal/vfs/faultfs"
	"ringfort/internal/volume"
)

// BenchmarkWrite is what one device does for a PUT of 4 KiB, disk apart.
func BenchmarkWrite(b *testing.B) {
	vol, err := volume.Open(context.Background(), volume.Config{
		Dir: "/vol", FS: faultfs.NewMem(),
		Spaces: []volume.Space{{ID: 1, Name: "states", Kept: true}, {ID: 2, Name: "notes", Kept: true}},
	})
	if err != nil {
		b.Fatal(err)
	}
	defer vol.Close()
	a := NewAcceptor(AcceptorConfig{Volume: vol, States: 1, Notes: 2})
	clock := timestamp.NewClock(1, nil)
	data := make([]byte, 4096)
	sum := xxhash.Sum64(data)
	value := make([]byte, 200)
	b.ReportAllocs()
	n := uint64(0)
	for b.Loop() {
		n++
		var key keyhash.Hash
		binary.BigEndian.PutUint64(key[:], n%1000)
		ts := clock.Now()
		r := &Record{Ballot: ts, TS: ts, Op: ts, Root: ts, Mod: ts, Value: value, Data: data, DataLen: len(data), DataSum: sum}
		if ans, err := a.Write(context.Background(), key, r); err != nil || !ans.Accepted {
			b.Fatal(ans, err)
		}
		a.Settle([]Settled{{Key: key, Ballot: ts}})
	}
}
