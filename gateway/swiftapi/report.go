package swiftapi

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"ringfort/gateway/ops"
	"ringfort/internal/catalog"
)

// errorList says what is wrong with which object, in the form that Swift's bulk
// operations answer in.
type errorList [][2]string

// counted is a number or text of a report, under its name.
type counted struct{ name, value string }

// print makes a report: what is in head, then the errors.
func (l errorList) print(f format, head []counted, root string) []byte {
	var b []byte
	switch f.kind {
	case jsonText:
		b = append(b, '{')
		for _, h := range head {
			b = append(appendJSON(b, h.name), ": "...)
			if _, err := strconv.Atoi(h.value); err == nil {
				b = append(b, h.value...)
			} else {
				b = appendJSON(b, h.value)
			}
			b = append(b, ", "...)
		}
		b = append(b, `"Errors": [`...)
		for i, e := range l {
			if i > 0 {
				b = append(b, ", "...)
			}
			b = append(appendJSON(append(b, '['), e[0]), ", "...)
			b = append(appendJSON(b, e[1]), ']')
		}
		return append(b, "]}"...)
	case xmlText:
		b = append(b, "<"+root+">\n"...)
		for _, h := range head {
			tag := strings.ReplaceAll(strings.ToLower(h.name), " ", "_")
			b = append(appendXML(append(b, "<"+tag+">"...), h.value), "</"+tag+">\n"...)
		}
		b = append(b, "<errors>\n"...)
		for _, e := range l {
			b = append(appendXML(append(b, "<object><name>"...), e[0]), "</name><status>"...)
			b = append(appendXML(b, e[1]), "</status></object>\n"...)
		}
		return append(b, "</errors>\n</"+root+">\n"...)
	}
	for _, h := range head {
		b = append(b, h.name+": "+h.value+"\n"...)
	}
	b = append(b, "Errors:\n"...)
	for _, e := range l {
		b = append(b, e[0]+", "+e[1]+"\n"...)
	}
	return b
}

// escapePath encodes a path's segments, slashes left alone.
func escapePath(p string) string { return (&url.URL{Path: p}).EscapedPath() }

// maxDeletes bounds how many objects one request deletes.
const maxDeletes = 100000

// removal is things on their way out: a static large object with its segments, or
// what a bulk delete lists.
type removal struct {
	q         *request
	seen      map[string]bool
	pieces    []string // objects to go first, as "/container/object"
	manifests []string // then these, in order

	mu       sync.Mutex // guards what follows while pieces are deleted
	deleted  int
	notFound int
	errors   errorList
}

// deleteManifest answers DELETE ?multipart-manifest=delete: always 200, what came
// of it is in the body.
func deleteManifest(q *request) error {
	f, err := q.format()
	if err != nil {
		return err
	}
	top := "/" + q.container + "/" + q.object
	r := &removal{q: q, seen: map[string]bool{top: true}}
	r.collect(q.ctx, top, 0)
	if len(r.errors) == 0 {
		q.each(len(r.pieces), func(i int) { r.remove(r.pieces[i]) })
	}
	for _, m := range r.manifests {
		if len(r.errors) == 0 {
			r.remove(m)
		}
	}
	var refused *Error
	if len(r.errors) > 0 {
		refused = refuse(http.StatusBadRequest, "")
	}
	q.sendBody(http.StatusOK, f.contentType, r.report(f, refused))
	return nil
}

// report prints what came of it; refused is nil if all went well.
func (r *removal) report(f format, refused *Error) []byte {
	status, text := "200 OK", ""
	if refused != nil {
		status, text = strconv.Itoa(refused.Status)+" "+statusText(refused.Status), refused.Text
	}
	slices.SortFunc(r.errors, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	return r.errors.print(f, []counted{
		{"Number Deleted", strconv.Itoa(r.deleted)}, {"Number Not Found", strconv.Itoa(r.notFound)},
		{"Response Body", text}, {"Response Status", status},
	}, "delete")
}

func (r *removal) problem(path, what string) {
	r.errors = append(r.errors, [2]string{escapePath(path), what})
}

// collect finds out what a manifest names.
func (r *removal) collect(ctx context.Context, path string, depth int) {
	stored, err := r.manifest(ctx, path, depth)
	switch {
	case isNot(err):
		r.notFound++
		return
	case err != nil:
		e := toError(err)
		what := e.Text
		if what == "" {
			what = strconv.Itoa(e.Status) + " " + statusText(e.Status)
		}
		r.problem(path, what)
		return
	case depth > maxNesting:
		r.problem(path, "Max recursion depth exceeded")
		return
	}
	for i := range stored {
		s := &stored[i]
		if s.Data != nil || r.seen[s.Name] {
			continue
		}
		if len(r.seen) == maxDeletes {
			r.problem(path, "More objects than one request deletes")
			return
		}
		r.seen[s.Name] = true
		if s.SubSLO {
			r.collect(ctx, s.Name, depth+1)
		} else {
			r.pieces = append(r.pieces, s.Name)
		}
	}
	r.manifests = append(r.manifests, path)
}

// manifest reads the manifest at path. An object in parts has none and needs none,
// but is to go if the request itself names it.
func (r *removal) manifest(ctx context.Context, path string, depth int) ([]storedSegment, error) {
	c, name, err := r.find(ctx, path)
	if err != nil {
		return nil, err
	}
	o, h, err := r.q.h.store.Open(ctx, c, name)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	switch {
	case depth == 0 && inParts(o):
		return nil, nil
	case !isSLO(o):
		return nil, refuse(http.StatusBadRequest, "Not an SLO manifest")
	}
	return r.q.readManifest(ctx, o, h)
}

func (r *removal) find(ctx context.Context, path string) (*catalog.Container, string, error) {
	container, name, ok := splitObjectPath(path)
	switch {
	case len(container) > maxContainerNameBytes || len(name) > ops.MaxNameBytes:
		return nil, "", refuse(http.StatusNotFound, "") // as to a DELETE of its own
	case !ok:
		return nil, "", refuse(http.StatusBadRequest, "")
	}
	c, err := r.q.h.store.Container(ctx, r.q.owner, container)
	return c, name, err
}

// remove deletes one object and counts it.
func (r *removal) remove(path string) {
	c, name, err := r.find(r.q.ctx, path)
	if err == nil {
		err = r.q.h.store.Delete(r.q.ctx, c, name, nil)
	}
	r.count(path, err)
}

// count enters what came of deleting one thing.
func (r *removal) count(path string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil:
		r.deleted++
	case isNot(err):
		r.notFound++
	default:
		s := toError(err).Status
		r.problem(path, strconv.Itoa(s)+" "+statusText(s))
	}
}
