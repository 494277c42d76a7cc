package workers_test

import (
	"sync"
	"testing"
	"testing/synctest"

	"ringfort/internal/workers"
)

// At a limit of one, a second function can only run where the first one ran.
func TestIdleGoroutineRunsTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := workers.New(1, 1)
		defer p.Stop()
		for i := range 100 {
			ran := false
			if !p.Try(func() { ran = true }) {
				t.Fatalf("function %d was refused although nothing runs", i)
			}
			synctest.Wait()
			if !ran {
				t.Fatalf("function %d has not run", i)
			}
		}
	})
}

func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := workers.New(2, 1)
		defer p.Stop()
		hold := make(chan struct{})
		wait := func() { <-hold }
		for i := range 2 {
			if !p.Try(wait) {
				t.Fatalf("function %d was refused below the limit", i)
			}
		}
		if p.Try(func() {}) {
			t.Error("three functions run at a limit of two")
		}
		ran := false
		p.Go(func() { ran = true })
		synctest.Wait()
		if !ran {
			t.Error("Go has to run its function above the limit too")
		}
		close(hold)
		synctest.Wait()
		if !p.Try(func() {}) {
			t.Error("refused after all have ended")
		}
	})
}

func TestNoLimit(t *testing.T) {
	p := workers.New(0, 2)
	var all sync.WaitGroup
	hold := make(chan struct{})
	for range 50 {
		all.Add(1)
		if !p.Try(func() { defer all.Done(); <-hold }) {
			t.Fatal("refused without a limit")
		}
	}
	close(hold)
	all.Wait()
	p.Stop()
	p.Wait()
}

func TestNilPool(t *testing.T) {
	var p *workers.Pool
	done := make(chan struct{})
	p.Go(func() { close(done) })
	<-done
	p.Stop()
	p.Wait()
}

func BenchmarkGo(b *testing.B) {
	for _, c := range []struct {
		name string
		pool *workers.Pool
	}{{"pool", workers.New(0, 16)}, {"new", nil}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			done := make(chan byte, 4)
			for b.Loop() {
				for range 4 {
					c.pool.Go(func() { done <- deep(24) })
				}
				for range 4 {
					<-done
				}
			}
		})
		c.pool.Stop()
	}
}

// deep needs a stack of about n KiB.
//
//go:noinline
func deep(n int) byte {
	var room [1024]byte
	room[n] = byte(n)
	if n > 0 {
		return deep(n-1) + room[n]
	}
	return room[0]
}
