package fragfile

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"

	"ringfort/internal/errs"
	"ringfort/internal/vfs"
)

const (
	pageSize     = vfs.BlockSize
	maxCheckSize = 1 << 20

	// checkSizeNew is the check block size of new fragments: what a read of one
	// byte costs in I/O and hashing. 8 bytes for 32 KiB are 0.02 % of the data.
	checkSizeNew = 32 << 10

	magicCheck   = "RFFc"
	checkHead    = 24
	checkExtra   = 32                          // bytes of a check page beside its checksums
	groupBlocks  = (pageSize - checkExtra) / 8 // 508
	magicTrailer = "RFFt"

	// TrailerSize is the length of a fragment's trailer in bytes.
	TrailerSize = 136
)

// geometry says where the parts of a fragment lie. It follows from form, check
// block size and data length alone.
type geometry struct {
	form      form
	checkSize int64
	dataLen   int64
}

func (g geometry) padded(n int64) int64 {
	if g.form == packed {
		return n
	}
	return (n + pageSize - 1) / pageSize * pageSize
}

// groupSize is the data length of a full group.
func (g geometry) groupSize() int64 { return groupBlocks * g.checkSize }

func (g geometry) groups() int64 { return ceilDiv(g.dataLen, g.groupSize()) }

// groupLen returns the data length of group i.
func (g geometry) groupLen(i int64) int64 { return min(g.groupSize(), g.dataLen-i*g.groupSize()) }

// blocks returns how many check blocks group i has.
func (g geometry) blocks(i int64) int { return int(ceilDiv(g.groupLen(i), g.checkSize)) }

// dataOff returns where the data of group i begins.
func (g geometry) dataOff(i int64) int64 {
	return g.padded(HeaderSize) + i*(g.padded(g.groupSize())+g.padded(checkExtra+8*groupBlocks))
}

// checkOff returns where the check page of group i begins.
func (g geometry) checkOff(i int64) int64 { return g.dataOff(i) + g.padded(g.groupLen(i)) }

// end returns where the trailer's page begins.
func (g geometry) end() int64 {
	n := g.groups()
	if n == 0 {
		return g.padded(HeaderSize)
	}
	return g.checkOff(n-1) + g.padded(int64(checkExtra+8*g.blocks(n-1)))
}

// total returns the length of the whole fragment.
func (g geometry) total() int64 { return g.end() + g.padded(TrailerSize) }

// checker computes check pages while data passes by.
type checker struct {
	tag       uint64
	checkSize int64

	page    []byte        // the page of the current group so far, without its end
	count   int           // check blocks in it
	group   uint64        // its number
	block   xxhash.Digest // of the current check block
	inBlock int64         // bytes in it
	all     xxhash.Digest // of the pages sealed so far
}

func newChecker(tag uint64, checkSize int64) *checker {
	c := &checker{tag: tag, checkSize: checkSize, page: make([]byte, 0, pageSize)}
	c.block.Reset()
	c.all.Reset()
	c.start()
	return c
}

func (c *checker) start() {
	c.count = 0
	c.page = append(c.page[:0], magicCheck...)
	c.page = binary.BigEndian.AppendUint32(c.page, 0)
	c.page = binary.BigEndian.AppendUint64(c.page, c.group)
	c.page = binary.BigEndian.AppendUint64(c.page, c.tag)
}

// add takes data up to the end of the group, and returns how much it took.
func (c *checker) add(p []byte) (n int) {
	for n < len(p) && !c.full() {
		take := int(min(int64(len(p)-n), c.checkSize-c.inBlock))
		if int64(take) == c.checkSize {
			c.sum(xxhash.Sum64(p[n : n+take]))
		} else {
			c.block.Write(p[n : n+take])
			c.inBlock += int64(take)
			if c.inBlock == c.checkSize {
				c.endBlock()
			}
		}
		n += take
	}
	return n
}

func (c *checker) endBlock() {
	c.sum(c.block.Sum64())
	c.block.Reset()
	c.inBlock = 0
}

func (c *checker) sum(s uint64) {
	c.page = binary.BigEndian.AppendUint64(c.page, s)
	c.count++
}

// full reports whether the group has all its blocks and wants its page written.
func (c *checker) full() bool { return c.count == groupBlocks }

// empty reports whether no data stands in the group yet.
func (c *checker) empty() bool { return c.count == 0 && c.inBlock == 0 }

