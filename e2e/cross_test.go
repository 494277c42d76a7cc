package e2e

import (
	"strings"
	"testing"

	"ringfort/e2e/harness"
)

// TestCrossProtocolMetadata: what one protocol says of an object, and of a bucket,
// the other one says too.
func TestCrossProtocolMetadata(t *testing.T) {
	t.Parallel()
	rig.Each(t, harness.Setups(), func(t *testing.T, s *harness.System) {
		box, s3 := s3cmd(t, s)
		swiftBox, sw := swift(t, s)
		small := box.WriteFile("small", "0123456789")
		const digest = "781e5e245d69b566979b86e28d23f2c7"

		s3("mb", "s3://cross-meta")
		s3("put", "--add-header=x-amz-meta-colour:blue", "--mime-type=text/x-cross", small, "s3://cross-meta/by s3/ü")
		stat := sw("stat", "cross-meta", "by s3/ü")
		for name, want := range map[string]string{
			"Meta Colour": "blue", "Content Type": "text/x-cross", "Content Length": "10", "ETag": digest,
		} {
			equal(t, "Swift's "+name, header(stat, name), want)
		}
		sw("download", "cross-meta", "by s3/ü", "-o", swiftBox.Path("down"))
		harness.SameFile(t, small, swiftBox.Path("down"))

		sw("upload", "--object-name", "by swift/ü", "-m", "Shape:round", "-H", "Content-Type: text/x-cross", "cross-meta", small)
		info := s3("info", "s3://cross-meta/by swift/ü")
		for _, want := range []string{"x-amz-meta-shape: round", "text/x-cross", digest} {
			if !strings.Contains(info, want) {
				t.Errorf("S3 does not tell %q:\n%s", want, info)
			}
		}
		sw("post", "cross-meta", "by swift/ü", "-m", "Taste:sweet")
		info = s3("info", "s3://cross-meta/by swift/ü")
		if !strings.Contains(info, "x-amz-meta-taste: sweet") || strings.Contains(info, "shape") {
			t.Errorf("S3 does not tell what Swift posted:\n%s", info)
		}

		equal(t, "objects counted by Swift", header(sw("stat", "cross-meta"), "Objects"), "2")
		s3("del", "s3://cross-meta/by s3/ü")
		equal(t, "listing after a DELETE", sw("list", "cross-meta"), "by swift/ü\n")
		sw("delete", "cross-meta", "by swift/ü")
		s3("rb", "s3://cross-meta")
		equal(t, "containers left", harness.Lines(sw("list"), "cross-meta"), 0)
	})
}

// TestCrossProtocolLargeObjects: what one protocol stored in parts or segments the
// other one reads whole.
func TestCrossProtocolLargeObjects(t *testing.T) {
	t.Parallel()
	rig.Each(t, harness.Setups(), func(t *testing.T, s *harness.System) {
		box, s3 := s3cmd(t, s)
		_, sw := swift(t, s)
		big := harness.BigFile(t, box.Path("big"), bigBytes)
		s3("mb", "s3://cross-large")
		s3("put", "--multipart-chunk-size-mb=5", big, "s3://cross-large/parts")
		sw("download", "cross-large", "parts", "-o", box.Path("parts"))
		harness.SameFile(t, big, box.Path("parts"))

		sw("upload", "--use-slo", "--segment-size", "5242880", "--object-name", "segments", "cross-large", big)
		s3("get", "s3://cross-large/segments", box.Path("segments"))
		harness.SameFile(t, big, box.Path("segments"))
	})
}
