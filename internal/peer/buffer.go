package peer

import "sync"

// buffer is a pooled byte slice.
type buffer struct{ b []byte }

// bufferSizes are the capacities that are kept: an answer, a record of 4 KiB
// with its value, one of 64 KiB, a block of a fragment. Anything larger is rare
// and left to the garbage collector.
var bufferSizes = [...]int{512, 8 << 10, 80 << 10, maxBlockSize + blockHeaderSize}

// buffers hands out buffers and takes them back.
type buffers struct{ pools [len(bufferSizes)]sync.Pool }

// get returns an empty buffer with room for about n bytes.
func (p *buffers) get(n int) *buffer {
	for i, size := range bufferSizes {
		if n <= size {
			if b, ok := p.pools[i].Get().(*buffer); ok {
				return b
			}
			return &buffer{b: make([]byte, 0, size)}
		}
	}
	return &buffer{b: make([]byte, 0, n)}
}

// frame returns a buffer that begins with an unfilled frame header.
func (p *buffers) frame(payload int) *buffer {
	b := p.get(frameHeaderSize + payload)
	b.b = b.b[:frameHeaderSize]
	return b
}

// put takes a buffer back. Nobody may look at it afterwards.
func (p *buffers) put(b *buffer) {
	if b == nil || cap(b.b) > 2*bufferSizes[len(bufferSizes)-1] {
		return
	}
	b.b = b.b[:0]
	for i := len(bufferSizes) - 1; i >= 0; i-- {
		if cap(b.b) >= bufferSizes[i] {
			p.pools[i].Put(b)
			return
		}
	}
}
