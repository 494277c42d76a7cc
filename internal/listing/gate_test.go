package listing

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"ringfort/internal/keyhash"
)

func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gates[int]
		ctx := context.Background()
		key := keyhash.Hash{15: 3}
		share := func(want int, wantKnown bool) {
			t.Helper()
			v, known, err := g.share(ctx, key)
			if err != nil || v != want || known != wantKnown {
				t.Errorf("%d, %v, %v", v, known, err)
			}
		}
		share(0, false)
		g.learn(key, 7)
		share(7, true)

		// A writer waits for both readers, and later readers for the writer.
		var closed, shared atomic.Bool
		go func() {
			if err := g.close(ctx, key); err != nil {
				t.Error(err)
			}
			closed.Store(true)
		}()
		synctest.Wait()
		go func() {
			share(7, false) // the writer has made it unknown
			shared.Store(true)
		}()
		g.unshare(key)
		synctest.Wait()
		if closed.Load() || shared.Load() {
			t.Fatal("somebody did not wait")
		}
		g.unshare(key)
		synctest.Wait()
		if !closed.Load() || shared.Load() {
			t.Fatal("the writer should be in, alone")
		}
		g.open(key)
		synctest.Wait()
		if !shared.Load() {
			t.Fatal("the reader should be in")
		}

		// A writer that gives up lets the readers go on that waited behind it.
		short, cancel := context.WithCancel(ctx)
		gaveUp := make(chan error, 1)
		go func() { gaveUp <- g.close(short, key) }()
		synctest.Wait()
		shared.Store(false)
		go func() {
			share(7, false)
			shared.Store(true)
		}()
		synctest.Wait()
		if shared.Load() {
			t.Fatal("the reader did not wait behind the writer")
		}
		cancel()
		synctest.Wait()
		if err := <-gaveUp; !errors.Is(err, context.Canceled) || !shared.Load() {
			t.Fatal(err, shared.Load())
		}
		g.unshare(key)
		g.unshare(key)

		// Two writers take turns.
		if err := g.close(ctx, key); err != nil {
			t.Fatal(err)
		}
		closed.Store(false)
		go func() {
			g.close(ctx, key)
			closed.Store(true)
		}()
		synctest.Wait()
		if closed.Load() {
			t.Fatal("two writers at a time")
		}
		g.open(key)
		synctest.Wait()
		g.open(key)
	})
}

// TestGatesAreBounded: what nobody uses is forgotten, what somebody holds is not.
func TestGatesAreBounded(t *testing.T) {
	var g gates[int]
	ctx := context.Background()
	held := keyhash.Hash{5: 1, 15: 3}
	g.share(ctx, held)
	g.learn(held, 42)
	for i := range 10 * maxIdleGates {
		key := keyhash.Hash{0: byte(i), 1: byte(i >> 8), 15: 3}
		g.share(ctx, key)
		g.learn(key, i)
		g.unshare(key)
	}
	if n := len(g.shard(held).m); n > maxIdleGates {
		t.Errorf("%d gates are remembered", n)
	}
	if v, known, err := g.share(ctx, held); v != 42 || !known || err != nil {
		t.Errorf("%d, %v, %v", v, known, err)
	}
}
