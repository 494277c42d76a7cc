package s3test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

func testObjects(e *env) {
	b := e.withBucket()
	for _, n := range []int{1, 4096, 65535, 65536, 65537, 300_000, 3 << 20} {
		key := fmt.Sprintf("sizes/%d", n)
		body := pattern(n, uint64(n))
		put := e.put(key, body)
		equal(e, "ETag", *put.ETag, `"`+md5Hex(body)+`"`)
		got, out := e.get(key)
		if !bytes.Equal(got, body) {
			e.t.Errorf("%s reads back wrong", key)
		}
		equal(e, "ETag", *out.ETag, *put.ETag)
		equal(e, "length", *out.ContentLength, int64(n))
		equal(e, "content type", value(out.AcceptRanges), "bytes")
		if d := time.Since(*out.LastModified); d < -time.Minute || d > 5*time.Minute {
			e.t.Errorf("Last-Modified %v", out.LastModified)
		}
		head, err := e.s3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b, Key: &key})
		e.must("HeadObject", err)
		equal(e, "HEAD length", *head.ContentLength, int64(n))
		equal(e, "HEAD ETag", *head.ETag, *put.ETag)
		equal(e, "HEAD Last-Modified", *head.LastModified, *out.LastModified)
	}
	// Overwriting replaces bytes and metadata.
	e.put("k", []byte("first"))
	e.put("k", []byte("second one"))
	e.wantBody("k", []byte("second one"))
	for range 2 { // deleting what is gone is no error
		_, err := e.s3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b, Key: aws.String("k")})
		e.must("DeleteObject", err)
	}
	e.wantGone("k")
	_, err := e.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: &b, Key: aws.String("k")})
	e.wantCode("GetObject of nothing", err, "NoSuchKey")
	a := e.wantAnswer("GET of nothing", call{method: "GET", path: e.object("no/such key")}, 404, "NoSuchKey")
	if !strings.Contains(string(a.body), "<Key>no/such key</Key>") || a.header.Get("X-Amz-Request-Id") == "" || !strings.Contains(string(a.body), a.header.Get("X-Amz-Request-Id")) {
		e.t.Errorf("the error says %s", a.body)
	}
	h := e.do(call{method: "HEAD", path: e.object("nothing")})
	equal(e, "HEAD of nothing", h.status, 404)
	equal(e, "bytes of its body", len(h.body), 0)
}

func testMetadata(e *env) {
	b := e.withBucket()
	in := &s3.PutObjectInput{
		Bucket: &b, Key: aws.String("k"), Body: strings.NewReader("x"),
		ContentType: aws.String("text/plain; charset=utf-8"), CacheControl: aws.String("max-age=60"),
		ContentDisposition: aws.String(`attachment; filename="a b.txt"`), ContentEncoding: aws.String("gzip"),
		ContentLanguage: aws.String("de"), Expires: ptr(time.Date(2040, 1, 2, 3, 4, 5, 0, time.UTC)),
		Metadata:     map[string]string{"Color": "blue", "empty": "", "with-dashes": "a, b; c"},
		StorageClass: types.StorageClassStandard, ACL: types.ObjectCannedACLPrivate,
		Tagging: aws.String("a=1&b=%2B"),
	}
	_, err := e.s3.PutObject(ctx, in)
	e.must("PutObject", err)
	_, out := e.get("k")
	head, err := e.s3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b, Key: aws.String("k")})
	e.must("HeadObject", err)
	for _, g := range []*s3.GetObjectOutput{out, {
		ContentType: head.ContentType, CacheControl: head.CacheControl, ContentDisposition: head.ContentDisposition,
		ContentEncoding: head.ContentEncoding, ContentLanguage: head.ContentLanguage, ExpiresString: head.ExpiresString,
		Metadata: head.Metadata, TagCount: head.TagCount, StorageClass: head.StorageClass,
	}} {
		equal(e, "Content-Type", value(g.ContentType), *in.ContentType)
		equal(e, "Cache-Control", value(g.CacheControl), *in.CacheControl)
		equal(e, "Content-Disposition", value(g.ContentDisposition), *in.ContentDisposition)
		equal(e, "Content-Encoding", value(g.ContentEncoding), "gzip")
		equal(e, "Content-Language", value(g.ContentLanguage), "de")
		equal(e, "Expires", value(g.ExpiresString), "Mon, 02 Jan 2040 03:04:05 GMT")
		equal(e, "metadata", fmt.Sprint(g.Metadata), fmt.Sprint(map[string]string{"color": "blue", "empty": "", "with-dashes": "a, b; c"}))
		equal(e, "tags", value(g.TagCount), 2)
		equal(e, "storage class", g.StorageClass, "")
	}
	e.put("plain", []byte("x"))
	_, out = e.get("plain")
	if ct := value(out.ContentType); ct != "binary/octet-stream" && ct != "application/octet-stream" {
		e.t.Errorf("default content type %q", ct)
	}
	equal(e, "metadata of none", len(out.Metadata), 0)
	big := strings.Repeat("v", 2048-len("name"))
	_, err = e.s3.PutObject(ctx, &s3.PutObjectInput{Bucket: &b, Key: aws.String("big"), Body: strings.NewReader("x"), Metadata: map[string]string{"name": big}})
	e.must("PutObject with 2 KiB of metadata", err)
	_, out = e.get("big")
	equal(e, "2 KiB of metadata", out.Metadata["name"], big)
	_, err = e.s3.PutObject(ctx, &s3.PutObjectInput{Bucket: &b, Key: aws.String("big2"), Body: strings.NewReader("x"), Metadata: map[string]string{"name": big + "x"}})
	e.wantCode("PutObject with more", err, "MetadataTooLarge")
	e.wantGone("big2")
}

