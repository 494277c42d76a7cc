package s3test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

func testCopy(e *env) {
	b, other := e.withBucket(), e.newBucket()
	body := pattern(300_000, 3)
	_, err := e.s3.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &b, Key: aws.String("src/ü +%k"), Body: bytes.NewReader(body), ContentType: aws.String("text/src"),
		CacheControl: aws.String("no-cache"), Metadata: map[string]string{"color": "red"}, Tagging: aws.String("t=1"),
	})
	e.must("PutObject", err)
	source := b + "/" + url.QueryEscape("src/ü +%k")
	source = strings.ReplaceAll(strings.ReplaceAll(source, "+", "%20"), "%2F", "/")
	head := func(bucket, key string) *s3.HeadObjectOutput {
		e.t.Helper()
		h, err := e.s3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &bucket, Key: &key})
		e.must("HeadObject", err)
		return h
	}
	for _, src := range []string{source, "/" + source, source + "?versionId=null"} {
		out, err := e.s3.CopyObject(ctx, &s3.CopyObjectInput{Bucket: &other, Key: aws.String("dst"), CopySource: &src})
		e.must("CopyObject", err)
		equal(e, "ETag", *out.CopyObjectResult.ETag, `"`+md5Hex(body)+`"`)
		h := head(other, "dst")
		equal(e, "Last-Modified", *h.LastModified, *out.CopyObjectResult.LastModified)
		equal(e, "type", *h.ContentType, "text/src")
		equal(e, "Cache-Control", value(h.CacheControl), "no-cache")
		equal(e, "metadata", h.Metadata["color"], "red")
		equal(e, "tags", value(h.TagCount), 1)
		equal(e, "length", *h.ContentLength, int64(len(body)))
	}
	_, err = e.s3.CopyObject(ctx, &s3.CopyObjectInput{
		Bucket: &b, Key: aws.String("replaced"), CopySource: &source, MetadataDirective: types.MetadataDirectiveReplace,
		ContentType: aws.String("text/new"), Metadata: map[string]string{"size": "xl"},
		TaggingDirective: types.TaggingDirectiveReplace, Tagging: aws.String("a=1&b=2"),
	})
	e.must("CopyObject with new metadata", err)
	h := head(b, "replaced")
	equal(e, "type", *h.ContentType, "text/new")
	equal(e, "Cache-Control", value(h.CacheControl), "")
	equal(e, "metadata", fmt.Sprint(h.Metadata), "map[size:xl]")
	equal(e, "tags", value(h.TagCount), 2)
	e.wantBody("replaced", body)
	// Metadata given without REPLACE is not used.
	_, err = e.s3.CopyObject(ctx, &s3.CopyObjectInput{Bucket: &b, Key: aws.String("copied"), CopySource: &source, Metadata: map[string]string{"size": "xl"}})
	e.must("CopyObject", err)
	equal(e, "metadata", fmt.Sprint(head(b, "copied").Metadata), "map[color:red]")

	for src, want := range map[string]string{
		b + "/nothing": "NoSuchKey", newName() + "/k": "NoSuchBucket", b: "InvalidArgument", b + "/": "InvalidArgument", "/": "InvalidArgument",
		b + "/k?versionId=abc": "InvalidArgument", b + "/%zz": "InvalidArgument", "arn:aws:s3:us-east-1:1:accesspoint/a/object/k": "NotImplemented",
	} {
		_, err := e.s3.CopyObject(ctx, &s3.CopyObjectInput{Bucket: &b, Key: aws.String("x"), CopySource: &src})
		e.wantCode("CopyObject from "+src, err, want)
	}
	e.wantAnswer("a bad directive", call{method: "PUT", path: e.object("x"), header: map[string]string{"x-amz-copy-source": source, "x-amz-metadata-directive": "KEEP"}}, 400, "InvalidArgument")
	e.put("empty", nil)
	_, err = e.s3.CopyObject(ctx, &s3.CopyObjectInput{Bucket: &b, Key: aws.String("empty2"), CopySource: aws.String(b + "/empty")})
	e.must("CopyObject of nothing", err)
	e.wantBody("empty2", nil)
}

