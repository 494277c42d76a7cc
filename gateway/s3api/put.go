package s3api

import (
	"net/http"

	"ringfort/gateway/ops"
	"ringfort/internal/catalog"
	"ringfort/internal/checksum"
)

func putObject(q *request) error {
	c, err := q.container()
	if err != nil {
		return err
	}
	contentType, meta, err := q.objectMeta()
	if err != nil {
		return err
	}
	judge, err := q.writeJudge()
	if err != nil {
		return err
	}
	alg, err := q.putAlgorithm()
	if err != nil {
		return err
	}
	body, err := q.newEntity(ops.MaxPartBytes)
	if err != nil {
		return err
	}
	if alg == checksum.None {
		alg = body.claim.Algorithm
	}
	if alg == checksum.None {
		alg = defaultAlgorithm
	}
	sums := q.newHashing(alg, body.claim.Algorithm)
	var sum checksum.Sum
	var text string
	o, err := q.h.store.Put(q.ctx, &ops.Put{
		Container: c, Name: q.key, Body: body, Size: body.size,
		ContentType: contentType, Meta: meta, MD5: body.md5, Also: &sums.set, Judge: judge,
		Finish: func(o *catalog.Object) error {
			if sum, err = sums.verify(body); err != nil {
				return err
			}
			text = sum.String()
			o.Meta = withChecksum(o.Meta, sum, text)
			return nil
		},
	})
	if err != nil {
		return body.explain(err)
	}
	sums.release(q)
	body.release()
	head := q.w.Header()
	head["Etag"] = []string{quoteETag(o.ETag)}
	setChecksum(head, sum, text)
	q.send(http.StatusOK)
	return nil
}

// putAlgorithm reads x-amz-checksum-algorithm on an upload in one piece: the
// algorithm to store, None if it is not given. A type other than full object is
// for uploads in parts.
func (q *request) putAlgorithm() (checksum.Algorithm, error) {
	if t := q.header(checksum.HeaderType); t != "" {
		typ, err := checksum.ParseType(t)
		if err != nil {
			return checksum.None, checksumError(err)
		}
		if typ != checksum.TypeFullObject {
			return checksum.None, refuse("InvalidRequest", "The COMPOSITE checksum type is for multipart uploads only.")
		}
	}
	return q.namedAlgorithm()
}

// namedAlgorithm reads x-amz-checksum-algorithm; None if it is not given.
func (q *request) namedAlgorithm() (checksum.Algorithm, error) {
	name := q.header(checksum.HeaderAlgorithm)
	if name == "" {
		return checksum.None, nil
	}
	a, err := checksum.Parse(name)
	if err != nil {
		return a, checksumError(err)
	}
	return a, nil
}