func testZeroLength(e *env) {
	b := e.withBucket()
	put := e.put("empty", nil)
	equal(e, "ETag of nothing", *put.ETag, `"d41d8cd98f00b204e9800998ecf8427e"`)
	e.put("folder/", nil)
	got, out := e.get("empty")
	equal(e, "bytes", len(got), 0)
	equal(e, "length", *out.ContentLength, 0)
	_, err := e.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: &b, Key: aws.String("empty"), Range: aws.String("bytes=0-")})
	e.wantCode("a range of nothing", err, "InvalidRange")
	list, err := e.s3.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &b})
	e.must("ListObjectsV2", err)
	equal(e, "objects", len(list.Contents), 2)
}

// oddKeys are names that clients are allowed to use and that servers get wrong.
var oddKeys = []string{
	"simple", "with space", "a+b", "a%2Fb", "a%b", "100%", "//", "/leading", "trailing/", "a//b", "a///b", ".", "..", "./a", "../a", "a/../b", "a/./b",
	"ünïcödé", "日本語/ключ", "emoji-😀", "e\u0301 and é", "quote\"'`", "<&>", "semi;colon", "a=b&c=d", "ques?tion", "hash#tag", "back\\slash",
	"tilde~", "(paren)", "[brackets]", "{braces}", "star*", "pipe|", "at@colon:", "comma,dollar$", "new\nline", "tab\tkey", "\u0001ctrl\u001f", "\u007f", "\u0085\u2028",
	"\ufffd", strings.Repeat("k", 1024), strings.Repeat("ü", 512), strings.Repeat("a/", 512), "versionId=1", "?uploads", "bucket/../../etc/passwd",
}

