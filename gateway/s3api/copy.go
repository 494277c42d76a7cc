package s3api

import (
	"io"
	"net/http"
	"net/url"
	"strings"

	"ringfort/gateway/ops"
	"ringfort/internal/catalog"
	"ringfort/internal/checksum"
)

// copySource is what x-amz-copy-source names.
type copySource struct{ bucket, key string }

// parseCopySource reads "[/]bucket/key[?versionId=null]", percent-encoded. A plus
// sign is a space, as for S3.
func parseCopySource(v string) (copySource, error) {
	bad := invalidArgument("x-amz-copy-source", v, "Copy Source must mention the source bucket and key: sourcebucket/sourcekey")
	if strings.HasPrefix(v, "arn:") {
		return copySource{}, refuse("NotImplemented", "Access points are not implemented.", "Header", "x-amz-copy-source")
	}
	if at := strings.LastIndex(v, "?versionId="); at >= 0 {
		if id := v[at+len("?versionId="):]; id != "null" {
			return copySource{}, invalidArgument("x-amz-copy-source", v, "Invalid version id specified")
		}
		v = v[:at]
	}
	path, err := url.QueryUnescape(v)
	if err != nil {
		return copySource{}, bad
	}
	var s copySource
	s.bucket, s.key, _ = strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if s.bucket == "" || s.key == "" {
		return copySource{}, bad
	}
	if err := checkBucketAddress(s.bucket); err != nil {
		return copySource{}, err
	}
	return s, checkKey(s.key)
}

// opened is a copy's source.
type opened struct {
	object *catalog.Object
	handle Handle
	same   bool // source and destination are one key
}

// openSource finds a copy's source and checks its conditions.
func (q *request) openSource(dst *catalog.Container) (*opened, error) {
	at, err := parseCopySource(q.header("X-Amz-Copy-Source"))
	if err != nil {
		return nil, err
	}
	src, err := q.containerNamed(at.bucket, "X-Amz-Source-Expected-Bucket-Owner")
	if err != nil {
		return nil, aboutBucket(err, at.bucket)
	}
	o, h, err := q.open(src, at.key)
	if err != nil {
		return nil, aboutKey(err, at.key)
	}
	if err := q.judgeSource(o); err != nil {
		h.Close()
		return nil, err
	}
	return &opened{o, h, src.Incarnation == dst.Incarnation && at.key == q.key}, nil
}

// aboutBucket and aboutKey let an error speak of the source instead of the
// destination, which the request's own path names.
func aboutBucket(err error, bucket string) error {
	if e := toError(err); e.Code == "NoSuchBucket" {
		e.Details = append(e.Details, Detail{"SourceBucketName", bucket})
		return e
	}
	return err
}

func aboutKey(err error, key string) error {
	if e := toError(err); e.Code == "NoSuchKey" {
		e.Details = append(e.Details, Detail{"SourceKey", key})
		return e
	}
	return err
}

// judgeSource checks the conditions on a copy's source: whatever a read would
// make of them, a copy fails.
func (q *request) judgeSource(o *catalog.Object) error {
	cond := q.copyConditions()
	if v, name := cond.judge(o, q.h.cfg.Now()); v != holds {
		return preconditionFailed("x-amz-copy-source-" + name)
	}
	return nil
}

// directive reads a COPY or REPLACE header.
func (q *request) directive(header string) (replace bool, err error) {
	switch v := q.header(header); v {
	case "", "COPY":
		return false, nil
	case "REPLACE":
		return true, nil
	default:
		return false, invalidArgument(strings.ToLower(header), v, "Unknown metadata directive.")
	}
}

// copyPlan is what a copy shall become.
type copyPlan struct {
	contentType string
	meta        catalog.Pairs
	alg         checksum.Algorithm
	named       bool // alg was asked for
	replace     bool // metadata or tags are new
}