func testCopyToItself(e *env) {
	b := e.withBucket()
	body := pattern(200_000, 5)
	e.put("k", body)
	self := b + "/k"
	_, err := e.s3.CopyObject(ctx, &s3.CopyObjectInput{Bucket: &b, Key: aws.String("k"), CopySource: &self})
	e.wantCode("CopyObject to itself without a change", err, "InvalidRequest")
	_, err = e.s3.CopyObject(ctx, &s3.CopyObjectInput{
		Bucket: &b, Key: aws.String("k"), CopySource: &self, MetadataDirective: types.MetadataDirectiveReplace,
		ContentType: aws.String("text/new"), Metadata: map[string]string{"a": "b"},
	})
	e.must("CopyObject to itself", err)
	got, out := e.get("k")
	if !bytes.Equal(got, body) || *out.ContentType != "text/new" || out.Metadata["a"] != "b" || *out.ETag != `"`+md5Hex(body)+`"` {
		e.t.Errorf("after it: %d bytes, %s, %v, %s", len(got), *out.ContentType, out.Metadata, *out.ETag)
	}
	_, err = e.s3.CopyObject(ctx, &s3.CopyObjectInput{
		Bucket: &b, Key: aws.String("k"), CopySource: &self, MetadataDirective: types.MetadataDirectiveReplace, ChecksumAlgorithm: "SHA256",
	})
	e.must("CopyObject to itself with another checksum", err)
	got, out = e.get("k")
	if !bytes.Equal(got, body) || len(out.Metadata) != 0 {
		e.t.Errorf("after it: %d bytes, %v", len(got), out.Metadata)
	}
	sums, _ := e.headSum("k")
	equal(e, "checksums", len(sums), 1)
	_, err = e.s3.CopyObject(ctx, &s3.CopyObjectInput{
		Bucket: &b, Key: aws.String("k"), CopySource: &self, TaggingDirective: types.TaggingDirectiveReplace, Tagging: aws.String("x=y"),
	})
	e.must("CopyObject to itself with tags", err)
	_, out = e.get("k")
	equal(e, "tags", value(out.TagCount), 1)
}

func testCopyConditions(e *env) {
	b := e.withBucket()
	e.put("k", []byte("source"))
	_, out := e.get("k")
	etag := *out.ETag
	before, after := out.LastModified.Add(-time.Hour).Format(http.TimeFormat), out.LastModified.Add(time.Hour).Format(http.TimeFormat)
	const p = "x-amz-copy-source-if-"
	for _, c := range []struct {
		header map[string]string
		status int
	}{
		{map[string]string{p + "match": etag}, 200}, {map[string]string{p + "match": `"x"`}, 412},
		{map[string]string{p + "none-match": etag}, 412}, {map[string]string{p + "none-match": `"x"`}, 200},
		{map[string]string{p + "modified-since": before}, 200}, {map[string]string{p + "unmodified-since": before}, 412},
		{map[string]string{p + "unmodified-since": after}, 200},
		{map[string]string{p + "match": etag, p + "unmodified-since": before}, 200},
		{map[string]string{p + "none-match": etag, p + "modified-since": before}, 412},
		{map[string]string{"If-None-Match": "*"}, 412}, {map[string]string{"If-Match": `"x"`}, 412},
	} {
		e.put("dst", []byte("old"))
		c.header["x-amz-copy-source"] = b + "/k"
		a := e.do(call{method: "PUT", path: e.object("dst"), header: c.header})
		if a.status != c.status || a.status == 412 && a.code != "PreconditionFailed" {
			e.t.Errorf("%v: %d %s, want %d", c.header, a.status, a.code, c.status)
		}
		if c.status == 200 {
			e.wantBody("dst", []byte("source"))
		} else {
			e.wantBody("dst", []byte("old"))
		}
	}
}