func testKeys(e *env) {
	b := e.withBucket()
	for i, key := range oddKeys {
		body := []byte(fmt.Sprintf("body %d", i))
		if _, err := e.s3.PutObject(ctx, &s3.PutObjectInput{Bucket: &b, Key: &key, Body: bytes.NewReader(body)}); err != nil {
			e.t.Errorf("PutObject %q: %v", key, err)
			continue
		}
		e.wantBody(key, body)
	}
	// All of them are listed, in byte order, without encoding where XML can and
	// with it everywhere.
	var got []string
	a := e.do(call{method: "GET", path: "/" + b + "?list-type=2&encoding-type=url"})
	for part := range strings.SplitSeq(string(a.body), "<Key>") {
		name, _, ok := strings.Cut(part, "</Key>")
		if !ok {
			continue
		}
		name, err := url.QueryUnescape(name)
		e.must("decoding a key", err)
		got = append(got, name)
	}
	equal(e, "keys listed", len(got), len(oddKeys))
	have := make(map[string]bool)
	for i, k := range got {
		have[k] = true
		if i > 0 && got[i-1] >= k {
			e.t.Errorf("%q is listed behind %q", k, got[i-1])
		}
	}
	for _, k := range oddKeys {
		if !have[k] {
			e.t.Errorf("%q is not listed", k)
		}
		_, err := e.s3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b, Key: &k})
		e.must("DeleteObject", err)
		e.wantGone(k)
	}
	// What no client of ours would send must be sent by hand.
	e.wantAnswer("a NUL", call{method: "PUT", path: "/" + b + "/a%00b", body: []byte("x")}, 400, "InvalidArgument")
	e.wantAnswer("bytes that are no UTF-8", call{method: "PUT", path: "/" + b + "/a%FFb", body: []byte("x")}, 400, "InvalidURI")
	e.wantAnswer("1025 bytes", call{method: "PUT", path: "/" + b + "/" + strings.Repeat("k", 1025), body: []byte("x")}, 400, "KeyTooLongError")
	e.wantAnswer("1025 bytes of unicode", call{method: "GET", path: "/" + b + "/k" + strings.Repeat("%C3%BC", 512)}, 400, "KeyTooLongError")
}

func testRanges(e *env) {
	b := e.withBucket()
	body := pattern(200_000, 1)
	e.put("k", body)
	size := len(body)
	for _, c := range []struct {
		header   string
		from, to int // -1: the whole object with 200; -2: 416
	}{
		{"bytes=0-0", 0, 1}, {"bytes=0-99", 0, 100}, {"bytes=100-199", 100, 200}, {"bytes=199999-199999", 199999, 200000},
		{"bytes=0-", 0, size}, {"bytes=1-", 1, size}, {"bytes=-1", size - 1, size}, {"bytes=-500", size - 500, size},
		{"bytes=-999999", 0, size}, {"bytes=65530-65550", 65530, 65551}, {"bytes=199990-999999999", 199990, size},
		{"bytes=0-99999999999999999999999", 0, size}, {"Bytes=1-2", 1, 3},
		{"bytes=200000-", -2, 0}, {"bytes=200000-200001", -2, 0}, {"bytes=-0", -2, 0}, {"bytes=99999999999999999999-", -2, 0},
		{"bytes=5-2", -1, 0}, {"bytes=a-b", -1, 0}, {"bytes=", -1, 0}, {"bytes=-", -1, 0}, {"lines=0-1", -1, 0},
		{"bytes=0-1,5-6", -1, 0}, {"0-1", -1, 0}, {"bytes=+1-2", -1, 0},
	} {
		a := e.do(call{method: "GET", path: e.object("k"), header: map[string]string{"Range": c.header}})
		h := e.do(call{method: "HEAD", path: e.object("k"), header: map[string]string{"Range": c.header}})
		equal(e, "HEAD's status for "+c.header, h.status, a.status)
		switch c.from {
		case -2:
			if a.status != 416 || a.code != "InvalidRange" {
				e.t.Errorf("%s: %d %s", c.header, a.status, a.code)
			}
		case -1:
			if a.status != 200 || !bytes.Equal(a.body, body) {
				e.t.Errorf("%s: %d with %d bytes, want the whole object", c.header, a.status, len(a.body))
			}
		default:
			want := fmt.Sprintf("bytes %d-%d/%d", c.from, c.to-1, size)
			if a.status != 206 || !bytes.Equal(a.body, body[c.from:c.to]) || a.header.Get("Content-Range") != want {
				e.t.Errorf("%s: %d, %s, %d bytes; want %s", c.header, a.status, a.header.Get("Content-Range"), len(a.body), want)
			}
			equal(e, "HEAD's length", h.header.Get("Content-Length"), fmt.Sprint(c.to-c.from))
		}
	}
	etag := `"` + md5Hex(body) + `"`
	for ifRange, status := range map[string]int{etag: 206, `"other"`: 200, "Mon, 02 Jan 2006 15:04:05 GMT": 200} {
		a := e.do(call{method: "GET", path: e.object("k"), header: map[string]string{"Range": "bytes=0-9", "If-Range": ifRange}})
		equal(e, "If-Range "+ifRange, a.status, status)
	}
	// An object in one piece is its own part 1.
	out, err := e.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: &b, Key: aws.String("k"), PartNumber: ptr[int32](1)})
	e.must("GetObject of part 1", err)
	got, _ := io.ReadAll(out.Body)
	out.Body.Close()
	if !bytes.Equal(got, body) || out.PartsCount != nil {
		e.t.Errorf("part 1: %d bytes, %v parts", len(got), out.PartsCount)
	}
	_, err = e.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: &b, Key: aws.String("k"), PartNumber: ptr[int32](2)})
	e.wantCode("GetObject of part 2", err, "InvalidPartNumber")
	e.wantAnswer("part 0", call{method: "GET", path: e.object("k") + "?partNumber=0"}, 400, "InvalidArgument")
	e.wantAnswer("part and range", call{method: "GET", path: e.object("k") + "?partNumber=1", header: map[string]string{"Range": "bytes=0-1"}}, 400, "InvalidRequest")
}

