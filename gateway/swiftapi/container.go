package swiftapi

import (
	"net/http"
	"strconv"

	"ringfort/internal/catalog"
	"ringfort/internal/errs"
)

// ownContainer returns the container of the path.
func (q *request) ownContainer() (*catalog.Container, error) {
	return q.h.store.Container(q.ctx, q.owner, q.container)
}

func headContainer(q *request) error {
	format, err := q.format()
	if err != nil {
		return err
	}
	c, err := q.ownContainer()
	if err != nil {
		return err
	}
	if err := q.describeContainer(c); err != nil {
		return err
	}
	q.set("Content-Type", format.contentType)
	q.empty(http.StatusNoContent)
	return nil
}

func getContainer(q *request) error {
	p, err := q.listParams()
	if err != nil {
		return err
	}
	c, err := q.ownContainer()
	if err != nil {
		return err
	}
	if err := q.describeContainer(c); err != nil {
		return err
	}
	items, err := q.listContainer(c, p)
	if err != nil {
		return err
	}
	q.sendListing(p.format, p.format.objects(q.container, items))
	return nil
}

// describeContainer sets the headers that GET and HEAD share.
func (q *request) describeContainer(c *catalog.Container) error {
	st, err := q.h.store.ContainerStats(q.ctx, c)
	if err != nil {
		return err
	}
	q.set("X-Container-Object-Count", strconv.FormatInt(st.Objects, 10))
	q.set("X-Container-Bytes-Used", strconv.FormatInt(st.Bytes, 10))
	q.set("X-Storage-Policy", c.Policy)
	q.set("X-Timestamp", timestampOf(c.Created))
	q.set("Last-Modified", lastModified(c.Created))
	q.set("Accept-Ranges", "bytes")
	q.setMeta(c.Meta, "x-container-meta-", "X-Container-Meta-")
	return nil
}

func putContainer(q *request) error {
	ch, err := metaChange(q.r.Header, "Container")
	if err != nil {
		return err
	}
	policy := q.header("X-Storage-Policy")
	if policy != "" && !q.knows(policy) {
		return refuse(http.StatusBadRequest, "Invalid %s '%s'", "X-Storage-Policy", policy)
	}
	meta, err := ch.apply(nil)
	if err != nil {
		return err
	}
	c, created, err := q.h.store.CreateContainer(q.ctx, &catalog.Container{
		Account: q.owner, Name: q.container, Policy: policy, Meta: meta,
	})
	if err != nil {
		return err
	}
	if created {
		q.empty(http.StatusCreated)
		return nil
	}
	if policy != "" && policy != c.Policy {
		return refuse(http.StatusConflict, "")
	}
	if err := q.changeContainer(&ch); err != nil {
		return err
	}
	q.sendBody(http.StatusAccepted, htmlType, page(http.StatusAccepted))
	return nil
}

func (q *request) knows(policy string) bool {
	for _, p := range q.h.store.Policies() {
		if p.Name == policy {
			return true
		}
	}
	return false
}

func postContainer(q *request) error {
	ch, err := metaChange(q.r.Header, "Container")
	if err != nil {
		return err
	}
	if len(ch.set) == 0 {
		if _, err := q.ownContainer(); err != nil {
			return err
		}
	} else if err := q.changeContainer(&ch); err != nil {
		return err
	}
	q.empty(http.StatusNoContent)
	return nil
}

// changeContainer merges metadata into that of an existing container.
func (q *request) changeContainer(ch *change) error {
	if len(ch.set) == 0 {
		return nil
	}
	_, err := q.h.store.UpdateContainer(q.ctx, q.owner, q.container, func(c *catalog.Container) (err error) {
		c.Meta, err = ch.apply(c.Meta)
		return err
	})
	return err
}

func deleteContainer(q *request) error {
	err := q.h.store.DeleteContainer(q.ctx, q.owner, q.container)
	if errs.Is(err, errs.NotEmpty) {
		return refuse(http.StatusConflict, "")
	}
	if err != nil {
		return err
	}
	q.empty(http.StatusNoContent)
	return nil
}
