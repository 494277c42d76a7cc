package swifttest

import (
	"net/url"
	"strings"
)

// listed returns a text listing's lines, joined with spaces.
func (c *client) listed(path, query string) string {
	c.t.Helper()
	a := c.get(path + "?" + query)
	if a.status == 204 {
		return ""
	}
	return strings.ReplaceAll(strings.TrimSuffix(a.is(200).body, "\n"), "\n", " ")
}

func testListing(c *client) {
	path := c.container("listing")
	for _, name := range []string{"a", "b/1", "b/2", "b/c/3", "b", "d", "é", "z!z"} {
		c.put(path+"/"+escape(name), name).is(201)
	}
	for _, test := range []struct{ query, want string }{
		{"", "a b b/1 b/2 b/c/3 d z!z é"},
		{"limit=3", "a b b/1"},
		{"limit=junk", "a b b/1 b/2 b/c/3 d z!z é"},
		{"limit=0", ""},
		{"marker=b/1", "b/2 b/c/3 d z!z é"},
		{"marker=b/1&limit=2", "b/2 b/c/3"},
		{"end_marker=b/2", "a b b/1"},
		{"marker=a&end_marker=b/2", "b b/1"},
		{"prefix=b/", "b/1 b/2 b/c/3"},
		{"prefix=b&limit=2", "b b/1"},
		{"delimiter=/", "a b b/ d z!z é"},
		{"delimiter=/&limit=3", "a b b/"},
		{"delimiter=/&marker=b/", "d z!z é"},
		{"delimiter=/&marker=b", "b/ d z!z é"},
		{"delimiter=/&prefix=b/", "b/1 b/2 b/c/"},
		{"delimiter=/&prefix=b", "b b/"},
		{"delimiter=b/c", "a b b/1 b/2 b/c d z!z é"},
		{"reverse=true", "é z!z d b/c/3 b/2 b/1 b a"},
		{"reverse=true&marker=b/2", "b/1 b a"},
		{"reverse=true&marker=d&end_marker=b", "b/c/3 b/2 b/1"},
		{"reverse=1&delimiter=/", "é z!z d b/ b a"},
		{"reverse=on&delimiter=/&marker=d&limit=1", "b/"},
		{"reverse=false&limit=1", "a"},
		{"prefix=" + url.QueryEscape("é"), "é"},
		{"prefix=x", ""},
	} {
		if got := c.listed(path, test.query); got != test.want {
			c.t.Errorf("%s: %q, want %q", test.query, got, test.want)
		}
	}
	c.get(path + "?limit=10001").is(412)
	c.get(path + "?limit=10000").is(200)
	c.get("?limit=10001").is(412)
	// A listing in pages is the listing.
	for _, query := range []string{"", "delimiter=/", "reverse=true", "reverse=true&delimiter=/"} {
		var all []string
		marker := ""
		for range 20 {
			page := c.listed(path, query+"&limit=2&marker="+url.QueryEscape(marker))
			if page == "" {
				break
			}
			names := strings.Split(page, " ")
			all = append(all, names...)
			marker = names[len(names)-1]
		}
		if got, want := strings.Join(all, " "), c.listed(path, query); got != want {
			c.t.Errorf("pages of %q: %q, want %q", query, got, want)
		}
	}
}

func testFormats(c *client) {
	path := c.container("formats")
	odd := `<o>&"` + "\t'é"
	c.put(path+"/"+escape(odd), "12", "Content-Type: text/x; a=\"b\"").is(201)
	c.put(path+"/dir/o", "").is(201)
	for _, test := range []struct {
		query, accept string
		status        int
		contentType   string
	}{
		{"", "", 200, "text/plain; charset=utf-8"},
		{"format=json", "", 200, "application/json; charset=utf-8"},
		{"format=JSON", "text/plain", 200, "application/json; charset=utf-8"},
		{"format=xml", "", 200, "application/xml; charset=utf-8"},
		{"format=plain", "application/json", 200, "text/plain; charset=utf-8"},
		{"format=junk", "application/json", 200, "text/plain; charset=utf-8"},
		{"", "application/json", 200, "application/json; charset=utf-8"},
		{"", "application/xml;q=0.5,application/json;q=0.9", 200, "application/json; charset=utf-8"},
		{"", "text/xml", 200, "text/xml; charset=utf-8"},
		{"", "text/*", 200, "text/plain; charset=utf-8"},
		{"", "application/*", 200, "application/json; charset=utf-8"},
		{"", "*/*", 200, "text/plain; charset=utf-8"},
		{"", "image/png", 406, "text/html; charset=UTF-8"},
		{"", "image/png, */*;q=0.1", 200, "text/plain; charset=utf-8"},
		{"", "application/json;q=0", 406, "text/html; charset=UTF-8"},
	} {
		header := []string{}
		if test.accept != "" {
			header = append(header, "Accept: "+test.accept)
		}
		c.get(path+"?"+test.query, header...).is(test.status).has("Content-Type: " + test.contentType)
		if test.status == 200 {
			c.head(path+"?"+test.query, header...).is(204)
		}
	}
	rows := c.get(path + "?format=json").rows()
	if len(rows) != 2 || rows[0]["name"] != odd || rows[0]["bytes"] != 2.0 || rows[0]["hash"] != md5Of("12") || rows[0]["content_type"] != `text/x; a="b"` {
		c.t.Errorf("rows %v", rows)
	}
	modified := rows[0]["last_modified"].(string)
	c.get(path + "?format=xml&delimiter=/").says(`<?xml version="1.0" encoding="UTF-8"?>` + "\n" + `<container name="` + path[1:] +
		`"><object><name>&lt;o&gt;&amp;&quot;&#9;'é</name><hash>` + md5Of("12") +
		`</hash><bytes>2</bytes><content_type>text/x; a=&quot;b&quot;</content_type><last_modified>` + modified +
		`</last_modified></object><subdir name="dir/"><name>dir/</name></subdir></container>`)
	c.get(path + "?format=json&delimiter=/&prefix=dir").says(`[{"subdir":"dir/"}]`)
	c.get(path + "?format=json&prefix=none").is(200).says("[]")
	c.get(path + "?format=xml&prefix=none").is(200).says(`<?xml version="1.0" encoding="UTF-8"?>` + "\n" + `<container name="` + path[1:] + `"></container>`)
	c.get(path + "?prefix=none").is(204).says("")
}

// testLevels is the path parameter: the objects of one level, without prefixes.
func testLevels(c *client) {
	path := c.container("levels")
	for _, name := range []string{"a", "photos/", "photos/animals/", "photos/animals/cat", "photos/me", "photos/plants/fern", "x/y"} {
		c.put(path+"/"+name, "").is(201)
	}
	for _, test := range []struct{ query, want string }{
		{"path=", "a photos/"},
		{"path=photos", "photos/animals/ photos/me"},
		{"path=photos/", "photos/animals/ photos/me"},
		{"path=photos/animals", "photos/animals/cat"},
		{"path=photos&limit=1", "photos/animals/"},
		{"path=photos&marker=photos/animals/", "photos/me"},
		{"path=photos&reverse=true", "photos/me photos/animals/"},
		{"path=none", ""},
	} {
		if got := c.listed(path, test.query); got != test.want {
			c.t.Errorf("%s: %q, want %q", test.query, got, test.want)
		}
	}
}
