package s3test

import (
	"bytes"
	"crypto/md5"
	"fmt"
	"io"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"ringfort/internal/checksum"
)

const minPart = 5 << 20

// upload is a multipart upload under way.
type multi struct {
	e    *env
	key  string
	id   *string
	done []types.CompletedPart
	size int
}

func (e *env) begin(key string, change ...func(*s3.CreateMultipartUploadInput)) *multi {
	e.t.Helper()
	in := &s3.CreateMultipartUploadInput{Bucket: aws.String(e.withBucket()), Key: &key}
	for _, c := range change {
		c(in)
	}
	out, err := e.s3.CreateMultipartUpload(ctx, in)
	e.must("CreateMultipartUpload", err)
	return &multi{e: e, key: key, id: out.UploadId}
}

// withCRC32 names the algorithm that the SDK's transfer managers name.
func withCRC32(in *s3.CreateMultipartUploadInput) { in.ChecksumAlgorithm = "CRC32" }

// beginPlain begins an upload without a checksum algorithm, as older clients do.
func (e *env) beginPlain(key string) *multi {
	e.t.Helper()
	a := e.wantAnswer("CreateMultipartUpload", call{method: "POST", path: e.object(key) + "?uploads"}, 200, "")
	_, id, _ := strings.Cut(string(a.body), "<UploadId>")
	id, _, _ = strings.Cut(id, "</UploadId>")
	return &multi{e: e, key: key, id: &id}
}

// part uploads a part and lists it for completion.
func (m *multi) part(number int, body []byte, change ...func(*s3.UploadPartInput)) *s3.UploadPartOutput {
	m.e.t.Helper()
	in := &s3.UploadPartInput{Bucket: &m.e.bucket, Key: &m.key, UploadId: m.id, PartNumber: ptr(int32(number)), Body: bytes.NewReader(body)}
	for _, c := range change {
		c(in)
	}
	out, err := m.e.s3.UploadPart(ctx, in)
	m.e.must("UploadPart", err)
	m.done = append(m.done, types.CompletedPart{
		PartNumber: ptr(int32(number)), ETag: out.ETag, ChecksumCRC32: out.ChecksumCRC32, ChecksumCRC32C: out.ChecksumCRC32C,
		ChecksumCRC64NVME: out.ChecksumCRC64NVME, ChecksumSHA1: out.ChecksumSHA1, ChecksumSHA256: out.ChecksumSHA256,
	})
	m.size += len(body)
	return out
}

func (m *multi) complete(change ...func(*s3.CompleteMultipartUploadInput)) (*s3.CompleteMultipartUploadOutput, error) {
	in := &s3.CompleteMultipartUploadInput{
		Bucket: &m.e.bucket, Key: &m.key, UploadId: m.id, MultipartUpload: &types.CompletedMultipartUpload{Parts: m.done},
	}
	for _, c := range change {
		c(in)
	}
	return m.e.s3.CompleteMultipartUpload(ctx, in)
}

func etagOfParts(parts ...[]byte) string {
	h := md5.New()
	for _, p := range parts {
		s := md5.Sum(p)
		h.Write(s[:])
	}
	return fmt.Sprintf(`"%x-%d"`, h.Sum(nil), len(parts))
}

