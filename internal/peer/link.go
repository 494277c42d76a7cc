package peer

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"ringfort/internal/errs"
)

// linkLimits are what both ends of a connection are held to.
type linkLimits struct {
	maxFrameBytes int
	queueBytes    int
	readBytes     int           // size of the read buffer
	dead          time.Duration // silence, or a write that does not end, after which the other side is dead
}

// link is one end of an upgraded connection: it reads frames and writes frames,
// and knows nothing of calls. Two goroutines belong to it, the caller of
// readFrames and the writer, and it has ended when dead is closed.
type link struct {
	conn   net.Conn
	in     *bufio.Reader
	pools  *buffers
	limits linkLimits
	queue  *sendQueue
	began  time.Time
	heard  atomic.Int64 // ns after began: when bytes last arrived
	wrote  atomic.Int64 // ns after began: when bytes were last sent

	once  sync.Once
	dead  chan struct{}
	cause error // set before dead is closed
}

// newLink takes over conn; early is what was read from it already.
func newLink(conn net.Conn, early io.Reader, pools *buffers, limits linkLimits) *link {
	l := &link{
		conn: conn, pools: pools, limits: limits,
		queue: newSendQueue(limits.queueBytes),
		began: time.Now(), dead: make(chan struct{}),
	}
	var r io.Reader = hearing{l}
	if early != nil {
		r = io.MultiReader(early, r)
	}
	l.in = bufio.NewReaderSize(r, limits.readBytes)
	return l
}

// hearing reads from a link's connection and notes when something came.
type hearing struct{ l *link }

func (h hearing) Read(p []byte) (int, error) {
	n, err := h.l.conn.Read(p)
	if n > 0 {
		h.l.heard.Store(int64(time.Since(h.l.began)))
	}
	return n, err
}

// silent returns how long nothing has arrived.
func (l *link) silent() time.Duration {
	return time.Since(l.began) - time.Duration(l.heard.Load())
}

// fail ends the link. Only the first cause counts.
func (l *link) fail(cause error) {
	l.once.Do(func() {
		l.cause = cause
		l.queue.close(errs.Wrap("peer", errs.Unavailable, cause))
		close(l.dead)
		l.conn.Close()
	})
}

// readFrames hands every frame to handle until the link ends. take decides about
// a frame by its header: it returns the buffer that the frame is to be read
// into, or nil to have it skipped, after which handle gets a nil buffer.
func (l *link) readFrames(take func(frameHeader) *buffer, handle func(frameHeader, *buffer) error) error {
	for {
		head, err := l.in.Peek(frameHeaderSize)
		if err != nil {
			return err
		}
		h, err := parseFrameHeader(head, l.limits.maxFrameBytes)
		if err != nil {
			return err
		}
		b := take(h)
		if err := l.readFrame(h, b); err != nil {
			return err
		}
		if err := handle(h, b); err != nil {
			return err
		}
	}
}

func (l *link) readFrame(h frameHeader, b *buffer) error {
	n := frameHeaderSize + h.length
	if b == nil {
		return l.skipFrame(n)
	}
	if cap(b.b) < n {
		b.b = make([]byte, n)
	}
	b.b = b.b[:n]
	if _, err := io.ReadFull(l.in, b.b); err != nil {
		return err
	}
	return checkFrame(b.b)
}

// skipFrame reads past a frame of n bytes. Its checksum is verified all the same:
// the refusal that follows goes to the stream that the header names.
func (l *link) skipFrame(n int) error {
	head, err := l.in.Peek(8)
	if err != nil {
		return err
	}
	want := binary.BigEndian.Uint64(head)
	l.in.Discard(8)
	d := xxhash.New()
	if _, err := io.CopyN(d, l.in, int64(n-8)); err != nil {
		return err
	}
	if d.Sum64() != want {
		return errs.New("peer", errs.Corrupt, "checksum of a frame does not match")
	}
	return nil
}

// write is the writer: it takes whatever frames are queued and writes them with
// one system call, until the link ends.
func (l *link) write() {
	var frames []*buffer
	var vec net.Buffers
	for {
		if _, ok := <-l.queue.wake; !ok {
			return
		}
		// The caller that woke us made us the next to run. Let those go first who
		// are ready to queue a frame too: at 32 calls in flight this makes one
		// write of many, and when nobody is ready it costs next to nothing.
		runtime.Gosched()
		var err error
		if frames, err = l.queue.take(frames); err != nil {
			return
		}
		if err := l.writeAll(frames, &vec); err != nil {
			l.fail(err)
			return
		}
		clear(frames)
	}
}

func (l *link) writeAll(frames []*buffer, vec *net.Buffers) error {
	if len(frames) == 0 {
		return nil
	}
	// A peer that takes nothing for so long is dead, or we are better off without it.
	now := time.Now()
	l.wrote.Store(int64(now.Sub(l.began)))
	l.conn.SetWriteDeadline(now.Add(l.limits.dead))
	v := (*vec)[:0]
	for _, b := range frames {
		v = append(v, b.b)
	}
	*vec = v
	_, err := vec.WriteTo(l.conn)
	*vec = v[:0] // WriteTo has moved it along
	for _, b := range frames {
		l.pools.put(b)
	}
	return err
}

// control queues a frame without payload.
func (l *link) control(stream uint32, kind messageType) {
	b := l.pools.frame(0)
	sealFrame(b.b, stream, kind, 0, 0)
	l.queue.pushNow(b)
}

// watch ends the link when the other side has been silent for too long. If ping
// is not zero, it asks for a sign of life when nothing has been heard for about
// that long, and gives one when nothing has been said.
func (l *link) watch(ping time.Duration) {
	every := ping
	if every <= 0 || every > l.limits.dead {
		every = l.limits.dead / 4
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-l.dead:
			return
		case <-tick.C:
		}
		silent := l.silent()
		if silent >= l.limits.dead {
			l.fail(errs.New("peer", errs.Unavailable, "nothing heard for %v", silent.Round(time.Millisecond)))
			return
		}
		quiet := time.Since(l.began) - time.Duration(l.wrote.Load())
		if ping > 0 && max(silent, quiet) >= ping/2 {
			l.control(0, msgPing)
		}
	}
}

// ended says in words why a link was lost.
func ended(err error) string {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) {
		return "the connection was closed"
	}
	return err.Error()
}