func testReadConditions(e *env) {
	e.withBucket()
	e.put("k", []byte("content"))
	_, out := e.get("k")
	etag, modified := *out.ETag, *out.LastModified
	bare := strings.Trim(etag, `"`)
	before, after := modified.Add(-time.Hour).Format(http.TimeFormat), modified.Add(time.Hour).Format(http.TimeFormat)
	same := modified.Format(http.TimeFormat)
	for _, c := range []struct {
		header map[string]string
		status int
	}{
		{map[string]string{"If-Match": etag}, 200}, {map[string]string{"If-Match": bare}, 200}, {map[string]string{"If-Match": "*"}, 200},
		{map[string]string{"If-Match": `"x", ` + etag}, 200}, {map[string]string{"If-Match": `"x"`}, 412},
		{map[string]string{"If-None-Match": etag}, 304}, {map[string]string{"If-None-Match": bare}, 304}, {map[string]string{"If-None-Match": "*"}, 304},
		{map[string]string{"If-None-Match": "W/" + etag}, 304}, {map[string]string{"If-None-Match": `"x"`}, 200},
		{map[string]string{"If-Modified-Since": before}, 200}, {map[string]string{"If-Modified-Since": same}, 304},
		{map[string]string{"If-Modified-Since": after}, 200}, // in the future: does not count
		{map[string]string{"If-Modified-Since": "nonsense"}, 200},
		{map[string]string{"If-Unmodified-Since": before}, 412}, {map[string]string{"If-Unmodified-Since": same}, 200},
		{map[string]string{"If-Unmodified-Since": after}, 200}, {map[string]string{"If-Unmodified-Since": "nonsense"}, 200},
		// Entity tags take precedence over dates.
		{map[string]string{"If-Match": etag, "If-Unmodified-Since": before}, 200},
		{map[string]string{"If-Match": `"x"`, "If-Unmodified-Since": after}, 412},
		{map[string]string{"If-None-Match": etag, "If-Modified-Since": before}, 304},
		{map[string]string{"If-None-Match": `"x"`, "If-Modified-Since": same}, 200},
		{map[string]string{"If-Match": etag, "If-None-Match": etag}, 304},
		{map[string]string{"If-Match": `"x"`, "If-None-Match": `"y"`}, 412},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			a := e.do(call{method: method, path: e.object("k"), header: c.header})
			if a.status != c.status {
				e.t.Errorf("%s %v: %d, want %d", method, c.header, a.status, c.status)
			}
			if a.status == 304 && (len(a.body) > 0 || a.header.Get("Etag") != etag || a.header.Get("Last-Modified") == "") {
				e.t.Errorf("%s %v: 304 with %q, %v", method, c.header, a.body, a.header)
			}
			if a.status == 412 && method == "GET" && a.code != "PreconditionFailed" {
				e.t.Errorf("%v: %s", c.header, a.code)
			}
		}
	}
}

