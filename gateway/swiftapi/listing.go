package swiftapi

import (
	"net/http"
	"strconv"
	"strings"

	"ringfort/gateway/ops"
	"ringfort/internal/catalog"
)

// listParams are what a GET of an account or container asks for.
type listParams struct {
	ops.Query // Limit may be 0
	format    format
	// level says that the names of one level are wanted and no common prefixes;
	// Prefix and Delimiter are set for it.
	level bool
}

// listParams reads them.
func (q *request) listParams() (*listParams, error) {
	f, err := q.format()
	if err != nil {
		return nil, err
	}
	p := &listParams{format: f}
	if p.Limit, err = limitParam(q.params["limit"]); err != nil {
		return nil, err
	}
	p.Prefix, p.Delimiter = q.params["prefix"], q.params["delimiter"]
	p.Marker, p.EndMarker = q.params["marker"], q.params["end_marker"]
	p.Reverse = truth(q.params["reverse"])
	if path, ok := q.params["path"]; ok && q.level() == containerLevel {
		p.level, p.Delimiter = true, "/"
		p.Prefix = strings.TrimRight(path, "/")
		if p.Prefix != "" {
			p.Prefix += "/"
		}
	}
	for _, name := range [...]string{"prefix", "delimiter", "marker", "end_marker", "path"} {
		if strings.IndexByte(q.params[name], 0) >= 0 {
			return nil, refuse(http.StatusPreconditionFailed, "Parameter %q contains NULL", name)
		}
	}
	return p, nil
}

// limitParam reads the length of a page. What is no number is ignored, as in
// Swift.
func limitParam(s string) (int, error) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return maxListing, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n > maxListing {
		return 0, refuse(http.StatusPreconditionFailed, "Maximum limit is %d", maxListing)
	}
	return n, nil
}

// listContainer returns a page of objects and common prefixes: as many as were
// asked for, if there are.
func (q *request) listContainer(c *catalog.Container, p *listParams) ([]ops.Item, error) {
	var items []ops.Item
	query := p.Query
	for query.Limit > 0 {
		page, err := q.h.store.List(q.ctx, c, &query)
		if err != nil {
			return nil, err
		}
		if len(page.Items) == 0 {
			break
		}
		query.Marker = page.Items[len(page.Items)-1].Name
		batch := page.Items
		if p.level {
			if batch, err = q.oneLevel(c, batch, p.Prefix); err != nil {
				return nil, err
			}
		}
		if items == nil {
			items = batch
		} else {
			items = append(items, batch...)
		}
		query.Limit = p.Limit - len(items)
		if !page.More {
			break
		}
	}
	return items, nil
}

// oneLevel drops the object of the level's own name, and turns common prefixes
// into the objects of exactly that name, where there are some.
func (q *request) oneLevel(c *catalog.Container, items []ops.Item, own string) ([]ops.Item, error) {
	kept := items[:0]
	for i := range items {
		it := items[i]
		if it.CommonPrefix {
			page, err := q.h.store.List(q.ctx, c, &ops.Query{Prefix: it.Name, Limit: 1})
			if err != nil {
				return nil, err
			}
			if len(page.Items) == 0 || page.Items[0].Name != it.Name {
				continue
			}
			it = page.Items[0]
		}
		if it.Name != own {
			kept = append(kept, it)
		}
	}
	return kept, nil
}

// listAccount returns a page of containers with their totals.
func (q *request) listAccount(p *listParams) ([]ops.ContainerInfo, error) {
	var list []ops.ContainerInfo
	query := p.Query
	for query.Limit > 0 {
		batch, more, err := q.h.store.ListContainers(q.ctx, q.owner, &query)
		if err != nil {
			return nil, err
		}
		if len(batch) == 0 {
			break
		}
		query.Marker = batch[len(batch)-1].Name
		list = append(list, batch...)
		query.Limit = p.Limit - len(list)
		if !more {
			break
		}
	}
	if p.format.kind == plain || len(list) == 0 {
		return list, nil // a text listing shows names alone
	}
	return list, q.h.store.WithStats(q.ctx, q.owner, list)
}

// sendListing sends a listing; an empty text is 204.
func (q *request) sendListing(f format, body []byte) {
	if len(body) == 0 {
		q.set("Content-Type", f.contentType)
		q.empty(http.StatusNoContent)
		return
	}
	q.sendBody(http.StatusOK, f.contentType, body)
}
