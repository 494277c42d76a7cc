package erasure

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"unsafe"

	"ringfort/internal/errs"
	"ringfort/internal/vfs"
)

func TestSizeClasses(t *testing.T) {
	last := 0
	for n := 1; n < 8<<20; n += 1 + n/97 {
		c := sizeClass(n)
		if c < n || c%vfs.BlockSize != 0 || c < last || sizeClass(c) != c {
			t.Fatalf("class of %d is %d", n, c)
		}
		if n > 16*vfs.BlockSize && c > n+n/4 {
			t.Fatalf("class of %d wastes %d bytes", n, c-n)
		}
		last = c
	}
	if got := sizeClass(6 * DefaultBlockSize); got != 6*DefaultBlockSize {
		t.Errorf("a 4+2 stripe wastes %d bytes", got-6*DefaultBlockSize)
	}
}

func TestPoolKeepsItsBudget(t *testing.T) {
	const budget = 1 << 20
	p := NewPool(budget)
	ctx := context.Background()
	if _, err := p.Get(ctx, budget+1); !errs.Is(err, errs.TooLarge) {
		t.Fatalf("more than the budget: %v", err)
	}
	a, err := p.Get(ctx, 600<<10)
	if err != nil {
		t.Fatal(err)
	}
	if uintptr(unsafe.Pointer(&a.Bytes[0]))%vfs.BlockSize != 0 || len(a.Bytes) != 600<<10 {
		t.Fatal("buffer is not aligned or not as long as asked for")
	}
	if p.TryGet(600<<10) != nil {
		t.Fatal("lent beyond the budget")
	}
	short, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := p.Get(short, 600<<10); !errs.Is(err, errs.Canceled) {
		t.Fatalf("waiting ended with %v", err)
	}
	a.Retain()
	a.Release()
	if lent, _ := p.Usage(); lent == 0 {
		t.Fatal("released while still retained")
	}
	a.Release()
	if lent, idle := p.Usage(); lent != 0 || idle == 0 {
		t.Fatalf("%d lent, %d idle after the last release", lent, idle)
	}
	// Another class pushes the idle buffer out.
	b := p.TryGet(900 << 10)
	if lent, idle := p.Usage(); b == nil || lent+idle > budget {
		t.Fatalf("%d lent and %d idle of %d", lent, idle, budget)
	}
	b.Release()
	defer func() {
		if recover() == nil {
			t.Error("releasing twice went unnoticed")
		}
	}()
	b.Release()
}

func TestPoolConcurrently(t *testing.T) {
	const budget = 256 << 10
	p := NewPool(budget)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 7))
			for range 300 {
				b, err := p.Get(context.Background(), 1+rng.IntN(100<<10))
				if err != nil {
					t.Error(err)
					return
				}
				mark := byte(w)
				b.Bytes[0], b.Bytes[len(b.Bytes)-1] = mark, mark
				if lent, idle := p.Usage(); lent+idle > budget {
					t.Errorf("%d bytes lent and %d idle of %d", lent, idle, budget)
				}
				if b.Bytes[0] != mark || b.Bytes[len(b.Bytes)-1] != mark {
					t.Error("one buffer has two users")
				}
				b.Release()
			}
		})
	}
	wg.Wait()
	if lent, _ := p.Usage(); lent != 0 {
		t.Errorf("%d bytes are still lent", lent)
	}
}