func testWriteConditions(e *env) {
	b := e.withBucket()
	in := func(body string) *s3.PutObjectInput {
		return &s3.PutObjectInput{Bucket: &b, Key: aws.String("k"), Body: strings.NewReader(body)}
	}
	x := in("new")
	x.IfMatch = aws.String(`"d41d8cd98f00b204e9800998ecf8427e"`)
	_, err := e.s3.PutObject(ctx, x)
	e.wantCode("If-Match of nothing", err, "NoSuchKey")
	x = in("first")
	x.IfNoneMatch = aws.String("*")
	first, err := e.s3.PutObject(ctx, x)
	e.must("If-None-Match: * of nothing", err)
	x = in("second")
	x.IfNoneMatch = aws.String("*")
	_, err = e.s3.PutObject(ctx, x)
	e.wantCode("If-None-Match: * of something", err, "PreconditionFailed")
	e.wantBody("k", []byte("first"))
	x = in("second")
	x.IfMatch = aws.String(`"d41d8cd98f00b204e9800998ecf8427e"`)
	_, err = e.s3.PutObject(ctx, x)
	e.wantCode("If-Match of another", err, "PreconditionFailed")
	e.wantBody("k", []byte("first"))
	x = in("second")
	x.IfMatch = first.ETag
	_, err = e.s3.PutObject(ctx, x)
	e.must("If-Match", err)
	e.wantBody("k", []byte("second"))
	e.wantAnswer("If-None-Match of an entity tag", call{method: "PUT", path: e.object("k"), header: map[string]string{"If-None-Match": *first.ETag}}, 501, "NotImplemented")
	e.wantAnswer("If-Modified-Since on a write", call{method: "PUT", path: e.object("k"), header: map[string]string{"If-Modified-Since": "Mon, 02 Jan 2006 15:04:05 GMT"}}, 501, "NotImplemented")

	del := func(match string) error {
		_, err := e.s3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b, Key: aws.String("k"), IfMatch: &match})
		return err
	}
	e.wantCode("DeleteObject If-Match of another", del(*first.ETag), "PreconditionFailed")
	e.wantBody("k", []byte("second"))
	e.must("DeleteObject If-Match", del(`"`+md5Hex([]byte("second"))+`"`))
	e.wantGone("k")
	e.wantCode("DeleteObject If-Match of nothing", del(*first.ETag), "NoSuchKey")
	e.wantCode("DeleteObject If-Match * of nothing", del("*"), "PreconditionFailed")
}

// testRace: of many who create one key only if it is not there, one succeeds.
func testRace(e *env) {
	b := e.withBucket()
	const writers = 8
	var group sync.WaitGroup
	errors := make([]error, writers)
	for i := range writers {
		group.Go(func() {
			_, errors[i] = e.s3.PutObject(ctx, &s3.PutObjectInput{
				Bucket: &b, Key: aws.String("k"), Body: strings.NewReader(fmt.Sprint(i)), IfNoneMatch: aws.String("*"),
			})
		})
	}
	group.Wait()
	won := -1
	for i, err := range errors {
		switch code(err) {
		case "":
			if won >= 0 {
				e.t.Errorf("%d and %d both created the key", won, i)
			}
			won = i
		case "PreconditionFailed", "ConditionalRequestConflict", "ServiceUnavailable", "SlowDown":
		default:
			e.t.Errorf("writer %d: %v", i, err)
		}
	}
	if won < 0 {
		e.t.Skip("nobody won: allowed, if unlucky")
	}
	e.wantBody("k", []byte(fmt.Sprint(won)))
}

func testOverrides(e *env) {
	e.withBucket()
	e.put("k", []byte("x"))
	a := e.do(call{method: "GET", path: e.object("k") + "?response-content-type=text%2Fcsv&response-cache-control=no-store&response-content-disposition=inline&response-content-encoding=br&response-content-language=fr&response-expires=never"})
	equal(e, "status", a.status, 200)
	for name, want := range map[string]string{
		"Content-Type": "text/csv", "Cache-Control": "no-store", "Content-Disposition": "inline",
		"Content-Encoding": "br", "Content-Language": "fr", "Expires": "never",
	} {
		equal(e, name, a.header.Get(name), want)
	}
	// Nothing of it is kept.
	equal(e, "kept", e.do(call{method: "HEAD", path: e.object("k")}).header.Get("Cache-Control"), "")
}

