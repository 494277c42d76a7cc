package fragfile

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"ringfort/internal/blob"
	"ringfort/internal/keyhash"
	"ringfort/internal/timestamp"
	"ringfort/internal/vfs"
)

var rewrite = flag.Bool("rewrite", false, "write the samples of testdata anew")

// sample is the fragment of which every released format version keeps a file and
// a packed string in testdata.
func sample() (Header, []byte) {
	h := Header{
		Name: Name{
			Owner: keyhash.Hash{0xde, 0xad, 0xbe, 0xef, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
			Blob: blob.ID{
				Group: timestamp.T{Micros: 1_700_000_000_000_000, Logical: 1, Seq: 2, Writer: 3},
				Part:  4, Attempt: 5,
			},
			Index: 5,
		},
		K: 4, M: 2, BlockSize: 128 << 10, Policy: 9, Size: 4*40_000 - 3,
	}
	data := make([]byte, h.Layout().FragmentSize())
	for i := range data { // compresses to nothing in the repository
		data[i] = byte(i >> 8)
	}
	return h, data
}

// TestGolden opens the samples of every released version, and compares what this
// program writes with the newest.
func TestGolden(t *testing.T) {
	h, data := sample()
	s := openStore(t, vfs.Default(), filepath.Join(t.TempDir(), "frag"))
	if err := put(s, h, data, testRand(t)); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(s.path(h.Name))
	if err != nil {
		t.Fatal(err)
	}
	// The header at the front knows the size or not, as the upload did.
	file = append(h.appendTo(nil, paged, checkSizeNew), file[HeaderSize:]...)
	for name, written := range map[string][]byte{"paged": file, "packed": packedBytes(t, h, data)} {
		path := filepath.Join("testdata", "v1", name)
		if *rewrite {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, written, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		kept, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(kept, written) {
			t.Errorf("%s: the format has changed without a new version", name)
		}
		openSample(t, s, name, kept)
	}
}

func openSample(t *testing.T, s *Store, name string, kept []byte) {
	t.Helper()
	h, data := sample()
	f := packed
	if name == "paged" {
		f = paged
	}
	r, err := newReader(bytes.NewReader(kept), int64(len(kept)), f, h.Name, nil, s.scratch)
	if err != nil {
		t.Fatal(err)
	}
	checkReads(t, testRand(t), r, h, data)
	if _, err := verify(context.Background(), r, make([]byte, checkSizeNew), nil); err != nil {
		t.Error(err)
	}
	if want := "deadbeef0405060708090a0b0c0d0e0f-00060a24181e40000000000100000002000000000000000300000004" +
		"0000000000000005-05"; h.Name.String() != want {
		t.Errorf("the name has changed: %v", h.Name)
	}
	if got := h.Name.Folder(); got != 0xaa {
		t.Errorf("the folder has changed: %#x", got)
	}
}