// seal ends the group and returns its page without padding, valid until the next
// call.
func (c *checker) seal() []byte {
	if c.inBlock > 0 {
		c.endBlock()
	}
	binary.BigEndian.PutUint32(c.page[4:], uint32(c.count))
	c.page = binary.BigEndian.AppendUint64(c.page, xxhash.Sum64(c.page))
	c.all.Write(c.page)
	sealed := c.page
	c.group++
	return sealed
}

// checkPage is a check page that has been verified against its fragment.
type checkPage struct {
	group int64
	raw   []byte // without padding
}

// sum returns the checksum of the group's block i.
func (p *checkPage) sum(i int64) uint64 { return binary.BigEndian.Uint64(p.raw[checkHead+8*i:]) }

// decodeCheckPage verifies the page of one group, which must begin b.
func decodeCheckPage(b []byte, tag uint64, group int64, blocks int) (*checkPage, error) {
	size := checkExtra + 8*blocks
	fail := func(what string) (*checkPage, error) {
		return nil, errs.New("fragfile.check", errs.Corrupt, "check page %d: %s", group, what)
	}
	switch {
	case len(b) < size:
		return fail("cut short")
	case string(b[:4]) != magicCheck:
		return fail("not a check page")
	case binary.BigEndian.Uint64(b[size-8:]) != xxhash.Sum64(b[:size-8]):
		return fail("checksum does not match")
	case binary.BigEndian.Uint32(b[4:]) != uint32(blocks):
		return fail("has another number of blocks")
	case binary.BigEndian.Uint64(b[8:]) != uint64(group):
		return fail("belongs to another group")
	case binary.BigEndian.Uint64(b[16:]) != tag:
		return fail("belongs to another fragment")
	}
	return &checkPage{group: group, raw: b[:size]}, nil
}

// trailer is the end of a fragment, which makes it one.
type trailer struct {
	header   Header
	geometry geometry
	tag      uint64
	checks   uint64 // checksum of all check pages
}

func (t trailer) appendTo(b []byte) []byte {
	start := len(b)
	b = t.header.appendTo(b, t.geometry.form, t.geometry.checkSize)
	b = binary.BigEndian.AppendUint64(b, uint64(t.geometry.dataLen))
	b = binary.BigEndian.AppendUint64(b, uint64(t.geometry.groups()))
	b = binary.BigEndian.AppendUint64(b, t.checks)
	b = append(b, magicTrailer...)
	b = binary.BigEndian.AppendUint32(b, 0)
	return binary.BigEndian.AppendUint64(b, xxhash.Sum64(b[start:]))
}

// decodeTrailer reads the trailer of a fragment of form f that is size bytes
// long, from its last TrailerSize bytes.
func decodeTrailer(b []byte, f form, size int64) (t trailer, err error) {
	const op = "fragfile.trailer"
	fail := func(what string) (trailer, error) {
		return trailer{}, errs.New(op, errs.Corrupt, what)
	}
	switch {
	case len(b) != TrailerSize:
		return fail("cut short")
	case string(b[120:124]) != magicTrailer:
		return fail("no commit mark")
	case binary.BigEndian.Uint64(b[128:]) != xxhash.Sum64(b[:128]):
		return fail("checksum does not match")
	}
	t.header, t.geometry.form, t.geometry.checkSize, err = decodeHeader(b)
	if err != nil {
		return trailer{}, err
	}
	t.tag = tagOf(b)
	t.geometry.dataLen = t.header.Layout().FragmentSize()
	t.checks = binary.BigEndian.Uint64(b[112:])
	switch {
	case t.geometry.form != f:
		return fail("is of another form")
	case t.header.Size == SizeUnknown:
		return fail("does not know the blob's size")
	case binary.BigEndian.Uint64(b[96:]) != uint64(t.geometry.dataLen):
		return fail("data length does not follow from the blob's size")
	case binary.BigEndian.Uint64(b[104:]) != uint64(t.geometry.groups()):
		return fail("number of groups does not follow from the data length")
	case binary.BigEndian.Uint32(b[124:]) != 0:
		return fail("reserved bytes are not zero")
	case t.geometry.total() != size:
		return fail("fragment has another length than its data calls for")
	}
	return t, nil
}

func ceilDiv(a, b int64) int64 { return (a + b - 1) / b }