func testObjectTagging(e *env) {
	b := e.withBucket()
	_, err := e.s3.GetObjectTagging(ctx, &s3.GetObjectTaggingInput{Bucket: &b, Key: aws.String("k")})
	e.wantCode("GetObjectTagging of nothing", err, "NoSuchKey")
	e.put("k", []byte("x"))
	_, before := e.get("k")
	got, err := e.s3.GetObjectTagging(ctx, &s3.GetObjectTaggingInput{Bucket: &b, Key: aws.String("k")})
	e.must("GetObjectTagging", err)
	wantTags(e, got.TagSet, nil)
	set := []types.Tag{{Key: aws.String("b"), Value: aws.String("1 + 1 = 2")}, {Key: aws.String("a"), Value: aws.String("")}, {Key: aws.String("日本"), Value: aws.String("x/y@z:_.-")}}
	put := func(set []types.Tag) error {
		_, err := e.s3.PutObjectTagging(ctx, &s3.PutObjectTaggingInput{Bucket: &b, Key: aws.String("k"), Tagging: &types.Tagging{TagSet: set}})
		return err
	}
	e.must("PutObjectTagging", put(set))
	got, err = e.s3.GetObjectTagging(ctx, &s3.GetObjectTaggingInput{Bucket: &b, Key: aws.String("k")})
	e.must("GetObjectTagging", err)
	wantTags(e, got.TagSet, set)
	body, after := e.get("k")
	equal(e, "body", string(body), "x")
	equal(e, "tag count", value(after.TagCount), 3)
	equal(e, "Last-Modified", *after.LastModified, *before.LastModified)
	equal(e, "ETag", *after.ETag, *before.ETag)
	many := make([]types.Tag, 11)
	for i := range many {
		many[i] = types.Tag{Key: aws.String(fmt.Sprint(i)), Value: aws.String("v")}
	}
	e.must("10 tags", put(many[:10]))
	e.wantCode("11 tags", put(many), "BadRequest")
	for name, bad := range map[string]types.Tag{
		"a long key": {Key: aws.String(strings.Repeat("k", 129)), Value: aws.String("")}, "a long value": {Key: aws.String("k"), Value: aws.String(strings.Repeat("v", 257))},
		"an empty key": {Key: aws.String(""), Value: aws.String("")}, "a reserved key": {Key: aws.String("aws:k"), Value: aws.String("")},
		"a bad character": {Key: aws.String("k"), Value: aws.String("a;b")},
	} {
		e.wantCode(name, put([]types.Tag{bad}), "InvalidTag")
	}
	e.wantCode("a key twice", put([]types.Tag{set[0], set[0]}), "InvalidTag")
	_, err = e.s3.DeleteObjectTagging(ctx, &s3.DeleteObjectTaggingInput{Bucket: &b, Key: aws.String("k")})
	e.must("DeleteObjectTagging", err)
	got, err = e.s3.GetObjectTagging(ctx, &s3.GetObjectTaggingInput{Bucket: &b, Key: aws.String("k")})
	e.must("GetObjectTagging", err)
	equal(e, "tags", len(got.TagSet), 0)
	e.wantAnswer("a tag twice in the header", call{method: "PUT", path: e.object("t"), header: map[string]string{"x-amz-tagging": "a=1&a=2"}}, 400, "InvalidArgument")
}

func testObjectACL(e *env) {
	b := e.withBucket()
	e.put("k", []byte("x"))
	acl, err := e.s3.GetObjectAcl(ctx, &s3.GetObjectAclInput{Bucket: &b, Key: aws.String("k")})
	e.must("GetObjectAcl", err)
	equal(e, "grants", len(acl.Grants), 1)
	_, err = e.s3.PutObjectAcl(ctx, &s3.PutObjectAclInput{Bucket: &b, Key: aws.String("k"), ACL: types.ObjectCannedACLPrivate})
	e.must("PutObjectAcl private", err)
	_, err = e.s3.PutObjectAcl(ctx, &s3.PutObjectAclInput{Bucket: &b, Key: aws.String("k"), ACL: types.ObjectCannedACLBucketOwnerFullControl})
	e.must("PutObjectAcl bucket-owner-full-control", err)
	_, err = e.s3.PutObjectAcl(ctx, &s3.PutObjectAclInput{Bucket: &b, Key: aws.String("k"), ACL: types.ObjectCannedACLPublicRead})
	e.wantCode("PutObjectAcl public-read", err, "NotImplemented")
	_, err = e.s3.GetObjectAcl(ctx, &s3.GetObjectAclInput{Bucket: &b, Key: aws.String("none")})
	e.wantCode("GetObjectAcl of nothing", err, "NoSuchKey")
	_, err = e.s3.GetObjectRetention(ctx, &s3.GetObjectRetentionInput{Bucket: &b, Key: aws.String("k")})
	e.wantCode("GetObjectRetention", err, "NoSuchObjectLockConfiguration")
	_, err = e.s3.GetObjectLegalHold(ctx, &s3.GetObjectLegalHoldInput{Bucket: &b, Key: aws.String("k")})
	e.wantCode("GetObjectLegalHold", err, "NoSuchObjectLockConfiguration")
}