func testMultipart(e *env) {
	b := e.withBucket()
	one, two, three := pattern(minPart, 1), pattern(minPart+12345, 2), pattern(777, 3)
	whole := bytes.Join([][]byte{one, two, three}, nil)
	m := e.begin("dir/k", func(in *s3.CreateMultipartUploadInput) {
		in.ContentType, in.Metadata, in.Tagging = aws.String("text/parts"), map[string]string{"color": "green"}, aws.String("a=b")
	})
	e.wantGone("dir/k")
	m.part(7, []byte("overwritten later"))
	m.done = nil
	m.part(2, one)
	m.part(7, two)
	m.part(10000, three)
	out, err := m.complete()
	e.must("CompleteMultipartUpload", err)
	want := etagOfParts(one, two, three)
	equal(e, "ETag", *out.ETag, want)
	equal(e, "key", *out.Key, "dir/k")
	if !strings.HasSuffix(value(out.Location), "/dir/k") {
		e.t.Errorf("location %q", value(out.Location))
	}
	again, err := m.complete()
	e.must("CompleteMultipartUpload again", err)
	equal(e, "its ETag", *again.ETag, want)
	got, get := e.get("dir/k")
	if !bytes.Equal(got, whole) {
		e.t.Fatal("the object is not its parts")
	}
	equal(e, "ETag", *get.ETag, want)
	equal(e, "type", *get.ContentType, "text/parts")
	equal(e, "metadata", get.Metadata["color"], "green")
	equal(e, "tags", value(get.TagCount), 1)
	off := 0
	for i, p := range [][]byte{one, two, three} {
		n := []int32{2, 7, 10000}[i]
		out, err := e.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: &b, Key: aws.String("dir/k"), PartNumber: &n})
		e.must("GetObject of a part", err)
		got, err := io.ReadAll(out.Body)
		out.Body.Close()
		if err != nil || !bytes.Equal(got, p) || value(out.PartsCount) != 3 {
			e.t.Errorf("part %d: %d bytes, %v, %v parts", n, len(got), err, value(out.PartsCount))
		}
		equal(e, "range of it", *out.ContentRange, fmt.Sprintf("bytes %d-%d/%d", off, off+len(p)-1, len(whole)))
		off += len(p)
		h, err := e.s3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b, Key: aws.String("dir/k"), PartNumber: &n})
		e.must("HeadObject of a part", err)
		equal(e, "length", *h.ContentLength, int64(len(p)))
	}
	_, err = e.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: &b, Key: aws.String("dir/k"), PartNumber: ptr[int32](3)})
	e.wantCode("a part that is not there", err, "InvalidPartNumber")
	for _, r := range [][2]int{{0, 1}, {minPart - 1, minPart + 1}, {minPart + 100, 2*minPart + 12345 + 5}, {len(whole) - 778, len(whole)}, {1, len(whole) - 1}} {
		a := e.do(call{method: "GET", path: e.object("dir/k"), header: map[string]string{"Range": fmt.Sprintf("bytes=%d-%d", r[0], r[1]-1)}})
		if a.status != 206 || !bytes.Equal(a.body, whole[r[0]:r[1]]) {
			e.t.Errorf("range %v: %d with %d bytes", r, a.status, len(a.body))
		}
	}
	list, err := e.s3.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &b})
	e.must("ListObjectsV2", err)
	if len(list.Contents) != 1 || *list.Contents[0].Size != int64(len(whole)) || *list.Contents[0].ETag != want {
		e.t.Errorf("listed: %+v", list.Contents)
	}
	// The upload is gone.
	_, err = e.s3.UploadPart(ctx, &s3.UploadPartInput{Bucket: &b, Key: &m.key, UploadId: m.id, PartNumber: ptr[int32](1), Body: strings.NewReader("x")})
	e.wantCode("UploadPart of a finished upload", err, "NoSuchUpload")
	_, err = e.s3.ListParts(ctx, &s3.ListPartsInput{Bucket: &b, Key: &m.key, UploadId: m.id})
	e.wantCode("ListParts of a finished upload", err, "NoSuchUpload")
	_, err = e.s3.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &b, Key: &m.key, UploadId: m.id})
	e.wantCode("AbortMultipartUpload of a finished upload", err, "NoSuchUpload")
	// A part of no bytes, alone.
	m = e.begin("empty")
	m.part(1, nil)
	_, err = m.complete()
	e.must("CompleteMultipartUpload of nothing", err)
	e.wantBody("empty", nil)
}