// plan reads a copy's directives and puts the new object's metadata together.
func (q *request) plan(src *catalog.Object) (*copyPlan, error) {
	replaceMeta, err := q.directive("X-Amz-Metadata-Directive")
	if err != nil {
		return nil, err
	}
	replaceTags, err := q.directive("X-Amz-Tagging-Directive")
	if err != nil {
		return nil, err
	}
	p := &copyPlan{replace: replaceMeta || replaceTags}
	contentType, given, err := q.objectMeta()
	if err != nil {
		return nil, err
	}
	p.contentType, p.meta = src.ContentType, pick(withoutChecksum(src.Meta), true)
	if replaceMeta {
		p.contentType = contentType
		p.meta = given.Without(metaTagging)
	}
	p.meta = p.meta.Without(metaTagging)
	tagging, has := src.Meta.Lookup(metaTagging)
	if replaceTags {
		tagging, has = given.Lookup(metaTagging)
	}
	if has {
		p.meta = p.meta.With(metaTagging, tagging)
	}
	if p.alg, err = q.namedAlgorithm(); err != nil {
		return nil, err
	}
	p.named = p.alg != checksum.None
	if !p.named {
		p.alg = checksumOf(src).Algorithm()
	}
	if p.alg == checksum.None {
		p.alg = defaultAlgorithm
	}
	return p, nil
}

func copyObject(q *request) error {
	c, err := q.container()
	if err != nil {
		return err
	}
	judge, err := q.writeJudge()
	if err != nil {
		return err
	}
	src, err := q.openSource(c)
	if err != nil {
		return err
	}
	defer src.handle.Close()
	plan, err := q.plan(src.object)
	if err != nil {
		return err
	}
	var o *catalog.Object
	switch {
	case src.same && !plan.replace && !plan.named:
		return refuse("InvalidRequest", "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes.")
	case src.same && (!plan.named || plan.alg == checksumOf(src.object).Algorithm()):
		o, err = q.rewrite(c, plan, judge)
	default:
		o, err = q.copyBytes(c, src, plan, judge)
	}
	if err != nil {
		return err
	}
	q.sendCopyResult("CopyObjectResult", o.Modified, o.ETag, checksumOf(o), true)
	return nil
}

// rewrite gives an object new metadata and leaves its bytes where they are.
func (q *request) rewrite(c *catalog.Container, plan *copyPlan, judge func(*catalog.Object) error) (*catalog.Object, error) {
	at := q.h.cfg.Now().UnixMicro()
	return q.h.store.Modify(q.ctx, c, q.key, func(o *catalog.Object) error {
		if judge != nil {
			if err := judge(o); err != nil {
				return err
			}
		}
		// It may have been overwritten since it was looked at.
		now := *o
		now.ETag = shownETag(o)
		if err := q.judgeSource(&now); err != nil {
			return err
		}
		sum := checksumOf(o)
		meta := plan.meta
		for _, p := range pick(o.Meta, false) {
			meta = meta.With(p.Name, p.Value)
		}
		o.ContentType, o.Meta = plan.contentType, withChecksum(meta, sum, sum.String())
		o.Modified = max(at, o.Modified)
		return nil
	})
}

// copyBytes writes the source's bytes as a new object.
func (q *request) copyBytes(c *catalog.Container, src *opened, plan *copyPlan, judge func(*catalog.Object) error) (*catalog.Object, error) {
	size := src.object.Size
	if size > ops.MaxPartBytes {
		return nil, refuse("InvalidRequest", "The specified copy source is larger than the maximum allowable size for a copy source: "+decimal(ops.MaxPartBytes))
	}
	body, err := src.read(q, span{0, size})
	if err != nil {
		return nil, err
	}
	defer body.Close()
	sums := q.newHashing(plan.alg, checksum.None)
	o, err := q.h.store.Put(q.ctx, &ops.Put{
		Container: c, Name: q.key, Body: body, Size: size,
		ContentType: plan.contentType, Meta: plan.meta, Also: &sums.set, Judge: judge,
		Finish: func(o *catalog.Object) error {
			sum := sums.set.Sum(plan.alg)
			o.Meta = withChecksum(o.Meta, sum, sum.String())
			return nil
		},
	})
	if err == nil {
		sums.release(q)
	}
	return o, err
}

// read opens some of the source's bytes.
func (o *opened) read(q *request, s span) (io.ReadCloser, error) {
	return o.handle.Range(q.ctx, s.off, s.n)
}

func (q *request) sendCopyResult(root string, modified int64, etag string, sum checksum.Sum, typed bool) {
	b := q.h.buffer()
	defer q.h.release(b)
	x := append(append(append((*b)[:0], xmlHeader+"<"...), root...), " "+namespace+">"...)
	x = appendTime(x, "LastModified", modified)
	x = appendElement(x, "ETag", quoteETag(etag))
	x = appendChecksum(x, sum)
	if typed && !sum.IsZero() {
		x = appendElement(x, "ChecksumType", sum.Type().String())
	}
	x = append(append(append(x, "</"...), root...), '>')
	*b = x
	q.sendXML(http.StatusOK, x)
}
