package swiftapi

import (
	"bufio"
	"errors"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"ringfort/gateway/ops"
)

// Limits of a bulk delete, those of Swift.
const (
	maxBulkDeletes  = 10000
	maxBulkFailures = 1000
	// maxBulkLine is a line of the longest names, every byte percent encoded.
	maxBulkLine = 3*(maxContainerNameBytes+ops.MaxNameBytes) + 16
)

// bulkDelete answers POST and DELETE ?bulk-delete: the body lists objects and empty
// containers to delete, one percent-encoded path a line. The answer is always 200;
// what came of it is in the body.
func bulkDelete(q *request) error {
	q.op = "POST bulk-delete"
	if q.level() == objectLevel {
		return refuse(http.StatusNotFound, "")
	}
	f, err := q.format()
	if err != nil {
		return err
	}
	body, err := q.newEntity(math.MaxInt64)
	if err != nil {
		return err
	}
	paths, err := readPaths(body)
	var refused *Error
	if err != nil {
		if refused = toError(body.explain(err)); body.err != nil {
			return refused
		}
	}
	r := &removal{q: q}
	if refused == nil {
		r.removeAll(paths)
		switch {
		case len(r.errors) > maxBulkFailures:
			refused = refuse(http.StatusBadRequest, "Max delete failures exceeded")
		case len(r.errors) > 0:
			refused = refuse(http.StatusBadRequest, "")
		case len(paths) == 0:
			refused = refuse(http.StatusBadRequest, "Invalid bulk delete.")
		}
	}
	q.sendBody(http.StatusOK, f.contentType, r.report(f, refused))
	return nil
}

// readPaths reads the list.
func readPaths(body *entity) (paths []string, err error) {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxBulkLine)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" {
			continue
		}
		if len(paths) == maxBulkDeletes {
			return nil, refuse(http.StatusRequestEntityTooLarge, "Maximum Bulk Deletes: %d per request", maxBulkDeletes)
		}
		paths = append(paths, line)
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return nil, refuse(http.StatusBadRequest, "Invalid File Name")
	}
	return paths, lines.Err()
}

// removeAll deletes in the order of the list, as far as that can be told: objects
// side by side, a container after what was listed before it.
func (r *removal) removeAll(paths []string) {
	for len(paths) > 0 && len(r.errors) <= maxBulkFailures {
		n := 0
		for n < len(paths) && isObjectPath(paths[n]) {
			n++
		}
		n = min(n, maxBulkFailures)
		r.q.each(n, func(i int) { r.removeLine(paths[i]) })
		if paths = paths[n:]; len(paths) > 0 && !isObjectPath(paths[0]) {
			r.removeLine(paths[0])
			paths = paths[1:]
		}
	}
}

// isObjectPath reports whether a line names an object and not a container.
func isObjectPath(line string) bool {
	line = strings.TrimPrefix(line, "/")
	i := strings.IndexByte(line, '/')
	return i >= 0 && i < len(line)-1
}

// removeLine deletes what one line names.
func (r *removal) removeLine(line string) {
	path, err := url.PathUnescape(line)
	path = "/" + strings.TrimPrefix(path, "/")
	switch {
	case err != nil || !utf8.ValidString(path) || strings.IndexByte(path, 0) >= 0:
		r.mu.Lock()
		defer r.mu.Unlock()
		r.errors = append(r.errors, [2]string{line, strconv.Itoa(http.StatusPreconditionFailed) + " " + statusText(http.StatusPreconditionFailed)})
	case isObjectPath(path):
		r.remove(path)
	default:
		r.count(path, r.q.h.store.DeleteContainer(r.q.ctx, r.q.owner, strings.Trim(path, "/")))
	}
}