// testMultipartChecksums uploads with every algorithm and type.
func testMultipartChecksums(e *env) {
	b := e.withBucket()
	one, two := pattern(minPart, 11), pattern(1000, 12)
	whole := append(bytes.Clone(one), two...)
	for _, a := range checksum.All() {
		for _, typ := range []checksum.Type{checksum.TypeComposite, checksum.TypeFullObject} {
			if !a.Allows(typ) {
				c := call{method: "POST", path: e.object("k") + "?uploads", header: map[string]string{"x-amz-checksum-algorithm": a.String(), "x-amz-checksum-type": typ.String()}}
				e.wantAnswer(a.String()+" "+typ.String(), c, 400, "InvalidRequest")
				continue
			}
			key := a.String() + typ.String()
			m := e.begin(key, func(in *s3.CreateMultipartUploadInput) {
				in.ChecksumAlgorithm, in.ChecksumType = types.ChecksumAlgorithm(a.String()), types.ChecksumType(typ.String())
			})
			alg := func(in *s3.UploadPartInput) { in.ChecksumAlgorithm = types.ChecksumAlgorithm(a.String()) }
			m.part(1, one, alg)
			m.part(2, two, alg)
			var want checksum.Sum
			parts := []checksum.Part{{Sum: checksum.Of(a, one), LengthBytes: int64(len(one))}, {Sum: checksum.Of(a, two), LengthBytes: int64(len(two))}}
			want, err := checksum.OfParts(a, typ, parts)
			e.must("OfParts", err)
			if typ == checksum.TypeFullObject {
				equal(e, "the sum of the parts", want, checksum.Of(a, whole))
			}
			out, err := m.complete()
			e.must("CompleteMultipartUpload "+key, err)
			got := sums(out.ChecksumCRC32, out.ChecksumCRC32C, out.ChecksumCRC64NVME, out.ChecksumSHA1, out.ChecksumSHA256)
			wantSum(e, "completed "+key, got, a, want.String())
			equal(e, "type", string(out.ChecksumType), typ.String())
			got, gotType := e.headSum(key)
			wantSum(e, "HEAD "+key, got, a, want.String())
			equal(e, "type", string(gotType), typ.String())
			// The SDK verifies what it reads where it can.
			g, err := e.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: &b, Key: &key, ChecksumMode: types.ChecksumModeEnabled})
			e.must("GetObject", err)
			n, err := io.Copy(io.Discard, g.Body)
			g.Body.Close()
			if err != nil || n != int64(len(whole)) {
				e.t.Errorf("%s: %d bytes, %v", key, n, err)
			}
			g, err = e.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: &b, Key: &key, ChecksumMode: types.ChecksumModeEnabled, PartNumber: ptr[int32](2)})
			e.must("GetObject of a part", err)
			_, err = io.Copy(io.Discard, g.Body)
			g.Body.Close()
			e.must("reading a part", err)
			l, err := e.s3.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &b, Prefix: &key})
			e.must("ListObjectsV2", err)
			equal(e, "type listed", string(l.Contents[0].ChecksumType), typ.String())
		}
	}
	// Parts listed by their ETags alone, as older clients do.
	m := e.begin("unlisted", withCRC32)
	m.part(1, one)
	m.part(2, two)
	for i := range m.done {
		m.done[i] = types.CompletedPart{PartNumber: m.done[i].PartNumber, ETag: m.done[i].ETag}
	}
	out, err := m.complete()
	e.must("CompleteMultipartUpload without checksums", err)
	if value(out.ChecksumCRC32) == "" {
		e.t.Errorf("no checksum in %+v", out)
	}
	// As the SDK does by default: the upload names no algorithm, its parts do.
	m = e.begin("default")
	m.part(1, one)
	m.part(2, two)
	out, err = m.complete()
	e.must("CompleteMultipartUpload of an upload that named no algorithm", err)
	equal(e, "computed", value(out.ChecksumCRC64NVME), checksum.Of(checksum.CRC64NVME, whole).String())
	e.wantBody("default", whole)
	// And without any checksum at all.
	m = e.beginPlain("plain")
	for i, p := range [][]byte{one, two} {
		a := e.wantAnswer("UploadPart", call{method: "PUT", path: fmt.Sprintf("%s?partNumber=%d&uploadId=%s", e.object("plain"), i+1, *m.id), body: p}, 200, "")
		m.done = append(m.done, types.CompletedPart{PartNumber: ptr(int32(i + 1)), ETag: aws.String(a.header.Get("Etag"))})
	}
	_, err = m.complete()
	e.must("CompleteMultipartUpload", err)
	got, _ := e.headSum("plain")
	wantSum(e, "HEAD", got, checksum.CRC64NVME, checksum.Of(checksum.CRC64NVME, whole).String())

}

