package peer

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"ringfort/internal/blob"
	"ringfort/internal/catalog"
	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/register"
	"ringfort/internal/timestamp"
	"ringfort/internal/wire"
	"ringfort/ring"
)

// ClientConfig says how a Client behaves. A zero field takes its default, the
// number in its comment.
type ClientConfig struct {
	// Secret is the cluster's.
	Secret Secret
	// Log gets a line when the peer is lost and when it is back. Nil: none.
	Log *slog.Logger
	// Devices is told how far the peer's devices have come, with every answer of
	// theirs; the clients of a node share it. Nil: nobody is.
	Devices DeviceWatcher
	// Dial opens a connection; nil: TCP.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// Connections is how many upgraded connections are kept: 2. The last of
	// several carries what may be long (pages, large records), so that it does
	// not hold up what is short.
	Connections int
	// MaxCalls is how many calls may be under way on one connection: 1024. More
	// fail with errs.Busy at once.
	MaxCalls int
	// MaxDeviceCalls is how many calls may be under way for one device: 256.
	MaxDeviceCalls int
	// MaxStreams is how many fragments may be read or written at once: 128.
	MaxStreams int
	// MaxDeviceStreams is how many of them may be on one device: 64.
	MaxDeviceStreams int
	// MaxIdleStreams is how many connections for fragments are kept for the next
	// one: 16.
	MaxIdleStreams int
	// MaxFrameBytes is the longest message: 8 MiB. It is to be the same in the
	// whole cluster: a longer one ends the connection that it arrives on.
	MaxFrameBytes int
	// QueueBytes is how many bytes of requests may wait on one connection before
	// callers have to: 4 MiB.
	QueueBytes int
	// ReadBufferBytes is the size of a connection's read buffer: 64 KiB.
	ReadBufferBytes int

	// CallTimeout bounds a call whose context does not end earlier: 10 s.
	CallTimeout time.Duration
	// CommitTimeout bounds the commit of a fragment, which syncs it: 30 s.
	CommitTimeout time.Duration
	// StallTimeout is how long a fragment's stream may stand still: 15 s.
	StallTimeout time.Duration
	// DialTimeout bounds the opening of a connection: 2 s.
	DialTimeout time.Duration
	// PingEvery is how long a peer may be silent before it is asked for a sign
	// of life: 1 s.
	PingEvery time.Duration
	// DeadAfter is how long a peer may be silent before it counts as dead and
	// the calls under way fail: 5 s.
	DeadAfter time.Duration
	// BackoffMin and BackoffMax are the pauses between attempts to reach a peer
	// that is away, doubled each time and with a random half: 50 ms and 3 s.
	BackoffMin, BackoffMax time.Duration

	// SettleEvery is how long settled records are gathered: 5 ms.
	SettleEvery time.Duration
	// SettleBatch is how many go in one message: 512.
	SettleBatch int
	// SettleQueue is how many may wait; the oldest are forgotten: 16384.
	SettleQueue int
}

func (c ClientConfig) withDefaults() ClientConfig {
	orInt(&c.Connections, 2)
	orInt(&c.MaxCalls, 1024)
	orInt(&c.MaxDeviceCalls, 256)
	orInt(&c.MaxStreams, 128)
	orInt(&c.MaxDeviceStreams, 64)
	orInt(&c.MaxIdleStreams, 16)
	orInt(&c.MaxFrameBytes, 8<<20)
	c.MaxFrameBytes = min(c.MaxFrameBytes, maxFrameBytes)
	orInt(&c.QueueBytes, 4<<20)
	orInt(&c.ReadBufferBytes, 64<<10)
	orTime(&c.CallTimeout, 10*time.Second)
	orTime(&c.CommitTimeout, 30*time.Second)
	orTime(&c.StallTimeout, 15*time.Second)
	orTime(&c.DialTimeout, 2*time.Second)
	orTime(&c.PingEvery, time.Second)
	orTime(&c.DeadAfter, 5*time.Second)
	orTime(&c.BackoffMin, 50*time.Millisecond)
	orTime(&c.BackoffMax, 3*time.Second)
	orTime(&c.SettleEvery, 5*time.Millisecond)
	orInt(&c.SettleBatch, 512)
	orInt(&c.SettleQueue, 16384)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{}).DialContext
	}
	return c
}

// Client is a Node that lives in another process. It connects when it is first
// used, stays connected, and while its peer is away it tries again in the
// background and fails calls at once.
type Client struct {
	address string
	cfg     ClientConfig
	pools   buffers
	calls   *limiter
	streams *streamPool
	settles *settleQueue
	slots   []*slot
	next    atomic.Uint32
	idle    sync.Pool // *call

	ctx    context.Context // ends with Close
	cancel context.CancelCauseFunc
	loops  sync.WaitGroup
}

var _ Node = (*Client)(nil)

