package s3api

import (
	"net/http"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"ringfort/internal/catalog"
)

// S3's limits on tags.
const (
	maxObjectTags   = 10
	maxBucketTags   = 50
	maxTagKeyRunes  = 128
	maxTagTextRunes = 256
)

// tag is a key and a value; tags keep the order they were given in.
type tag struct{ Key, Value string }

type tags []tag

// encode gives the form in which tags are stored: that of x-amz-tagging.
func (t tags) encode() string {
	var b strings.Builder
	for i := range t {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(url.QueryEscape(t[i].Key))
		b.WriteByte('=')
		b.WriteString(url.QueryEscape(t[i].Value))
	}
	return b.String()
}

// decodeTags reads what encode wrote. What cannot be read is left out: it was
// checked when it was stored.
func decodeTags(text string) tags {
	q, err := parseQuery(text)
	if err != nil {
		return nil
	}
	t := make(tags, len(q))
	for i := range q {
		t[i] = tag{q[i].name, q[i].value}
	}
	return t
}

func countTags(text string) int {
	if text == "" {
		return 0
	}
	return strings.Count(text, "&") + 1
}

// check refuses tags that S3 would not take.
func (t tags) check(limit int) error {
	if len(t) > limit {
		if limit == maxObjectTags {
			return refuse("BadRequest", "Object tags cannot be greater than 10")
		}
		return refuse("BadRequest", "Bucket tag count cannot be greater than 50")
	}
	seen := make(map[string]bool, len(t))
	for _, x := range t {
		switch {
		case x.Key == "" || utf8.RuneCountInString(x.Key) > maxTagKeyRunes || !tagText(x.Key):
			return refuse("InvalidTag", "The TagKey you have provided is invalid", "TagKey", x.Key)
		case utf8.RuneCountInString(x.Value) > maxTagTextRunes || !tagText(x.Value):
			return refuse("InvalidTag", "The TagValue you have provided is invalid", "TagKey", x.Key, "TagValue", x.Value)
		case len(x.Key) >= 4 && strings.EqualFold(x.Key[:4], "aws:"):
			return refuse("InvalidTag", "System tags cannot be added/updated by requester", "TagKey", x.Key)
		case seen[x.Key]:
			return refuse("InvalidTag", "Cannot provide multiple Tags with the same key", "TagKey", x.Key)
		}
		seen[x.Key] = true
	}
	return nil
}

// tagText reports whether s has only what tags may have: letters, digits and
// spaces of any script, and + - = . _ : / @.
func tagText(s string) bool {
	for _, r := range s {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r) && !unicode.IsSpace(r) && !strings.ContainsRune("+-=._:/@", r) {
			return false
		}
	}
	return utf8.ValidString(s)
}

// parseTagHeader reads x-amz-tagging.
func parseTagHeader(v string) (tags, error) {
	q, err := parseQuery(v)
	if err != nil {
		return nil, invalidArgument("x-amz-tagging", v, "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag name duplicates.")
	}
	t := make(tags, len(q))
	seen := make(map[string]bool, len(q))
	for i := range q {
		if seen[q[i].name] {
			return nil, invalidArgument("x-amz-tagging", v, "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag name duplicates.")
		}
		seen[q[i].name] = true
		t[i] = tag{q[i].name, q[i].value}
	}
	return t, t.check(maxObjectTags)
}

// tagList is tags in XML.
type tagList struct {
	Tag []tag
}

// check turns a list into tags that have been checked.
func (l *tagList) check(limit int) (tags, error) {
	return tags(l.Tag), tags(l.Tag).check(limit)
}

// readTags reads the body of a request that sets tags.
func (q *request) readTags(limit int) (tags, error) {
	body, err := q.readBody(maxTaggingBytes, false)
	if err != nil {
		return nil, err
	}
	if len(body) == 0 {
		return nil, refuse("MalformedXML", "")
	}
	var in struct {
		TagSet *tagList
	}
	if err := decodeXML(body, "Tagging", &in); err != nil {
		return nil, err
	}
	if in.TagSet == nil {
		return nil, refuse("MalformedXML", "")
	}
	return in.TagSet.check(limit)
}

func (q *request) sendTags(text string) error {
	b := q.h.buffer()
	defer q.h.release(b)
	x := append((*b)[:0], xmlHeader+"<Tagging "+namespace+"><TagSet>"...)
	for _, t := range decodeTags(text) {
		x = append(x, "<Tag>"...)
		x = appendElement(x, "Key", t.Key)
		x = appendElement(x, "Value", t.Value)
		x = append(x, "</Tag>"...)
	}
	x = append(x, "</TagSet></Tagging>"...)
	*b = x
	q.sendXML(http.StatusOK, x)
	return nil
}

func getObjectTagging(q *request) error {
	_, o, err := q.object()
	if err != nil {
		return err
	}
	return q.sendTags(o.Meta.Get(metaTagging))
}

func putObjectTagging(q *request) error {
	c, err := q.container()
	if err != nil {
		return err
	}
	set, err := q.readTags(maxObjectTags)
	if err != nil {
		return err
	}
	return q.setObjectTags(c, set, http.StatusOK)
}

func deleteObjectTagging(q *request) error {
	c, err := q.container()
	if err != nil {
		return err
	}
	return q.setObjectTags(c, nil, http.StatusNoContent)
}

func (q *request) setObjectTags(c *catalog.Container, set tags, status int) error {
	_, err := q.h.store.Modify(q.ctx, c, q.key, func(o *catalog.Object) error {
		o.Meta = withTags(o.Meta, set)
		return nil
	})
	if err != nil {
		return err
	}
	q.send(status)
	return nil
}

func withTags(meta catalog.Pairs, set tags) catalog.Pairs {
	if len(set) == 0 {
		return meta.Without(metaTagging)
	}
	return meta.With(metaTagging, set.encode())
}

// object finds the request's bucket and object.
func (q *request) object() (*catalog.Container, *catalog.Object, error) {
	c, err := q.container()
	if err != nil {
		return nil, nil, err
	}
	o, err := q.h.store.Head(q.ctx, c, q.key)
	return c, o, err
}