func testMultipartWrongChecksums(e *env) {
	e.withBucket()
	two := pattern(1000, 12)
	m := e.begin("bad", func(in *s3.CreateMultipartUploadInput) {
		in.ChecksumAlgorithm, in.ChecksumType = "CRC32C", "FULL_OBJECT"
	})
	path := fmt.Sprintf("%s?partNumber=1&uploadId=%s", e.object("bad"), *m.id)
	e.wantAnswer("another algorithm", call{method: "PUT", path: path, body: two, header: map[string]string{"x-amz-checksum-sha1": checksum.Of(checksum.SHA1, two).String()}}, 400, "InvalidRequest")
	e.wantAnswer("a wrong checksum", call{method: "PUT", path: path, body: two, header: map[string]string{"x-amz-checksum-crc32c": "AAAAAA=="}}, 400, "BadDigest")
	m.part(1, two, func(in *s3.UploadPartInput) { in.ChecksumAlgorithm = "CRC32C" })
	right := m.done[0].ChecksumCRC32C
	m.done[0].ChecksumCRC32C = aws.String("AAAAAA==")
	_, err := m.complete()
	e.wantCode("a wrong checksum of a part", err, "InvalidPart")
	m.done[0].ChecksumCRC32C = right
	_, err = m.complete(func(in *s3.CompleteMultipartUploadInput) { in.ChecksumCRC32C = aws.String("AAAAAA==") })
	e.wantCode("a wrong checksum of the whole", err, "BadDigest")
	_, err = m.complete(func(in *s3.CompleteMultipartUploadInput) { in.ChecksumType = "COMPOSITE" })
	e.wantCode("another type", err, "InvalidRequest")
	_, err = m.complete(func(in *s3.CompleteMultipartUploadInput) { in.MpuObjectSize = ptr[int64](5) })
	e.wantCode("another size", err, "InvalidRequest")
	e.wantGone("bad")
	_, err = m.complete(func(in *s3.CompleteMultipartUploadInput) {
		in.ChecksumCRC32C, in.ChecksumType, in.MpuObjectSize = aws.String(checksum.Of(checksum.CRC32C, two).String()), "FULL_OBJECT", ptr(int64(len(two)))
	})
	e.must("CompleteMultipartUpload with everything right", err)
}

func testMultipartBad(e *env) {
	b := e.withBucket()
	m := e.begin("k")
	small, big := []byte("small"), pattern(minPart, 4)
	m.part(1, small)
	m.part(2, big)
	m.part(3, small)
	done := m.done
	try := func(what, want string, parts ...types.CompletedPart) {
		e.t.Helper()
		m.done = parts
		_, err := m.complete()
		e.wantCode(what, err, want)
	}
	try("a small part that is not the last", "EntityTooSmall", done...)
	try("parts out of order", "InvalidPartOrder", done[1], done[0])
	try("a part twice", "InvalidPartOrder", done[1], done[1])
	try("a part that was not uploaded", "InvalidPart", done[1], types.CompletedPart{PartNumber: ptr[int32](9), ETag: done[0].ETag})
	try("a wrong ETag", "InvalidPart", types.CompletedPart{PartNumber: ptr[int32](2), ETag: done[0].ETag})
	try("no parts", "MalformedXML")
	try("part 10001", "InvalidArgument", types.CompletedPart{PartNumber: ptr[int32](10001), ETag: done[0].ETag})
	e.wantGone("k")
	// The upload is as it was.
	try("the right ones", "", done[1], done[2])
	e.wantBody("k", append(bytes.Clone(big), small...))

	for what, id := range map[string]string{"an unknown id": strings.Repeat("0", 47) + "7", "no id": "nonsense", "an empty id": ""} {
		q := "&uploadId=" + id
		e.wantAnswer(what+": UploadPart", call{method: "PUT", path: e.object("k") + "?partNumber=1" + q, body: small}, 404, "NoSuchUpload")
		e.wantAnswer(what+": ListParts", call{method: "GET", path: e.object("k") + "?x=y" + q}, 404, "NoSuchUpload")
		e.wantAnswer(what+": Complete", call{method: "POST", path: e.object("k") + "?x=y" + q, body: []byte("<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>x</ETag></Part></CompleteMultipartUpload>")}, 404, "NoSuchUpload")
		e.wantAnswer(what+": Abort", call{method: "DELETE", path: e.object("k") + "?x=y" + q}, 404, "NoSuchUpload")
	}
	m = e.begin("k2")
	for _, n := range []string{"0", "10001", "-1", "x", ""} {
		e.wantAnswer("part number "+n, call{method: "PUT", path: e.object("k2") + "?uploadId=" + *m.id + "&partNumber=" + n, body: small}, 400, "InvalidArgument")
	}
	e.wantAnswer("another key's upload", call{method: "PUT", path: e.object("k3") + "?partNumber=1&uploadId=" + *m.id, body: small}, 404, "NoSuchUpload")
	e.wantAnswer("no XML", call{method: "POST", path: e.object("k2") + "?uploadId=" + *m.id, body: []byte("hello")}, 400, "MalformedXML")
	e.wantTooLarge(call{method: "PUT", path: e.object("k2") + "?partNumber=1&uploadId=" + *m.id, payload: "UNSIGNED-PAYLOAD"})
	_, err := e.s3.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &b, Key: &m.key, UploadId: m.id})
	e.must("AbortMultipartUpload", err)
	m.part0(small, "NoSuchUpload")
	_, err = m.complete(func(in *s3.CompleteMultipartUploadInput) { in.MultipartUpload.Parts = done[:1] })
	e.wantCode("Complete of an aborted upload", err, "NoSuchUpload")
	e.wantGone("k2")
}