// NewClient returns a client of the node that listens on address (host:port).
func NewClient(address string, cfg ClientConfig) *Client {
	cfg = cfg.withDefaults()
	c := &Client{
		address: address, cfg: cfg,
		calls: newLimiter(cfg.MaxCalls*cfg.Connections, cfg.MaxDeviceCalls),
	}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.streams = newStreamPool(c)
	c.settles = newSettleQueue(c)
	for range cfg.Connections {
		c.slots = append(c.slots, newSlot(c))
	}
	return c
}

// Address returns the address that the client was made with.
func (c *Client) Address() string { return c.address }

// Close ends all connections; calls under way fail. It returns when the client's
// goroutines have ended. Calling it again does nothing.
func (c *Client) Close() error {
	c.cancel(errs.New("peer", errs.Unavailable, "the client of %s is closed", c.address))
	for _, s := range c.slots {
		s.close()
	}
	c.settles.close()
	c.streams.close()
	c.loops.Wait()
	return nil
}

// exchange sends the request in b and returns the answer's payload, which is the
// caller's to keep. It owns b.
func (c *Client) exchange(ctx context.Context, kind messageType, d ring.DeviceID, b *buffer) ([]byte, error) {
	op := kind.op()
	if n := len(b.b) - frameHeaderSize; n > c.cfg.MaxFrameBytes {
		return nil, errs.New(op, errs.TooLarge, "a message of %d bytes", n)
	}
	if err := ctx.Err(); err != nil {
		c.pools.put(b)
		return nil, errs.Wrap(op, errs.Canceled, err)
	}
	if hasTarget(kind) {
		if err := c.calls.acquire(op, d); err != nil {
			c.pools.put(b)
			return nil, err
		}
		defer c.calls.release(d)
	}
	l, err := c.link(ctx, c.isLong(kind, b))
	if err != nil {
		c.pools.put(b)
		return nil, errs.Wrap(op, errs.Other, err)
	}
	q := asked{kind: kind, device: d}
	if c.cfg.Devices != nil && hasTarget(kind) {
		q.known = c.cfg.Devices.Known(d)
	}
	return l.call(ctx, &q, b)
}

// longRequest is the length from which a request counts as long.
const longRequest = 128 << 10

func (c *Client) isLong(kind messageType, b *buffer) bool {
	return kind == msgListRows || kind == msgGetRows || len(b.b) > longRequest
}

// link returns a connection, opening it if need be.
func (c *Client) link(ctx context.Context, long bool) (*clientLink, error) {
	n := len(c.slots)
	first := n - 1
	if !long && n > 1 {
		first = int(c.next.Add(1) % uint32(n-1))
	}
	s := c.slots[first]
	if l := s.current(); l != nil {
		return l, nil
	}
	l, err := s.get(ctx)
	if err == nil || ctx.Err() != nil {
		return l, err
	}
	for _, other := range c.slots { // better any than none
		if l := other.current(); l != nil {
			return l, nil
		}
	}
	return nil, err
}

// Learn implements Registers.
func (c *Client) Learn(ctx context.Context, t Target, s Service, key keyhash.Hash) (k register.Known, err error) {
	b := c.pools.frame(64)
	m := registerHead{t, s, key}
	b.b = m.appendTo(b.b)
	p, err := c.exchange(ctx, msgLearn, t.Device, b)
	if err != nil {
		return k, err
	}
	r := wire.NewReader(p)
	k = readKnown(&r)
	return k, finish(msgLearn, &r)
}

// finish tells whether an answer was read well and to its end.
func finish(kind messageType, r *wire.Reader) error {
	if err := r.Done(); err != nil {
		return badPayload(kind.op(), err)
	}
	return nil
}

// Read implements Registers.
func (c *Client) Read(ctx context.Context, t Target, s Service, key keyhash.Hash, data bool) (st register.State, err error) {
	b := c.pools.frame(64)
	m := readRequest{registerHead{t, s, key}, data}
	b.b = m.appendTo(b.b)
	p, err := c.exchange(ctx, msgRead, t.Device, b)
	if err != nil {
		return st, err
	}
	r := wire.NewReader(p)
	return readState(&r)
}

// ReadLeased implements Registers.
func (c *Client) ReadLeased(ctx context.Context, t Target, key keyhash.Hash, holder register.Lease) (st register.State, err error) {
	b := c.pools.frame(128)
	m := leasedRequest{t, key, holder}
	b.b = m.appendTo(b.b)
	p, err := c.exchange(ctx, msgReadLeased, t.Device, b)
	if err != nil {
		return st, err
	}
	r := wire.NewReader(p)
	return readState(&r)
}

// Write implements Registers.
func (c *Client) Write(ctx context.Context, t Target, s Service, key keyhash.Hash, rec *register.Record) (a register.Answer, err error) {
	if rec == nil {
		return a, errs.New("peer.Write", errs.Invalid, "no record")
	}
	b := c.pools.frame(64 + stateSize(rec))
	m := writeRequest{registerHead{t, s, key}, rec}
	b.b = m.appendTo(b.b)
	p, err := c.exchange(ctx, msgWrite, t.Device, b)
	if err != nil {
		return a, err
	}
	r := wire.NewReader(p)
	return readAnswer(&r)
}

