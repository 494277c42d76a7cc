package s3api

import (
	"io"
	"net/http"

	"ringfort/gateway/ops"
	"ringfort/internal/catalog"
	"ringfort/internal/checksum"
)

func createUpload(q *request) error {
	c, err := q.container()
	if err != nil {
		return err
	}
	contentType, meta, err := q.objectMeta()
	if err != nil {
		return err
	}
	alg, typ, err := checksum.Upload(q.r.Header)
	if err != nil {
		return checksumError(err)
	}
	if _, err := q.readBody(maxConfigBytes, false); err != nil {
		return err
	}
	chosen := alg != checksum.None
	if !chosen {
		alg, typ = defaultAlgorithm, defaultAlgorithm.DefaultType()
	}
	meta = meta.With(metaAlgorithm, alg.String()).With(metaType, typ.String())
	if chosen {
		meta = meta.With(metaChosen, "1")
	}
	u := &ops.Upload{Container: c, Name: q.key, ContentType: contentType, Meta: meta}
	if err := q.h.store.CreateUpload(q.ctx, u); err != nil {
		return err
	}
	if chosen {
		q.w.Header().Set(checksum.HeaderAlgorithm, alg.String())
		q.w.Header().Set(checksum.HeaderType, typ.String())
	}
	x := []byte(xmlHeader + "<InitiateMultipartUploadResult " + namespace + ">")
	x = appendElement(x, "Bucket", q.bucket)
	x = appendElement(x, "Key", q.key)
	x = appendElement(x, "UploadId", u.ID)
	q.sendXML(http.StatusOK, append(x, "</InitiateMultipartUploadResult>"...))
	return nil
}

// uploadChecksum is what an upload said of its parts' checksums.
type uploadChecksum struct {
	alg    checksum.Algorithm
	typ    checksum.Type
	chosen bool // by the client
}

func checksumOfUpload(u *ops.Upload) uploadChecksum {
	alg, err := checksum.Parse(u.Meta.Get(metaAlgorithm))
	if err != nil {
		return uploadChecksum{}
	}
	typ, err := checksum.ParseType(u.Meta.Get(metaType))
	if err != nil {
		typ = alg.DefaultType()
	}
	return uploadChecksum{alg, typ, u.Meta.Get(metaChosen) != ""}
}

// upload finds the request's bucket and unfinished upload.
func (q *request) upload() (*ops.Upload, error) {
	c, err := q.container()
	if err != nil {
		return nil, err
	}
	u, err := q.h.store.Upload(q.ctx, c, q.key, q.query.get("uploadId"))
	if err != nil {
		return nil, err
	}
	return u, nil
}

// openUpload is upload for all that a finished one no longer has.
func (q *request) openUpload() (*ops.Upload, error) {
	u, err := q.upload()
	if err == nil && u.Done {
		err = refuse("NoSuchUpload", "")
	}
	return u, err
}

func uploadPart(q *request) error {
	number, err := parsePartNumber(q.query.get("partNumber"))
	if err != nil {
		return err
	}
	u, err := q.openUpload()
	if err != nil {
		return err
	}
	body, err := q.newEntity(ops.MaxPartBytes)
	if err != nil {
		return err
	}
	want := checksumOfUpload(u)
	if given := body.claim.Algorithm; want.chosen && given != checksum.None && given != want.alg {
		return refuse("InvalidRequest", "Checksum Type mismatch occurred, expected checksum Type: "+lowerName(want.alg)+", actual checksum Type: "+lowerName(given))
	}
	sums := q.newHashing(want.alg, body.claim.Algorithm)
	p := &ops.PutPart{Upload: u, Number: number, Body: body, Size: body.size, MD5: body.md5, Also: &sums.set}
	p.Finish = func(part *catalog.Part) error {
		sum, err := sums.verify(body)
		if err == nil && !sum.IsZero() {
			part.Checksum = sum.String()
		}
		return err
	}
	part, err := q.h.store.PutPart(q.ctx, p)
	if err != nil {
		return body.explain(err)
	}
	head := q.w.Header()
	head["Etag"] = []string{quoteETag(part.ETag)}
	if part.Checksum != "" {
		head.Set(want.alg.Header(), part.Checksum)
	}
	if given := body.claim.Algorithm; given != checksum.None && given != want.alg {
		head.Set(given.Header(), sums.set.Sum(given).String())
	}
	sums.release(q)
	body.release()
	q.send(http.StatusOK)
	return nil
}

func uploadPartCopy(q *request) error {
	number, err := parsePartNumber(q.query.get("partNumber"))
	if err != nil {
		return err
	}
	u, err := q.openUpload()
	if err != nil {
		return err
	}
	src, err := q.openSource(u.Container)
	if err != nil {
		return err
	}
	defer src.handle.Close()
	s := span{0, src.object.Size}
	if v := q.header("X-Amz-Copy-Source-Range"); v != "" {
		if s, err = parseCopyRange(v, src.object.Size); err != nil {
			return err
		}
	}
	if s.n > ops.MaxPartBytes {
		return refuse("InvalidRequest", "The specified copy source is larger than the maximum allowable size for a copy source: "+decimal(ops.MaxPartBytes))
	}
	part, sum, err := q.copyPart(u, number, src, s)
	if err != nil {
		return err
	}
	q.sendCopyResult("CopyPartResult", part.Modified, part.ETag, sum, false)
	return nil
}

func (q *request) copyPart(u *ops.Upload, number int, src *opened, s span) (*catalog.Part, checksum.Sum, error) {
	var body io.ReadCloser
	body, err := src.read(q, s)
	if err != nil {
		return nil, checksum.Sum{}, err
	}
	defer body.Close()
	want := checksumOfUpload(u)
	sums := q.newHashing(want.alg, checksum.None)
	var sum checksum.Sum
	part, err := q.h.store.PutPart(q.ctx, &ops.PutPart{
		Upload: u, Number: number, Body: body, Size: s.n, Also: &sums.set,
		Finish: func(part *catalog.Part) error {
			if sum = sums.set.Sum(want.alg); !sum.IsZero() {
				part.Checksum = sum.String()
			}
			return nil
		},
	})
	if err == nil {
		sums.release(q)
	}
	return part, sum, err
}

func abortUpload(q *request) error {
	u, err := q.openUpload()
	if err != nil {
		return err
	}
	if err := q.h.store.AbortUpload(q.ctx, u); err != nil {
		return err
	}
	q.send(http.StatusNoContent)
	return nil
}