// part0 uploads a part that must be refused.
func (m *multi) part0(body []byte, want string) {
	m.e.t.Helper()
	_, err := m.e.s3.UploadPart(ctx, &s3.UploadPartInput{Bucket: &m.e.bucket, Key: &m.key, UploadId: m.id, PartNumber: ptr[int32](1), Body: bytes.NewReader(body)})
	m.e.wantCode("UploadPart", err, want)
}

func testMultipartConditions(e *env) {
	e.withBucket()
	e.put("k", []byte("here already"))
	m := e.begin("k")
	m.part(1, []byte("parts"))
	_, err := m.complete(func(in *s3.CompleteMultipartUploadInput) { in.IfNoneMatch = aws.String("*") })
	e.wantCode("If-None-Match: *", err, "PreconditionFailed")
	_, err = m.complete(func(in *s3.CompleteMultipartUploadInput) { in.IfMatch = aws.String(`"x"`) })
	e.wantCode("If-Match of another", err, "PreconditionFailed")
	e.wantBody("k", []byte("here already"))
	_, err = m.complete(func(in *s3.CompleteMultipartUploadInput) {
		in.IfMatch = aws.String(`"` + md5Hex([]byte("here already")) + `"`)
	})
	e.must("If-Match", err)
	e.wantBody("k", []byte("parts"))
}