// Prepare implements Registers.
func (c *Client) Prepare(ctx context.Context, t Target, s Service, key keyhash.Hash, ballot, sweep timestamp.T) (a register.Answer, err error) {
	b := c.pools.frame(128)
	m := prepareRequest{registerHead{t, s, key}, ballot, sweep}
	b.b = m.appendTo(b.b)
	p, err := c.exchange(ctx, msgPrepare, t.Device, b)
	if err != nil {
		return a, err
	}
	r := wire.NewReader(p)
	return readAnswer(&r)
}

// Settle implements Registers. What waits to be sent is bounded by
// ClientConfig.SettleQueue, and lost if the peer is away.
func (c *Client) Settle(t Target, s Service, done []register.Settled) { c.settles.add(t, s, done) }

// PutRows implements Rows.
func (c *Client) PutRows(ctx context.Context, t Target, s Service, l Listing, rows []catalog.Row) error {
	if err := checkRowCount("peer.PutRows", len(rows)); err != nil {
		return err
	}
	m := putRowsRequest{listingHead{t, s, l}, rows}
	b := c.pools.frame(m.size())
	b.b = m.appendTo(b.b)
	return c.plain(ctx, msgPutRows, t.Device, b)
}

// plain is exchange for calls whose answer is empty.
func (c *Client) plain(ctx context.Context, kind messageType, d ring.DeviceID, b *buffer) error {
	p, err := c.exchange(ctx, kind, d, b)
	if err != nil {
		return err
	}
	r := wire.NewReader(p)
	return finish(kind, &r)
}

// ListRows implements Rows.
func (c *Client) ListRows(ctx context.Context, t Target, s Service, q *RowQuery) (*RowPage, error) {
	m := listRowsRequest{t, s, *q}
	b := c.pools.frame(256 + len(q.Prefix) + len(q.Marker) + len(q.EndMarker) + len(q.Delimiter))
	b.b = m.appendTo(b.b)
	p, err := c.exchange(ctx, msgListRows, t.Device, b)
	if err != nil {
		return nil, err
	}
	r := wire.NewReader(p)
	page := readPage(&r)
	if err := finish(msgListRows, &r); err != nil {
		return nil, err
	}
	return page, nil
}

// GetRows implements Rows.
func (c *Client) GetRows(ctx context.Context, t Target, s Service, l Listing, names []string) ([]RowState, error) {
	if err := checkRowCount("peer.GetRows", len(names)); err != nil {
		return nil, err
	}
	m := getRowsRequest{listingHead{t, s, l}, names}
	b := c.pools.frame(m.size())
	b.b = m.appendTo(b.b)
	p, err := c.exchange(ctx, msgGetRows, t.Device, b)
	if err != nil {
		return nil, err
	}
	r := wire.NewReader(p)
	states := readRowStates(&r)
	if err := finish(msgGetRows, &r); err != nil {
		return nil, err
	}
	if len(states) > len(names) || len(states) == 0 && len(names) > 0 {
		return nil, errs.New("peer.GetRows", errs.Corrupt, "%d answers to %d names", len(states), len(names))
	}
	return states, nil
}

// ListingStats implements Rows.
func (c *Client) ListingStats(ctx context.Context, t Target, s Service, l Listing) (st ListingStats, err error) {
	m := listingHead{t, s, l}
	b := c.pools.frame(128)
	b.b = m.appendTo(b.b)
	p, err := c.exchange(ctx, msgListingStats, t.Device, b)
	if err != nil {
		return st, err
	}
	r := wire.NewReader(p)
	st = readStats(&r)
	return st, finish(msgListingStats, &r)
}

// DropBlobs implements Fragments.
func (c *Client) DropBlobs(ctx context.Context, t Target, owner keyhash.Hash, ids []blob.ID) error {
	if len(ids) > maxList {
		return errs.New("peer.DropBlobs", errs.TooLarge, "%d blobs in one call", len(ids))
	}
	m := dropRequest{t, owner, ids}
	b := c.pools.frame(128 + len(ids)*blob.IDSize)
	b.b = m.appendTo(b.b)
	return c.plain(ctx, msgDropBlobs, t.Device, b)
}

// DropGroup implements Fragments.
func (c *Client) DropGroup(ctx context.Context, t Target, owner keyhash.Hash, group timestamp.T) error {
	m := dropGroupRequest{t, owner, group}
	b := c.pools.frame(128)
	b.b = m.appendTo(b.b)
	return c.plain(ctx, msgDropGroup, t.Device, b)
}

// Revoke implements Node.
func (c *Client) Revoke(ctx context.Context, key keyhash.Hash) error {
	b := c.pools.frame(len(key))
	b.b = append(b.b, key[:]...)
	return c.plain(ctx, msgRevoke, 0, b)
}

// Status implements Node.
func (c *Client) Status(ctx context.Context) (*NodeStatus, error) {
	p, err := c.exchange(ctx, msgStatus, 0, c.pools.frame(0))
	if err != nil {
		return nil, err
	}
	r := wire.NewReader(p)
	st := readStatus(&r)
	if err := finish(msgStatus, &r); err != nil {
		return nil, err
	}
	return st, nil
}
