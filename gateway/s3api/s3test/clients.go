package s3test

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/s3/manager"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/tags"
)

// onlyReader hides everything but Read, so that a client cannot know the length.
type onlyReader struct{ io.Reader }

// testManager uses the transfer manager that testTransferManager's replaces.
func testManager(e *env) {
	b := e.withBucket()
	body := pattern(2*minPart+4321, 31)
	//lint:ignore SA1019 many programs still use it
	up := manager.NewUploader(e.s3, func(u *manager.Uploader) { u.PartSize = minPart })
	//lint:ignore SA1019 many programs still use it
	down := manager.NewDownloader(e.s3, func(d *manager.Downloader) { d.PartSize = 1 << 20 })
	for key, r := range map[string]io.Reader{"sized": bytes.NewReader(body), "stream": onlyReader{bytes.NewReader(body)}} {
		//lint:ignore SA1019 many programs still use it
		_, err := up.Upload(ctx, &s3.PutObjectInput{Bucket: &b, Key: &key, Body: r, Metadata: map[string]string{"via": "manager"}})
		e.must("Upload", err)
		buf := manager.NewWriteAtBuffer(nil)
		//lint:ignore SA1019 many programs still use it
		n, err := down.Download(ctx, buf, &s3.GetObjectInput{Bucket: &b, Key: &key})
		e.must("Download", err)
		if n != int64(len(body)) || !bytes.Equal(buf.Bytes(), body) {
			e.t.Errorf("%s: %d bytes back", key, n)
		}
	}
	_, out := e.get("sized")
	equal(e, "metadata", out.Metadata["via"], "manager")
}

func testTransferManager(e *env) {
	b := e.withBucket()
	body := pattern(3*minPart+99, 32)
	tm := transfermanager.New(e.s3, func(o *transfermanager.Options) { o.PartSizeBytes, o.MultipartUploadThreshold = minPart, minPart })
	_, err := tm.UploadObject(ctx, &transfermanager.UploadObjectInput{Bucket: &b, Key: aws.String("k"), Body: onlyReader{bytes.NewReader(body)}})
	e.must("UploadObject", err)
	out, err := tm.GetObject(ctx, &transfermanager.GetObjectInput{Bucket: &b, Key: aws.String("k")})
	e.must("GetObject", err)
	got, err := io.ReadAll(out.Body)
	if err != nil || !bytes.Equal(got, body) {
		e.t.Errorf("%d bytes back, %v", len(got), err)
	}
	_, err = tm.UploadObject(ctx, &transfermanager.UploadObjectInput{Bucket: &b, Key: aws.String("small"), Body: strings.NewReader("small")})
	e.must("UploadObject", err)
	e.wantBody("small", []byte("small"))
	buf := manager.NewWriteAtBuffer(nil)
	_, err = tm.DownloadObject(ctx, &transfermanager.DownloadObjectInput{Bucket: &b, Key: aws.String("k"), WriterAt: buf})
	e.must("DownloadObject", err)
	if !bytes.Equal(buf.Bytes(), body) {
		e.t.Errorf("%d bytes back", len(buf.Bytes()))
	}
}

