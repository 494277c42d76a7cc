package peer

import (
	"encoding/base64"
	"encoding/binary"
	"time"

	"github.com/cespare/xxhash/v2"

	"ringfort/internal/catalog"
	"ringfort/internal/errs"
	"ringfort/internal/wire"
)

// maxFragmentIndex is the last that a blob can have: a code over bytes makes 255
// fragments at the most.
const maxFragmentIndex = 254

// fragmentHead begins both fragment requests.
type fragmentHead struct {
	target Target
	name   FragmentName
}

func (m *fragmentHead) appendTo(b []byte) []byte {
	b = append(appendTarget(b, m.target), m.name.Owner[:]...)
	b = m.name.ID.AppendTo(b)
	return binary.AppendUvarint(b, uint64(m.name.Index))
}

func readFragmentHead(r *wire.Reader) fragmentHead {
	m := fragmentHead{target: readTarget(r)}
	m.name = FragmentName{Owner: readKey(r), ID: readBlobID(r), Index: int(r.UvarintMax(maxFragmentIndex))}
	return m
}

type createRequest struct {
	target Target
	header FragmentHeader
}

func (m *createRequest) appendTo(b []byte) []byte {
	h := &m.header
	head := fragmentHead{m.target, FragmentName{h.Owner, h.ID, h.Index}}
	b = append(head.appendTo(b), h.Coding.K, h.Coding.M)
	b = binary.AppendUvarint(b, uint64(h.Coding.BlockSize))
	return binary.AppendUvarint(b, uint64(h.Size+1))
}

func readCreateRequest(r *wire.Reader) createRequest {
	head := readFragmentHead(r)
	h := FragmentHeader{Owner: head.name.Owner, ID: head.name.ID, Index: head.name.Index}
	h.Coding = catalog.Coding{K: r.Byte(), M: r.Byte(), BlockSize: readUint32(r)}
	h.Size = r.Int64() - 1
	return createRequest{head.target, h}
}

type openRequest struct {
	fragmentHead
	off, n int64
}

func (m *openRequest) appendTo(b []byte) []byte {
	b = m.fragmentHead.appendTo(b)
	b = binary.AppendUvarint(b, uint64(m.off))
	return binary.AppendUvarint(b, uint64(m.n))
}

func readOpenRequest(r *wire.Reader) openRequest {
	return openRequest{readFragmentHead(r), r.Int64(), r.Int64()}
}

// checkFragment refuses what cannot be written down.
func checkFragment(op string, index int, numbers ...int64) error {
	if index < 0 || index > maxFragmentIndex {
		return errs.New(op, errs.Invalid, "fragment index %d", index)
	}
	for _, n := range numbers {
		if n < 0 {
			return errs.New(op, errs.Invalid, "a negative size or offset: %d", n)
		}
	}
	return nil
}

func encodeQuery(p []byte) string { return base64.RawURLEncoding.EncodeToString(p) }

func decodeQuery(s string) ([]byte, error) {
	const maxQuery = 1 << 10
	if len(s) > maxQuery {
		return nil, errs.New("peer", errs.Invalid, "a query of %d bytes", len(s))
	}
	p, err := base64.RawURLEncoding.DecodeString(s)
	return p, errs.Wrap("peer", errs.Invalid, err)
}

// blockKind says what a block of a fragment stream is.
type blockKind byte

const (
	blockData   blockKind = 0
	blockLast   blockKind = 1 // data, and nothing follows
	blockCommit blockKind = 2
	blockError  blockKind = 3
)

const (
	maxBlockSize    = 256 << 10
	blockHeaderSize = 24
	// blockSize is what is sent in one go: large enough that a system call costs
	// nothing beside the bytes, small enough that a buffer of it for every open
	// stream does not hurt.
	blockSize = 128 << 10
)

// block is the head of a block.
type block struct {
	sum    uint64
	offset uint64
	length int
	kind   blockKind
}

func blockSum(head, payload []byte) uint64 {
	var d xxhash.Digest
	d.Reset()
	d.Write(head)
	d.Write(payload)
	return d.Sum64()
}

// sealBlock fills in the blockHeaderSize bytes of head for a payload.
func sealBlock(head []byte, offset int64, kind blockKind, payload []byte) {
	binary.BigEndian.PutUint64(head[8:], uint64(offset))
	binary.BigEndian.PutUint32(head[16:], uint32(len(payload)))
	head[20], head[21], head[22], head[23] = byte(kind), 0, 0, 0
	binary.BigEndian.PutUint64(head, blockSum(head[8:blockHeaderSize], payload))
}

// parseBlock reads a block's head and checks that it continues the stream at
// offset want.
func parseBlock(head []byte, want int64) (b block, err error) {
	b = block{
		sum:    binary.BigEndian.Uint64(head),
		offset: binary.BigEndian.Uint64(head[8:]),
		kind:   blockKind(head[20]),
	}
	n := binary.BigEndian.Uint32(head[16:])
	switch {
	case n > maxBlockSize || b.kind > blockError || head[21]|head[22]|head[23] != 0:
		return b, errs.New("peer", errs.Corrupt, "impossible head of a block")
	case b.offset != uint64(want):
		return b, errs.New("peer", errs.Corrupt, "block at %d where %d is next", b.offset, want)
	}
	b.length = int(n)
	return b, nil
}

// check verifies the block's checksum.
func (b *block) check(head, payload []byte) error {
	if blockSum(head[8:blockHeaderSize], payload) != b.sum {
		return errs.New("peer", errs.Corrupt, "checksum of the block at %d does not match", b.offset)
	}
	return nil
}

// commitSize is the length of a commit's payload.
const commitSize = 12

func appendCommit(b []byte, size int64, left time.Duration) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(size))
	return binary.BigEndian.AppendUint32(b, millis(left))
}

func decodeCommit(p []byte) (size int64, left time.Duration, err error) {
	if len(p) != commitSize {
		return 0, 0, errs.New("peer", errs.Corrupt, "commit of %d bytes", len(p))
	}
	size = int64(binary.BigEndian.Uint64(p))
	if size < 0 {
		return 0, 0, errs.New("peer", errs.Corrupt, "commit of a blob of %d bytes", size)
	}
	return size, time.Duration(binary.BigEndian.Uint32(p[8:])) * time.Millisecond, nil
}
