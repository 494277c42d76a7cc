package s3api

import (
	"net/http"
	"strconv"
	"strings"

	"ringfort/gateway/ops"
	"ringfort/internal/catalog"
	"ringfort/internal/errs"
	"ringfort/internal/peer"
)

// createBucketRequest is the optional body of CreateBucket.
type createBucketRequest struct {
	LocationConstraint string
	Location           *node
	Bucket             *node
	Tags               *tagList
}

func createBucket(q *request) error {
	if !validBucketName(q.bucket) {
		return refuse("InvalidBucketName", "")
	}
	body, err := q.readBody(maxConfigBytes, false)
	if err != nil {
		return err
	}
	c := &catalog.Container{Account: q.who.Account, Name: q.bucket, Global: true}
	if len(body) > 0 {
		var in createBucketRequest
		if err := decodeXML(body, "CreateBucketConfiguration", &in); err != nil {
			return err
		}
		if in.Location != nil || in.Bucket != nil {
			return refuse("NotImplemented", "Directory buckets are not implemented.")
		}
		if l := in.LocationConstraint; l != "" && q.h.cfg.Region != "" && l != q.h.cfg.Region {
			return refuse("IllegalLocationConstraintException", "The "+l+" location constraint is incompatible for the region specific endpoint this request was sent to.")
		}
		if in.Tags != nil {
			set, err := in.Tags.check(maxBucketTags)
			if err != nil {
				return err
			}
			c.Meta = c.Meta.With(metaTagging, set.encode())
		}
	}
	have, created, err := q.h.store.CreateContainer(q.ctx, c)
	switch {
	case errs.Is(err, errs.Conflict):
		return refuse("OperationAborted", "")
	case err != nil:
		return err
	case !created && have.Account != q.who.Account:
		return refuse("BucketAlreadyExists", "")
	case !created:
		return refuse("BucketAlreadyOwnedByYou", "")
	}
	q.w.Header().Set("Location", "/"+q.bucket)
	q.send(http.StatusOK)
	return nil
}

func headBucket(q *request) error {
	if _, err := q.container(); err != nil {
		return err
	}
	q.w.Header().Set("X-Amz-Bucket-Region", q.h.region)
	q.w.Header()["Content-Type"] = xmlType
	q.send(http.StatusOK)
	return nil
}

func deleteBucket(q *request) error {
	c, err := q.container()
	if err != nil {
		return err
	}
	if err := q.h.store.DeleteContainer(q.ctx, c.Account, c.Name); err != nil {
		return err
	}
	q.send(http.StatusNoContent)
	return nil
}

func getBucketLocation(q *request) error {
	if _, err := q.container(); err != nil {
		return err
	}
	region := q.h.region
	if region == defaultRegion {
		region = "" // S3's oldest region has no name here
	}
	q.sendXML(http.StatusOK, append(appendText([]byte(xmlHeader+"<LocationConstraint "+namespace+">"), region), "</LocationConstraint>"...))
	return nil
}

// maxBuckets is the most buckets of a page, and how many come unasked.
const maxBuckets = 10000

func listBuckets(q *request) error {
	limit := maxBuckets
	if v, ok := q.query.lookup("max-buckets"); ok {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > maxBuckets {
			return invalidArgument("max-buckets", v, "Argument max-buckets must be an integer between 1 and 10000")
		}
		limit = n
	}
	marker := ""
	if v := q.query.get("continuation-token"); v != "" {
		var err error
		if marker, err = decodeToken(v); err != nil {
			return err
		}
	}
	prefix := q.query.get("prefix")
	if r := q.query.get("bucket-region"); r != "" && r != q.h.region {
		limit = 0 // all buckets are in one region, and it is not this one
	}
	found, more, err := q.containers(prefix, marker, limit)
	if err != nil {
		return err
	}
	b := q.h.buffer()
	defer q.h.release(b)
	x := append((*b)[:0], xmlHeader+"<ListAllMyBucketsResult "+namespace+">"...)
	x = appendOwner(x, "Owner", q.owner())
	x = append(x, "<Buckets>"...)
	for i := range found {
		x = append(x, "<Bucket>"...)
		x = appendElement(x, "Name", found[i].Name)
		x = appendTime(x, "CreationDate", found[i].Created.UnixMicro())
		x = appendElement(x, "BucketRegion", q.h.region)
		x = append(x, "</Bucket>"...)
	}
	x = append(x, "</Buckets>"...)
	if more {
		x = appendElement(x, "ContinuationToken", encodeToken(found[len(found)-1].Name))
	}
	if prefix != "" {
		x = appendElement(x, "Prefix", prefix)
	}
	x = append(x, "</ListAllMyBucketsResult>"...)
	*b = x
	q.sendXML(http.StatusOK, x)
	return nil
}

// containers lists up to limit of the requester's buckets and whether there are
// more.
func (q *request) containers(prefix, marker string, limit int) ([]ops.ContainerInfo, bool, error) {
	var found []ops.ContainerInfo
	for limit > 0 {
		ask := &ops.Query{Prefix: prefix, Marker: marker, Limit: min(limit+1-len(found), peer.MaxPage)}
		page, more, err := q.h.store.ListContainers(q.ctx, q.who.Account, ask)
		if err != nil {
			return nil, false, err
		}
		found = append(found, page...)
		if len(found) > limit {
			return found[:limit], true, nil
		}
		if !more || len(page) == 0 {
			break
		}
		marker = page[len(page)-1].Name
	}
	return found, false, nil
}

func getBucketTagging(q *request) error {
	c, err := q.container()
	if err != nil {
		return err
	}
	text, ok := c.Meta.Lookup(metaTagging)
	if !ok {
		return refuse("NoSuchTagSet", "")
	}
	return q.sendTags(text)
}

func putBucketTagging(q *request) error {
	set, err := q.readTags(maxBucketTags)
	if err != nil {
		return err
	}
	return q.setBucketTags(func(c *catalog.Container) { c.Meta = c.Meta.With(metaTagging, set.encode()) })
}

func deleteBucketTagging(q *request) error {
	return q.setBucketTags(func(c *catalog.Container) { c.Meta = c.Meta.Without(metaTagging) })
}

func (q *request) setBucketTags(change func(*catalog.Container)) error {
	c, err := q.container()
	if err != nil {
		return err
	}
	_, err = q.h.store.UpdateContainer(q.ctx, c.Account, c.Name, func(c *catalog.Container) error {
		change(c)
		return nil
	})
	if err != nil {
		return err
	}
	q.send(http.StatusNoContent)
	return nil
}

// trimQuotes removes the quotes of an entity tag.
func trimQuotes(s string) string { return strings.Trim(strings.TrimSpace(s), `"`) }
