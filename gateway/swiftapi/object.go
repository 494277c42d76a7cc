package swiftapi

import (
	"crypto/md5"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"

	"ringfort/gateway/ops"
	"ringfort/internal/catalog"
	"ringfort/internal/errs"
)

// putObject answers PUT: an object, a manifest or a copy.
func putObject(q *request) error {
	switch {
	case q.params["multipart-manifest"] == "put":
		return putManifest(q)
	case truth(q.header("X-Static-Large-Object")):
		return refuse(http.StatusBadRequest, "X-Static-Large-Object is a reserved header. To create a static large object add query param multipart-manifest=put.")
	case q.header("X-Copy-From") != "":
		return copyFrom(q)
	}
	judge, err := q.writeJudge()
	if err != nil {
		return err
	}
	meta, err := q.objectMeta()
	if err != nil {
		return err
	}
	body, err := q.newEntity(maxObjectBytes)
	if err != nil {
		return err
	}
	c, err := q.ownContainer()
	if err != nil {
		return err
	}
	if err := q.judgeEarly(c, judge); err != nil {
		return err
	}
	put := &ops.Put{
		Container: c, Name: q.object, Body: body, Size: body.size,
		ContentType: q.contentType(), Meta: meta, Judge: judge,
	}
	claimETag(put, q.header("Etag"))
	o, err := q.h.store.Put(q.ctx, put)
	if err != nil {
		return body.explain(err)
	}
	q.created(o)
	return nil
}

// claimETag makes a write fail unless the body's MD5 is what the client says.
func claimETag(put *ops.Put, header string) {
	text := statedETag(header)
	if text == "" {
		return
	}
	if sum, err := hex.DecodeString(text); err == nil && len(sum) == md5.Size {
		put.MD5 = sum
		return
	}
	put.Finish = func(*catalog.Object) error { // no body has such an MD5
		return errs.New("swiftapi.put", errs.BadDigest, "the ETag %q is no MD5", text)
	}
}

// statedETag reads the ETag header of a write: in lower case and without quotes.
func statedETag(header string) string {
	return strings.ToLower(strings.Trim(strings.TrimSpace(header), `"`))
}

// created answers a write.
func (q *request) created(o *catalog.Object) {
	q.set("Etag", o.ETag)
	q.set("Last-Modified", lastModified(o.Modified))
	q.empty(http.StatusCreated)
}

// writeJudge reads the one condition that a PUT can have, "If-None-Match: *"; nil
// if it is not there. If-Match does nothing on a PUT, as in Swift.
func (q *request) writeJudge() (func(*catalog.Object) error, error) {
	switch strings.TrimSpace(q.header("If-None-Match")) {
	case "":
		return nil, nil
	case "*":
		return func(cur *catalog.Object) error {
			if cur != nil {
				return refuse(http.StatusPreconditionFailed, "")
			}
			return nil
		}, nil
	}
	return nil, refuse(http.StatusBadRequest, "If-None-Match only supports *")
}

// judgeEarly judges before the body is sent, so that a client that waits for 100
// Continue is spared it. The write judges again.
func (q *request) judgeEarly(c *catalog.Container, judge func(*catalog.Object) error) error {
	if judge == nil {
		return nil
	}
	o, err := q.h.store.Head(q.ctx, c, q.object)
	if isNot(err) {
		return judge(nil)
	}
	if err != nil {
		return err
	}
	return judge(o)
}

// contentType returns the type that an object is given: the header's or, if there
// is none or the client wants it so, one that fits its name.
func (q *request) contentType() string {
	v := q.header("Content-Type") // checkFeatures has seen that it is UTF-8
	if v == "" || truth(q.header("X-Detect-Content-Type")) {
		return typeByName(q.object)
	}
	return v
}

// postObject answers POST: the client's metadata is replaced, everything else
// stays.
func postObject(q *request) error {
	meta, err := q.objectMeta()
	if err != nil {
		return err
	}
	c, err := q.ownContainer()
	if err != nil {
		return err
	}
	contentType := q.header("Content-Type")
	if truth(q.header("X-Detect-Content-Type")) {
		contentType = typeByName(q.object)
	}
	_, err = q.h.store.Modify(q.ctx, c, q.object, func(o *catalog.Object) error {
		o.Meta = replaced(o.Meta, meta)
		if contentType != "" {
			o.ContentType = contentType
		}
		o.Modified = max(q.h.cfg.Now().UnixMicro(), o.Modified)
		return nil
	})
	if err != nil {
		return err
	}
	q.sendBody(http.StatusAccepted, htmlType, page(http.StatusAccepted))
	return nil
}

// replaced returns what is not the client's of old, and all of meta.
func replaced(old, meta catalog.Pairs) catalog.Pairs {
	out := slices.Clone(meta)
	for _, p := range old {
		if !ofRequest(p.Name) {
			out = append(out, p)
		}
	}
	sortPairs(out)
	return out
}

func deleteObject(q *request) error {
	if q.params["multipart-manifest"] == "delete" {
		return deleteManifest(q)
	}
	c, err := q.ownContainer()
	if err != nil {
		return err
	}
	if err := q.h.store.Delete(q.ctx, c, q.object, nil); err != nil {
		return err
	}
	q.empty(http.StatusNoContent)
	return nil
}
