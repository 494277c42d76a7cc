package register

import (
	"math/rand/v2"
	"sync"
	"testing"

	"ringfort/internal/keyhash"
)

func TestAbsentKeys(t *testing.T) {
	var a absentKeys
	k := keyhash.Hash{1}
	known, g := a.look(k)
	if known {
		t.Fatal("a key is known before it was looked up")
	}
	a.note(k, g)
	if known, _ := a.look(k); !known {
		t.Error("an absent key was not remembered")
	}
	a.forget(k)
	if known, _ := a.look(k); known {
		t.Error("a committed key is still absent")
	}
	a.note(k, g) // a lookup from before the commit
	if known, _ := a.look(k); known {
		t.Error("an old lookup was noted after a commit")
	}
	for i := range 10 * maxAbsent {
		k := keyhash.Hash{byte(i >> 8), byte(i)}
		_, g := a.look(k)
		a.note(k, g)
	}
	if n := len(a.shard(k).keys); n > maxAbsent {
		t.Errorf("%d keys are remembered", n)
	}
}

// Lookups and commits of one key side by side: once it was committed and unlocked,
// nobody is told that it is absent.
func TestAbsentKeysRace(t *testing.T) {
	const seed = 1
	rng := rand.New(rand.NewPCG(seed, seed))
	for range 2000 {
		var a absentKeys
		var mu sync.Mutex
		stored := false
		read := func() bool { mu.Lock(); defer mu.Unlock(); return stored }
		k := keyhash.Hash{byte(rng.Uint32())}
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if known, g := a.look(k); !known && !read() {
					a.note(k, g)
				}
			})
		}
		wg.Go(func() {
			mu.Lock()
			stored = true
			mu.Unlock()
			a.forget(k)
			if known, _ := a.look(k); known {
				t.Error("absent after its commit")
			}
		})
		wg.Wait()
		if known, _ := a.look(k); known {
			t.Fatal("absent after its commit")
		}
	}
}