func testDeleteObjects(e *env) {
	b := e.withBucket()
	var ids []types.ObjectIdentifier
	for _, k := range []string{"a", "b & c", "d/e", "ü\n"} {
		e.put(k, []byte(k))
		ids = append(ids, types.ObjectIdentifier{Key: aws.String(k)})
	}
	e.put("keep", []byte("x"))
	ids = append(ids, types.ObjectIdentifier{Key: aws.String("never was")})
	out, err := e.s3.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: &b, Delete: &types.Delete{Objects: ids}})
	e.must("DeleteObjects", err)
	equal(e, "deleted", len(out.Deleted), len(ids))
	for i, d := range out.Deleted {
		equal(e, "key", *d.Key, *ids[i].Key)
	}
	list, err := e.s3.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &b})
	e.must("ListObjectsV2", err)
	equal(e, "what is left", len(list.Contents), 1)

	e.put("a", []byte("x"))
	out, err = e.s3.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: &b, Delete: &types.Delete{
		Quiet: aws.Bool(true),
		Objects: []types.ObjectIdentifier{
			{Key: aws.String("a")}, {Key: aws.String("keep"), ETag: aws.String(`"0"`)}, {Key: aws.String("keep"), VersionId: aws.String("abc")},
			{Key: aws.String(strings.Repeat("k", 1025))},
		},
	}})
	e.must("DeleteObjects, quiet", err)
	equal(e, "deleted, quiet", len(out.Deleted), 0)
	if len(out.Errors) != 3 || *out.Errors[0].Code != "PreconditionFailed" || *out.Errors[1].Code != "InvalidArgument" || *out.Errors[2].Code != "KeyTooLongError" {
		e.t.Errorf("errors %+v", out.Errors)
	}
	e.wantGone("a")
	e.wantBody("keep", []byte("x"))

	thousand := make([]types.ObjectIdentifier, 1000)
	for i := range thousand {
		thousand[i].Key = aws.String(fmt.Sprintf("%04d%s", i, strings.Repeat("&", 1000)))
	}
	out, err = e.s3.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: &b, Delete: &types.Delete{Objects: thousand}})
	e.must("DeleteObjects of 1000 long keys", err)
	equal(e, "deleted", len(out.Deleted), 1000)

	var many strings.Builder
	many.WriteString("<Delete>")
	for i := range 1001 {
		fmt.Fprintf(&many, "<Object><Key>%d</Key></Object>", i)
	}
	many.WriteString("</Delete>")
	send := func(body string, header map[string]string) call {
		return call{method: "POST", path: "/" + b + "?delete", body: []byte(body), header: header}
	}
	md5 := func(body string) map[string]string {
		return map[string]string{"Content-MD5": md5Base64([]byte(body))}
	}
	e.wantAnswer("1001 keys", send(many.String(), md5(many.String())), 400, "MalformedXML")
	one := "<Delete><Object><Key>keep</Key></Object></Delete>"
	e.wantAnswer("no digest", send(one, nil), 400, "InvalidRequest")
	e.wantAnswer("a wrong digest", send(one, md5("else")), 400, "BadDigest")
	e.wantAnswer("a bad digest", send(one, map[string]string{"Content-MD5": "abc"}), 400, "InvalidDigest")
	e.wantAnswer("a wrong checksum", send(one, map[string]string{"x-amz-checksum-crc32": "AAAAAA=="}), 400, "BadDigest")
	e.wantAnswer("no keys", send("<Delete/>", md5("<Delete/>")), 400, "MalformedXML")
	e.wantAnswer("no XML", send("hello", md5("hello")), 400, "MalformedXML")
	e.wantBody("keep", []byte("x"))
	e.wantAnswer("with Content-MD5", send(one, md5(one)), 200, "")
	e.wantGone("keep")
}