func testUploadPartCopy(e *env) {
	b := e.withBucket()
	src := pattern(2*minPart+100, 21)
	e.put("src", src)
	m := e.begin("k")
	add := func(n int, span *string) {
		e.t.Helper()
		out, err := e.s3.UploadPartCopy(ctx, &s3.UploadPartCopyInput{
			Bucket: &b, Key: &m.key, UploadId: m.id, PartNumber: ptr(int32(n)), CopySource: aws.String(b + "/src"), CopySourceRange: span,
		})
		e.must("UploadPartCopy", err)
		r := out.CopyPartResult
		m.done = append(m.done, types.CompletedPart{PartNumber: ptr(int32(n)), ETag: r.ETag, ChecksumCRC32: r.ChecksumCRC32})
	}
	add(1, aws.String(fmt.Sprintf("bytes=0-%d", minPart-1)))
	add(2, aws.String(fmt.Sprintf("bytes=%d-%d", minPart, 2*minPart-1)))
	add(3, nil)
	out, err := m.complete()
	e.must("CompleteMultipartUpload", err)
	equal(e, "ETag", *out.ETag, etagOfParts(src[:minPart], src[minPart:2*minPart], src))
	e.wantBody("k", append(bytes.Clone(src[:2*minPart]), src...))

	m = e.begin("k2")
	for span, want := range map[string]string{
		"bytes=0-99999999": "InvalidArgument", "bytes=5-2": "InvalidArgument", "bytes=0-": "InvalidArgument", "bytes=-5": "InvalidArgument", "0-5": "InvalidArgument",
	} {
		_, err := e.s3.UploadPartCopy(ctx, &s3.UploadPartCopyInput{Bucket: &b, Key: &m.key, UploadId: m.id, PartNumber: ptr[int32](1), CopySource: aws.String(b + "/src"), CopySourceRange: &span})
		e.wantCode("range "+span, err, want)
	}
	for _, c := range []struct {
		in   s3.UploadPartCopyInput
		want string
	}{
		{s3.UploadPartCopyInput{CopySource: aws.String(b + "/none")}, "NoSuchKey"},
		{s3.UploadPartCopyInput{CopySource: aws.String(newName() + "/none")}, "NoSuchBucket"},
		{s3.UploadPartCopyInput{CopySource: aws.String(b + "/src"), CopySourceIfMatch: aws.String(`"x"`)}, "PreconditionFailed"},
		{s3.UploadPartCopyInput{CopySource: aws.String(b + "/src"), CopySourceIfNoneMatch: aws.String("*")}, "PreconditionFailed"},
	} {
		c.in.Bucket, c.in.Key, c.in.UploadId, c.in.PartNumber = &b, &m.key, m.id, ptr[int32](1)
		_, err := e.s3.UploadPartCopy(ctx, &c.in)
		e.wantCode("UploadPartCopy", err, c.want)
	}
}

func testListParts(e *env) {
	b := e.withBucket()
	m := e.begin("k", withCRC32)
	for n := 1; n <= 5; n++ {
		m.part(n*3, []byte(strings.Repeat("x", n)))
	}
	var got []string
	var marker *string
	for {
		out, err := e.s3.ListParts(ctx, &s3.ListPartsInput{Bucket: &b, Key: &m.key, UploadId: m.id, MaxParts: ptr[int32](2), PartNumberMarker: marker})
		e.must("ListParts", err)
		for _, p := range out.Parts {
			got = append(got, fmt.Sprintf("%d:%d", *p.PartNumber, *p.Size))
			equal(e, "ETag", *p.ETag, `"`+md5Hex([]byte(strings.Repeat("x", int(*p.Size))))+`"`)
			if value(p.ChecksumCRC32) == "" || p.LastModified == nil {
				e.t.Errorf("a part is listed as %+v", p)
			}
		}
		if out.StorageClass != "STANDARD" || value(out.Owner).ID == nil || value(out.Initiator).ID == nil || out.ChecksumAlgorithm != "CRC32" {
			e.t.Errorf("%+v", out)
		}
		if !*out.IsTruncated {
			break
		}
		marker = out.NextPartNumberMarker
	}
	equal(e, "parts", strings.Join(got, " "), "3:1 6:2 9:3 12:4 15:5")
	for _, q := range []string{"max-parts=-1", "max-parts=x", "part-number-marker=x"} {
		e.wantAnswer(q, call{method: "GET", path: e.object("k") + "?uploadId=" + *m.id + "&" + q}, 400, "InvalidArgument")
	}
}