// testMinIO does with minio-go what a program would.
func testMinIO(e *env) {
	b := e.withBucket()
	c := e.minio.Client
	ok, err := c.BucketExists(ctx, b)
	if !ok || err != nil {
		e.t.Fatalf("BucketExists: %v, %v", ok, err)
	}
	ok, err = c.BucketExists(ctx, newName())
	if ok || err != nil {
		e.t.Errorf("BucketExists of none: %v, %v", ok, err)
	}
	for _, n := range []int{0, 5, 100_000, 2*minPart + 1} {
		key := fmt.Sprintf("minio/%d", n)
		body := pattern(n, uint64(n))
		for _, sum := range []minio.ChecksumType{minio.ChecksumNone, minio.ChecksumCRC32C, minio.ChecksumSHA256, minio.ChecksumFullObjectCRC32} {
			if n > minPart && sum != minio.ChecksumNone && sum != minio.ChecksumFullObjectCRC32 {
				continue // that multipart uploads have these is shown elsewhere
			}
			info, err := c.PutObject(ctx, b, key, bytes.NewReader(body), int64(n), minio.PutObjectOptions{
				PartSize: minPart, ContentType: "text/m", UserMetadata: map[string]string{"Who": "minio"}, Checksum: sum,
				UserTags: map[string]string{"a": "b"},
			})
			e.must("PutObject "+key+" "+sum.String(), err)
			equal(e, "size", info.Size, int64(n))
			stat, err := c.StatObject(ctx, b, key, minio.StatObjectOptions{Checksum: true})
			e.must("StatObject", err)
			if stat.Size != int64(n) || stat.ContentType != "text/m" || stat.UserMetadata["Who"] != "minio" || stat.UserTagCount != 1 {
				e.t.Errorf("%s: %+v", key, stat)
			}
			o, err := c.GetObject(ctx, b, key, minio.GetObjectOptions{})
			e.must("GetObject", err)
			got, err := io.ReadAll(o)
			if err != nil || !bytes.Equal(got, body) {
				e.t.Errorf("%s: %d bytes back, %v", key, len(got), err)
			}
			o.Close()
		}
	}
	body := pattern(minPart+5, 41)
	_, err = c.PutObject(ctx, b, "stream", onlyReader{bytes.NewReader(body)}, -1, minio.PutObjectOptions{PartSize: minPart})
	e.must("PutObject of a stream", err)
	e.wantBody("stream", body)
	_, err = c.CopyObject(ctx, minio.CopyDestOptions{Bucket: b, Object: "copy"}, minio.CopySrcOptions{Bucket: b, Object: "stream"})
	e.must("CopyObject", err)
	e.wantBody("copy", body)
	_, err = c.ComposeObject(ctx, minio.CopyDestOptions{Bucket: b, Object: "composed"}, minio.CopySrcOptions{Bucket: b, Object: "stream"}, minio.CopySrcOptions{Bucket: b, Object: "minio/5"})
	e.must("ComposeObject", err)
	e.wantBody("composed", append(bytes.Clone(body), pattern(5, 5)...))
	set, err := tags.NewTags(map[string]string{"x": "y"}, true)
	e.must("NewTags", err)
	e.must("PutObjectTagging", c.PutObjectTagging(ctx, b, "copy", set, minio.PutObjectTaggingOptions{}))
	got, err := c.GetObjectTagging(ctx, b, "copy", minio.GetObjectTaggingOptions{})
	e.must("GetObjectTagging", err)
	equal(e, "tags", got.String(), "x=y")
	attr, err := c.GetObjectAttributes(ctx, b, "composed", minio.ObjectAttributesOptions{})
	e.must("GetObjectAttributes", err)
	equal(e, "parts", attr.ObjectParts.PartsCount, 2)
	n := 0
	for o := range c.ListObjects(ctx, b, minio.ListObjectsOptions{Prefix: "minio/", Recursive: true, MaxKeys: 2}) {
		e.must("ListObjects", o.Err)
		n++
	}
	equal(e, "objects listed", n, 4)
	names := make(chan minio.ObjectInfo)
	go func() {
		defer close(names)
		for o := range c.ListObjects(ctx, b, minio.ListObjectsOptions{Recursive: true}) {
			names <- o
		}
	}()
	for r := range c.RemoveObjects(ctx, b, names, minio.RemoveObjectsOptions{}) {
		e.t.Errorf("RemoveObjects: %+v", r)
	}
	for o := range c.ListObjects(ctx, b, minio.ListObjectsOptions{Recursive: true}) {
		e.t.Errorf("%s is still there", o.Key)
	}
	for u := range c.ListIncompleteUploads(ctx, b, "", true) {
		e.t.Errorf("an upload was left: %+v", u)
	}
}
