package s3api

import (
	"context"
	"encoding/xml"
	"net/http"
	"sync"

	"ringfort/internal/catalog"
	"ringfort/internal/errs"
)

func deleteObject(q *request) error {
	c, err := q.container()
	if err != nil {
		return err
	}
	var judge func(*catalog.Object) error
	if list := q.header("If-Match"); list != "" {
		judge = func(cur *catalog.Object) error { return mustMatch(list, cur) }
	}
	if err := q.deleteOne(c, q.key, judge); err != nil {
		return err
	}
	q.send(http.StatusNoContent)
	return nil
}

// deleteOne deletes an object. One that is not there is deleted already, unless
// it was asked for by a condition.
func (q *request) deleteOne(c *catalog.Container, key string, judge func(*catalog.Object) error) error {
	err := q.h.store.Delete(q.ctx, c, key, judge)
	if judge == nil && errs.Is(err, errs.NotFound) {
		return nil
	}
	return err
}

// maxDeletes is the most keys of one DeleteObjects.
const maxDeletes = 1000

// deleteEntry is one object of a DeleteObjects request.
type deleteEntry struct {
	Key              string
	VersionID        string `xml:"VersionId"`
	ETag             string
	LastModifiedTime string
	Size             string
}

// deleteList stops reading at the limit, so that a body of many short elements
// costs no more than one of a thousand.
type deleteList []deleteEntry

// UnmarshalXML implements xml.Unmarshaler for one Object element.
func (l *deleteList) UnmarshalXML(d *xml.Decoder, start xml.StartElement) error {
	if len(*l) == maxDeletes {
		return refuse("MalformedXML", "")
	}
	var e deleteEntry
	if err := d.DecodeElement(&e, &start); err != nil {
		return err
	}
	*l = append(*l, e)
	return nil
}

type deleteRequest struct {
	Quiet   bool
	Objects deleteList `xml:"Object"`
}

func parseDelete(body []byte) (*deleteRequest, error) {
	in := new(deleteRequest)
	if err := decodeXML(body, "Delete", in); err != nil {
		return nil, err
	}
	if len(in.Objects) == 0 {
		return nil, refuse("MalformedXML", "")
	}
	for i := range in.Objects {
		if in.Objects[i].Key == "" {
			return nil, refuse("MalformedXML", "")
		}
	}
	return in, nil
}

func deleteObjects(q *request) error {
	c, err := q.container()
	if err != nil {
		return err
	}
	body, err := q.readBody(maxDeleteBytes, true)
	if err != nil {
		return err
	}
	in, err := parseDelete(body)
	if err != nil {
		return err
	}
	failures := q.deleteAll(c, in.Objects)
	b := q.h.buffer()
	defer q.h.release(b)
	x := append((*b)[:0], xmlHeader+"<DeleteResult "+namespace+">"...)
	for i := range in.Objects {
		e := &in.Objects[i]
		switch {
		case failures[i] != nil:
			x = append(x, "<Error>"...)
			x = appendElement(x, "Key", e.Key)
			if e.VersionID != "" {
				x = appendElement(x, "VersionId", e.VersionID)
			}
			x = appendElement(x, "Code", failures[i].Code)
			x = appendElement(x, "Message", failures[i].Message)
			x = append(x, "</Error>"...)
		case !in.Quiet:
			x = append(x, "<Deleted>"...)
			x = appendElement(x, "Key", e.Key)
			if e.VersionID != "" {
				x = appendElement(x, "VersionId", e.VersionID)
			}
			x = append(x, "</Deleted>"...)
		}
	}
	x = append(x, "</DeleteResult>"...)
	*b = x
	q.sendXML(http.StatusOK, x)
	return nil
}

// deleteAll deletes all entries, a few at a time, and returns what went wrong
// with each.
func (q *request) deleteAll(c *catalog.Container, entries []deleteEntry) []*Error {
	failures := make([]*Error, len(entries))
	next := make(chan int)
	var group sync.WaitGroup
	for range min(q.h.cfg.DeleteConcurrency, len(entries)) {
		group.Go(func() {
			for i := range next {
				if err := q.deleteEntry(c, &entries[i]); err != nil {
					failures[i] = toError(err)
				}
			}
		})
	}
	for i := range entries {
		select {
		case next <- i:
		case <-q.ctx.Done():
			failures[i] = toError(context.Cause(q.ctx))
		}
	}
	close(next)
	group.Wait()
	return failures
}

func (q *request) deleteEntry(c *catalog.Container, e *deleteEntry) error {
	if err := checkKey(e.Key); err != nil {
		return err
	}
	switch {
	case e.VersionID != "" && e.VersionID != "null":
		return invalidArgument("versionId", e.VersionID, "Invalid version id specified")
	case e.LastModifiedTime != "" || e.Size != "":
		return refuse("NotImplemented", "Conditions on time and size are not implemented.")
	}
	var judge func(*catalog.Object) error
	if e.ETag != "" {
		judge = func(cur *catalog.Object) error { return mustMatch(e.ETag, cur) }
	}
	return q.deleteOne(c, e.Key, judge)
}