func testListUploads(e *env) {
	b := e.withBucket()
	var want []string
	for _, k := range []string{"a", "a", "b/1", "b/2", "c&d", "ü"} {
		m := e.begin(k, withCRC32)
		want = append(want, k)
		m.part(1, []byte("x"))
	}
	var got []string
	in := &s3.ListMultipartUploadsInput{Bucket: &b, MaxUploads: ptr[int32](1)}
	seen := make(map[string]bool)
	for range 10 {
		out, err := e.s3.ListMultipartUploads(ctx, in)
		e.must("ListMultipartUploads", err)
		for _, u := range out.Uploads {
			if seen[*u.UploadId] {
				e.t.Errorf("upload %s is listed twice", *u.UploadId)
			}
			seen[*u.UploadId] = true
			got = append(got, *u.Key)
			if u.Initiated == nil || u.Owner == nil || u.ChecksumAlgorithm != "CRC32" {
				e.t.Errorf("listed: %+v", u)
			}
		}
		if !*out.IsTruncated {
			break
		}
		in.KeyMarker, in.UploadIdMarker = out.NextKeyMarker, out.NextUploadIdMarker
	}
	equal(e, "uploads by pages", strings.Join(got, " "), strings.Join(want, " "))
	out, err := e.s3.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: &b, Delimiter: aws.String("/")})
	e.must("ListMultipartUploads", err)
	equal(e, "uploads beside prefixes", len(out.Uploads), 4)
	equal(e, "prefixes", strings.Join(prefixesOf(out.CommonPrefixes), " "), "b/")
	out, err = e.s3.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: &b, Prefix: aws.String("b/")})
	e.must("ListMultipartUploads", err)
	equal(e, "uploads with a prefix", len(out.Uploads), 2)
	out, err = e.s3.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: &b, KeyMarker: aws.String("a")})
	e.must("ListMultipartUploads", err)
	equal(e, "uploads behind a key", len(out.Uploads), 4)
	list, err := e.s3.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &b})
	e.must("ListObjectsV2", err)
	equal(e, "objects", len(list.Contents), 0)
}

func testAttributes(e *env) {
	b := e.withBucket()
	all := []types.ObjectAttributes{"ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"}
	body := []byte("attributes")
	e.put("k", body)
	out, err := e.s3.GetObjectAttributes(ctx, &s3.GetObjectAttributesInput{Bucket: &b, Key: aws.String("k"), ObjectAttributes: all})
	e.must("GetObjectAttributes", err)
	if *out.ETag != md5Hex(body) || *out.ObjectSize != 10 || out.StorageClass != "STANDARD" || out.ObjectParts != nil || value(out.Checksum.ChecksumCRC32) != checksum.Of(checksum.CRC32, body).String() || out.LastModified == nil {
		e.t.Errorf("%+v %+v", out, out.Checksum)
	}
	out, err = e.s3.GetObjectAttributes(ctx, &s3.GetObjectAttributesInput{Bucket: &b, Key: aws.String("k"), ObjectAttributes: all[4:]})
	e.must("GetObjectAttributes", err)
	if out.ETag != nil || out.Checksum != nil || *out.ObjectSize != 10 {
		e.t.Errorf("%+v", out)
	}
	m := e.begin("mp", withCRC32)
	one, two := pattern(minPart, 1), []byte("two")
	m.part(1, one)
	m.part(5, two)
	_, err = m.complete()
	e.must("CompleteMultipartUpload", err)
	out, err = e.s3.GetObjectAttributes(ctx, &s3.GetObjectAttributesInput{Bucket: &b, Key: aws.String("mp"), ObjectAttributes: all, MaxParts: ptr[int32](1)})
	e.must("GetObjectAttributes", err)
	p := out.ObjectParts
	if p == nil || *p.TotalPartsCount != 2 || !*p.IsTruncated || len(p.Parts) != 1 || *p.Parts[0].Size != minPart || value(p.Parts[0].ChecksumCRC32) != checksum.Of(checksum.CRC32, one).String() {
		e.t.Fatalf("%+v", p)
	}
	out, err = e.s3.GetObjectAttributes(ctx, &s3.GetObjectAttributesInput{Bucket: &b, Key: aws.String("mp"), ObjectAttributes: all, PartNumberMarker: p.NextPartNumberMarker})
	e.must("GetObjectAttributes", err)
	if p = out.ObjectParts; len(p.Parts) != 1 || *p.Parts[0].PartNumber != 5 || *p.IsTruncated {
		e.t.Errorf("%+v", p)
	}
	_, err = e.s3.GetObjectAttributes(ctx, &s3.GetObjectAttributesInput{Bucket: &b, Key: aws.String("none"), ObjectAttributes: all})
	e.wantCode("GetObjectAttributes of nothing", err, "NoSuchKey")
	e.wantAnswer("no attributes", call{method: "GET", path: e.object("k") + "?attributes"}, 400, "InvalidRequest")
	e.wantAnswer("an unknown attribute", call{method: "GET", path: e.object("k") + "?attributes", header: map[string]string{"x-amz-object-attributes": "Colour"}}, 400, "InvalidArgument")
}
