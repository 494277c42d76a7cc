package e2e

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"golang.org/x/sync/errgroup"

	"ringfort/e2e/harness"
)

const (
	// heapLimit is what the server's heap stays below, however large an object is.
	heapLimit = 100 << 20
	// spare is the room that a test leaves on the disk.
	spare = 5 << 30
	// hugePart is the size of a part, and hugeParallel how many are sent at once.
	hugePart     = 64 << 20
	hugeParallel = 4
	hugeBucket   = "huge"
)

// TestHuge sends and fetches an object in one piece and one in many parts, far
// larger than the memory that the server may use for it: 5 and 50 GiB in the long
// form, or what fits on the disk. No file holds the bytes: they are made as they
// are sent and made again to compare.
func TestHuge(t *testing.T) {
	harness.NeedOwn(t)
	// The widest stripe with the least on top: 50 GiB take 55.
	s := rig.Start(t, harness.Setup{Name: "11-directories", Nodes: 1, Dirs: 11, Policy: "ec(10,1)"})
	client := core(t, s)
	if err := client.MakeBucket(t.Context(), hugeBucket, minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	one, many := int64(128<<20+1), int64(320<<20+1)
	if harness.Long() {
		one, many = 5<<30, 50<<30
	}
	t.Run("one PUT", func(t *testing.T) {
		huge(t, s, client, 1, fitting(t, s, one), func(p *pattern) error {
			_, err := client.PutObject(t.Context(), hugeBucket, "huge", p, p.end, "", "",
				minio.PutObjectOptions{DisableContentSha256: true})
			return err
		})
	})
	t.Run("parts", func(t *testing.T) {
		huge(t, s, client, 2, fitting(t, s, many), func(p *pattern) error { return sendParts(t, client, p) })
	})
}

// core returns a client that sends each call as it is told, and once.
func core(t *testing.T, s *harness.System) *minio.Core {
	t.Helper()
	u, err := url.Parse(s.S3())
	if err != nil {
		t.Fatal(err)
	}
	client, err := minio.NewCore(u.Host, &minio.Options{
		Creds: credentials.NewStaticV4(s.AccessKey, s.SecretKey, ""), Region: "us-east-1", MaxRetries: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// fitting returns size, or as much of it as the disk has room for.
func fitting(t *testing.T, s *harness.System, size int64) int64 {
	t.Helper()
	var fs syscall.Statfs_t
	if err := syscall.Statfs(s.Dir, &fs); err != nil {
		t.Fatal(err)
	}
	// Eleven fragments for ten, and a little for logs.
	room := (int64(fs.Bavail)*fs.Bsize - spare) / 112 * 100
	if room >= size {
		return size
	}
	if room < 2*heapLimit {
		t.Skipf("%d MiB of room are too few to tell anything", room>>20)
	}
	t.Logf("the disk has room for %d of %d MiB", room>>20, size>>20)
	return room
}

// huge sends an object with send, fetches it, deletes it, and compares its bytes,
// and the server's heap with what it may be.
func huge(t *testing.T, s *harness.System, client *minio.Core, seed uint64, size int64, send func(*pattern) error) {
	t.Helper()
	heap := s.Nodes[0].WatchHeap(t)
	begin := time.Now()
	if err := send(newPattern(seed, size)); err != nil {
		t.Fatal(err)
	}
	sent := time.Since(begin)
	upPeak := heap.Peak(t)

	heap = s.Nodes[0].WatchHeap(t)
	begin = time.Now()
	body, info, _, err := client.GetObject(t.Context(), hugeBucket, "huge", minio.GetObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	equal(t, "length", info.Size, size)
	if err := sameBytes(body, newPattern(seed, size)); err != nil {
		t.Error(err)
	}
	fetched := time.Since(begin)
	downPeak := heap.Peak(t)
	if err := client.RemoveObject(t.Context(), hugeBucket, "huge", minio.RemoveObjectOptions{}); err != nil {
		t.Error(err)
	}

	resident, err := s.Nodes[0].Metric(t.Context(), "process_resident_memory_bytes")
	if err != nil {
		t.Error(err)
	}
	t.Logf("%d MiB: sent in %v, %.0f MiB/s, heap at most %d MiB; fetched in %v, %.0f MiB/s, heap at most %d MiB; %.0f MiB resident",
		size>>20, sent.Round(time.Millisecond), perSecond(size, sent), upPeak>>20,
		fetched.Round(time.Millisecond), perSecond(size, fetched), downPeak>>20, resident/(1<<20))
	if peak := max(upPeak, downPeak); peak > heapLimit {
		t.Errorf("the server's heap was %d MiB, and may be %d", peak>>20, heapLimit>>20)
	}
}

func perSecond(n int64, d time.Duration) float64 { return float64(n) / (1 << 20) / d.Seconds() }

// sendParts sends what p makes as a multipart upload, a few parts at a time.
func sendParts(t *testing.T, client *minio.Core, p *pattern) error {
	ctx := t.Context()
	id, err := client.NewMultipartUpload(ctx, hugeBucket, "huge", minio.PutObjectOptions{})
	if err != nil {
		return err
	}
	parts := make([]minio.CompletePart, (p.end+hugePart-1)/hugePart)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(hugeParallel)
	for i := range parts {
		group.Go(func() error {
			from := int64(i) * hugePart
			part := p.section(from, min(from+hugePart, p.end))
			got, err := client.PutObjectPart(ctx, hugeBucket, "huge", id, i+1, part, part.end-from,
				minio.PutObjectPartOptions{DisableContentSha256: true})
			parts[i] = minio.CompletePart{PartNumber: i + 1, ETag: got.ETag}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	_, err = client.CompleteMultipartUpload(t.Context(), hugeBucket, "huge", id, parts, minio.PutObjectOptions{})
	return err
}

const (
	patternBlock = 1 << 20
	patternPage  = 4096
)

// pattern is a stream of bytes that follow from a seed and their place: a block of
// random bytes again and again, with its number in each page of 4 KiB. It is made
// at the speed of memory, and no two pages are the same.
type pattern struct {
	block    []byte
	off, end int64
}

func newPattern(seed uint64, size int64) *pattern {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	block := make([]byte, patternBlock)
	// ChaCha8's Read never fails.
	_, _ = rand.NewChaCha8(key).Read(block)
	return &pattern{block: block, end: size}
}

// section returns a reader of the bytes from one place to another.
func (p *pattern) section(from, to int64) *pattern {
	return &pattern{block: p.block, off: from, end: to}
}

// Read implements io.Reader.
func (p *pattern) Read(b []byte) (int, error) {
	if p.off >= p.end {
		return 0, io.EOF
	}
	n := 0
	for n < len(b) && p.off < p.end {
		in := p.off % patternPage
		m := min(int64(len(b)-n), patternPage-in, p.end-p.off)
		var page [patternPage]byte
		copy(page[:], p.block[p.off%patternBlock-in:])
		binary.LittleEndian.PutUint64(page[:], uint64(p.off/patternPage))
		copy(b[n:], page[in:in+m])
		n += int(m)
		p.off += m
	}
	return n, nil
}

// TestPattern: a stream read in pieces of any length, from anywhere, is the same,
// and a difference is found.
func TestPattern(t *testing.T) {
	const size = 2*patternBlock + 777
	whole := make([]byte, size)
	if _, err := io.ReadFull(newPattern(1, size), whole); err != nil {
		t.Fatal(err)
	}
	for from := int64(0); from < size; {
		to := min(from+3*from/7+4093, size)
		if err := sameBytes(newPattern(1, size).section(from, to), bytes.NewReader(whole[from:to])); err != nil {
			t.Errorf("bytes from %d to %d: %v", from, to, err)
		}
		from = to
	}
	if bytes.Equal(whole[:patternPage], whole[patternBlock:patternBlock+patternPage]) {
		t.Error("two blocks begin alike")
	}
	if sameBytes(newPattern(2, size), bytes.NewReader(whole)) == nil ||
		sameBytes(newPattern(1, size-1), bytes.NewReader(whole)) == nil ||
		sameBytes(newPattern(1, size), bytes.NewReader(whole[1:])) == nil {
		t.Error("a difference is not found")
	}
}

// sameBytes reads all of got and want, and says where they differ first.
func sameBytes(got, want io.Reader) error {
	a, b := make([]byte, 256<<10), make([]byte, 256<<10)
	for off := int64(0); ; {
		n, errA := io.ReadFull(got, a)
		m, errB := io.ReadFull(want, b)
		if errA != nil && errA != io.EOF && errA != io.ErrUnexpectedEOF {
			return fmt.Errorf("after %d bytes: %w", off+int64(n), errA)
		}
		if !bytes.Equal(a[:n], b[:m]) {
			return fmt.Errorf("other bytes behind byte %d: %d came, %d should", off, n, m)
		}
		if errA != nil || errB != nil {
			return nil // both ended: the lengths were the same
		}
		off += int64(n)
	}
}
