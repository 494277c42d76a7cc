package erasure

import (
	"context"
	"math/bits"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/semaphore"

	"ringfort/internal/errs"
	"ringfort/internal/vfs"
)

// Pool lends page-aligned buffers and never holds more memory than its budget,
// lent and idle together. Buffers come in size classes, four per power of two,
// so at most a fifth of a buffer is lost to rounding.
//
// When the budget is lent out, Get waits its turn, first come first served: that
// is the back-pressure on uploads. A caller that needs several buffers at a time
// must Get the first only and TryGet the others, for two callers that each hold
// one and wait for a second would wait for ever.
//
// Idle buffers are kept, up to the budget, until another size needs their room.
type Pool struct {
	budget int64
	lent   *semaphore.Weighted // bytes lent; its waiters are the queue

	mu    sync.Mutex       // guards what follows; nothing else is locked inside
	free  map[int][][]byte // idle buffers by class size
	idle  int64            // bytes in free
	inUse int64            // bytes lent. INVARIANT: inUse + idle <= budget
}

// NewPool returns a pool that holds at most budget bytes.
func NewPool(budget int64) *Pool {
	return &Pool{budget: budget, lent: semaphore.NewWeighted(budget), free: map[int][][]byte{}}
}

// Buffer is memory lent by a Pool. It is shared by counting: who keeps Bytes
// beyond the call that handed it over calls Retain, and everybody Release.
type Buffer struct {
	Bytes []byte // aligned to vfs.BlockSize; its content is arbitrary at first

	pool *Pool
	mem  []byte
	refs atomic.Int32
}

// Get lends n bytes, waiting for them until ctx ends. More than the whole budget
// is refused as TooLarge.
func (p *Pool) Get(ctx context.Context, n int) (*Buffer, error) {
	class := sizeClass(n)
	if int64(class) > p.budget {
		return nil, errs.New("erasure.Pool", errs.TooLarge, "buffer of %d bytes from a pool of %d", n, p.budget)
	}
	if err := p.lent.Acquire(ctx, int64(class)); err != nil {
		return nil, errs.Wrap("erasure.Pool", errs.Canceled, err)
	}
	return p.take(class, n), nil
}

// TryGet lends n bytes, or returns nil if that would mean waiting.
func (p *Pool) TryGet(n int) *Buffer {
	class := sizeClass(n)
	if !p.lent.TryAcquire(int64(class)) {
		return nil
	}
	return p.take(class, n)
}

// take returns a buffer of a class whose bytes have been acquired.
func (p *Pool) take(class, n int) *Buffer {
	b := &Buffer{pool: p}
	p.mu.Lock()
	if list := p.free[class]; len(list) > 0 {
		b.mem = list[len(list)-1]
		list[len(list)-1] = nil
		p.free[class] = list[:len(list)-1]
		p.idle -= int64(class)
	}
	p.inUse += int64(class)
	for size, list := range p.free {
		for p.inUse+p.idle > p.budget && len(list) > 0 {
			list[len(list)-1] = nil
			list = list[:len(list)-1]
			p.idle -= int64(size)
		}
		p.free[size] = list
	}
	p.mu.Unlock()
	if b.mem == nil {
		b.mem = vfs.AlignedBuffer(class)
	}
	b.Bytes = b.mem[:n]
	b.refs.Store(1)
	return b
}

// Usage returns how many bytes are lent, rounding included, and how many are kept
// idle.
func (p *Pool) Usage() (lent, idle int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.inUse, p.idle
}

// Retain adds a user.
func (b *Buffer) Retain() { b.refs.Add(1) }

// Release drops a user; the last one gives the memory back. Releasing more often
// than retaining is a bug that would hand one buffer to two uploads, so it
// panics.
func (b *Buffer) Release() {
	switch n := b.refs.Add(-1); {
	case n > 0:
		return
	case n < 0:
		panic("erasure: Buffer released too often")
	}
	p, mem := b.pool, b.mem
	b.Bytes, b.mem = nil, nil
	p.mu.Lock()
	p.inUse -= int64(len(mem))
	p.idle += int64(len(mem))
	p.free[len(mem)] = append(p.free[len(mem)], mem)
	p.mu.Unlock()
	p.lent.Release(int64(len(mem)))
}

// sizeClass rounds n up to a class: 4, 5, 6 or 7 times a power of two, one page
// at least.
func sizeClass(n int) int {
	if n <= vfs.BlockSize {
		return vfs.BlockSize
	}
	pages := uint(n+vfs.BlockSize-1) / vfs.BlockSize
	if pages <= 4 {
		return int(pages) * vfs.BlockSize
	}
	shift := bits.Len(pages-1) - 3
	return int((pages+1<<shift-1)>>shift<<shift) * vfs.BlockSize
}
