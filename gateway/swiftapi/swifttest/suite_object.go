package swifttest

import (
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"time"
)

func testObject(c *client) {
	path := c.container("object")
	a := c.put(path+"/o.txt", "hello").is(201).has("Etag: "+md5Of("hello"), "Content-Length: 0")
	modified := a.header.Get("Last-Modified")
	g := c.get(path+"/o.txt").is(200).says("hello").has("Etag: "+md5Of("hello"), "Content-Length: 5",
		"Content-Type: text/plain", "Accept-Ranges: bytes", "Last-Modified: "+modified)
	if !stamp.MatchString(g.header.Get("X-Timestamp")) {
		c.t.Errorf("X-Timestamp %q", g.header.Get("X-Timestamp"))
	}
	// Last-Modified is never before the timestamp.
	var sec, frac int64
	fmt.Sscanf(g.header.Get("X-Timestamp"), "%d.%d", &sec, &frac)
	if at, err := http.ParseTime(modified); err != nil || frac > 0 && at.Unix() != sec+1 {
		c.t.Errorf("Last-Modified %q for %s", modified, g.header.Get("X-Timestamp"))
	}
	h := c.head(path+"/o.txt", "X-Newest: true").is(200).says("").has("Etag: "+md5Of("hello"), "Content-Length: 5")
	if h.header.Get("X-Timestamp") != g.header.Get("X-Timestamp") {
		c.t.Error("HEAD and GET differ")
	}
	c.put(path+"/o.txt", "again", "Content-Type: a/b").is(201)
	c.get(path + "/o.txt").says("again").has("Content-Type: a/b")
	c.put(path+"/empty", "").is(201).has("Etag: " + md5Of(""))
	c.get(path+"/empty").is(200).says("").has("Content-Length: 0", "Content-Type: application/octet-stream")
	c.do("PUT", path+"/chunked", chunked("some chunks")).is(201)
	c.get(path + "/chunked").says("some chunks").has("Content-Length: 11")
	c.put(path+"/p.png", "x", "Content-Type: a/b", "X-Detect-Content-Type: true").is(201)
	c.head(path + "/p.png").has("Content-Type: image/png")
	big := strings.Repeat("0123456789abcdef", 1<<16)
	c.do("PUT", path+"/big", chunked(big)).is(201).has("Etag: " + md5Of(big))
	if c.get(path+"/big").is(200).body != big {
		c.t.Error("a MiB came back changed")
	}
	c.delete(path + "/o.txt").is(204).says("")
	c.delete(path + "/o.txt").is(404)
	c.get(path + "/o.txt").is(404)
	c.head(path + "/o.txt").is(404)
	c.post(path + "/o.txt").is(404)
}

func testObjectMeta(c *client) {
	path := c.container("object-meta")
	o := path + "/o"
	c.put(o, "x", "X-Object-Meta-Colour: blue", "X-Object-Meta-two-WORDS_a: ü", "Content-Disposition: attachment",
		"Content-Encoding: gzip", "Content-Language: de", "Cache-Control: no-cache", "Expires: never", "X-Robots-Tag: none").is(201)
	stored := []string{"Content-Disposition: attachment", "Content-Encoding: gzip", "Content-Language: de",
		"Cache-Control: no-cache", "Expires: never", "X-Robots-Tag: none"}
	a := c.head(o, "Accept-Encoding: gzip").is(200).has(stored...)
	a.has("X-Object-Meta-Colour: blue", "X-Object-Meta-Two-Words_a: ü")
	// Time must move for the next to be seen.
	before := a.header.Get("X-Timestamp")
	for range 1000 {
		c.post(o, "X-Object-Meta-Taste: sweet", "Content-Disposition: inline").is(202)
		if c.head(o).header.Get("X-Timestamp") > before {
			break
		}
	}
	a = c.head(o).has("X-Object-Meta-Taste: sweet", "X-Object-Meta-Colour:", "Content-Disposition: inline", "Content-Encoding:",
		"Content-Language:", "Cache-Control:", "Expires:", "Etag: "+md5Of("x"), "Content-Type: application/octet-stream")
	if a.header.Get("X-Timestamp") <= before {
		c.t.Errorf("X-Timestamp %s after %s", a.header.Get("X-Timestamp"), before)
	}
	c.post(o, "Content-Type: text/new").is(202).holds("Accepted")
	c.get(o).says("x").has("Content-Type: text/new", "X-Object-Meta-Taste:", "Content-Disposition:")
	rows := c.get(path + "?format=json").rows()
	if len(rows) != 1 || rows[0]["content_type"] != "text/new" {
		c.t.Errorf("rows %v", rows)
	}
	c.put(o, "y").is(201)
	c.head(o).has("X-Object-Meta-Taste:")
}

func testNames(c *client) {
	path := c.container("names")
	names := []string{
		"a b", "a+b", "a%20b", "a%2Fb", "?", "#", "&=;", "ü/ö", "日本語", "/", "//", "a//b", "a/", ".", "..", "../x", "./x",
		"a/../b", `\`, "\x01\x7f", "\n", "~", strings.Repeat("n", 1024), "\U0001f600", "\u00a0", "'\"<>", "*",
	}
	for i, name := range names {
		body := fmt.Sprint(i)
		c.put(path+"/"+escape(name), body).is(201)
	}
	for i, name := range names {
		c.get(path + "/" + escape(name)).is(200).says(fmt.Sprint(i))
	}
	seen := map[string]bool{}
	for _, row := range c.get(path + "?format=json").rows() {
		seen[row["name"].(string)] = true
	}
	for _, name := range names {
		if !seen[name] {
			c.t.Errorf("%q is not listed", name)
		}
	}
	if len(seen) != len(names) {
		c.t.Errorf("%d names listed, want %d", len(seen), len(names))
	}
}

func testPutChecks(c *client) {
	path := c.container("put-checks")
	o := path + "/o"
	c.put(o, "hello", "ETag: "+md5Of("hello")).is(201)
	c.put(o, "hello", `ETag: "`+md5Of("hello")+`"`).is(201)
	c.put(o, "hello", "ETag: "+strings.ToUpper(md5Of("hello"))).is(201)
	c.put(o, "other", "ETag: "+md5Of("hello")).is(422)
	c.put(o, "other", "ETag: junk").is(422)
	c.do("PUT", o, chunked("other"), "ETag: "+md5Of("hello")).is(422)
	c.get(o).says("hello")
	c.put(o, "other", "If-None-Match: *").is(412)
	c.put(o, "other", "If-None-Match: "+md5Of("hello")).is(400)
	c.put(path+"/new", "new", "If-None-Match: *").is(201)
	c.get(path + "/new").says("new")
	c.put(o, "other", "If-Match: nonsense").is(201)
	c.put(o, "x", "X-Static-Large-Object: true").is(400)
	c.put(o, "x", "Content-Type: a/\xff").is(400)
	if got := c.raw("PUT {account}" + o + " HTTP/1.1\nHost: x\nX-Auth-Token: {token}\nConnection: close\n\n"); !strings.Contains(got, " 411 ") {
		c.t.Errorf("no length: %q", got)
	}
	if got := c.raw("PUT {account}" + o + " HTTP/1.1\nHost: x\nX-Auth-Token: {token}\nContent-Length: 5368709123\nExpect: 100-continue\nConnection: close\n\n"); !strings.Contains(got, " 413 ") {
		c.t.Errorf("too long: %q", got)
	}
	if got := c.raw("PUT {account}/nowhere/o HTTP/1.1\nHost: x\nX-Auth-Token: {token}\nContent-Length: 5\nExpect: 100-continue\nConnection: close\n\n"); !strings.Contains(got, " 404 ") {
		c.t.Errorf("no container, with 100-continue: %q", got)
	}
	if got := c.raw("PUT {account}" + o + " HTTP/1.1\nHost: x\nX-Auth-Token: {token}\nIf-None-Match: *\nContent-Length: 5\nExpect: 100-continue\nConnection: close\n\n"); !strings.Contains(got, " 412 ") {
		c.t.Errorf("exists, with 100-continue: %q", got)
	}
	if got := c.raw("PUT {account}" + o + " HTTP/1.1\nHost: x\nX-Auth-Token: {token}\nContent-Length: 5\nExpect: 100-continue\nConnection: close\n\nhello"); !strings.Contains(got, " 100 ") {
		c.t.Errorf("100-continue: %q", got)
	}
}

func testRanges(c *client) {
	path := c.container("ranges")
	o := path + "/o"
	c.put(o, "0123456789", "Content-Type: a/b").is(201)
	for _, test := range []struct {
		header string
		status int
		body   string
		rng    string
	}{
		{"bytes=0-0", 206, "0", "bytes 0-0/10"},
		{"bytes=2-4", 206, "234", "bytes 2-4/10"},
		{"bytes=7-", 206, "789", "bytes 7-9/10"},
		{"bytes=7-100", 206, "789", "bytes 7-9/10"},
		{"bytes=-3", 206, "789", "bytes 7-9/10"},
		{"bytes=-30", 206, "0123456789", "bytes 0-9/10"},
		{"BYTES=1-1", 206, "1", "bytes 1-1/10"},
		{"bytes = 1 - 2", 206, "12", "bytes 1-2/10"},
		{"bytes=10-", 416, "", "bytes */10"},
		{"bytes=99999999999999999999-", 416, "", "bytes */10"},
		{"bytes=-0", 416, "", "bytes */10"},
		{"bytes=10-20,-0", 416, "", "bytes */10"},
		{"bytes=10-20,1-2", 206, "12", "bytes 1-2/10"},
		{"bytes=4-2", 200, "0123456789", ""},
		{"bytes=a-b", 200, "0123456789", ""},
		{"bytes=", 200, "0123456789", ""},
		{"bytes=-", 200, "0123456789", ""},
		{"bytes=1-2,x", 200, "0123456789", ""},
		{"chars=1-2", 200, "0123456789", ""},
	} {
		a := c.get(o, "Range: "+test.header).is(test.status).has("Content-Range: " + test.rng)
		if test.status != 416 {
			a.says(test.body)
		}
	}
	if got := c.parts(o, "bytes=0-1,4-5,-1"); got != "bytes 0-1/10 01 bytes 4-5/10 45 bytes 9-9/10 9" {
		c.t.Errorf("parts %q", got)
	}
	if got := c.parts(o, "bytes=8-8,1-1"); got != "bytes 8-8/10 8 bytes 1-1/10 1" {
		c.t.Errorf("parts %q", got)
	}
	c.get(o, "Range: bytes="+strings.Repeat("1-1,", 50)+"1-1").is(416)
	c.get(o, "Range: bytes=0-4,1-5,2-6").is(416) // three overlaps
	c.get(o, "Range: bytes=0-3,1-3").is(206)
	c.get(o, "Range: bytes=8-8,7-7,6-6,5-5,4-4,3-3,2-2,1-1").is(416)
	c.get(o, "Range: bytes=7-7,6-6,5-5,4-4,3-3,2-2,1-1").is(206)
	c.put(path+"/empty", "").is(201)
	c.get(path+"/empty", "Range: bytes=0-").is(416)
	c.get(path+"/empty", "Range: bytes=-5").is(200).says("")
	c.get(o, "Range: bytes=1-2", "If-Range: "+md5Of("0123456789")).is(206)
	c.get(o, "Range: bytes=1-2", `If-Range: "other"`).is(200)
	c.head(o, "Range: bytes=1-2").is(200).has("Content-Length: 10")
}

// parts reads a multipart/byteranges answer: ranges and bodies.
func (c *client) parts(path, header string) string {
	c.t.Helper()
	a := c.get(path, "Range: "+header).is(206)
	if a.length != int64(len(a.body)) {
		c.t.Errorf("Content-Length %d for %d bytes", a.length, len(a.body))
	}
	typ, params, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	if err != nil || typ != "multipart/byteranges" {
		c.t.Fatalf("Content-Type %q", a.header.Get("Content-Type"))
	}
	var out []string
	r := multipart.NewReader(strings.NewReader(a.body), params["boundary"])
	for {
		p, err := r.NextPart()
		if err == io.EOF {
			return strings.Join(out, " ")
		}
		if err != nil {
			c.t.Fatalf("%v in %q", err, a.body)
		}
		b, err := io.ReadAll(p)
		if err != nil || p.Header.Get("Content-Type") == "" {
			c.t.Fatalf("%v, %v", err, p.Header)
		}
		out = append(out, p.Header.Get("Content-Range"), string(b))
	}
}

func testConditions(c *client) {
	path := c.container("conditions")
	o := path + "/o"
	etag := md5Of("x")
	modified := c.put(o, "x").is(201).header.Get("Last-Modified")
	at, err := http.ParseTime(modified)
	if err != nil {
		c.t.Fatal(err)
	}
	day := func(n int) string { return at.Add(time.Duration(n) * 24 * time.Hour).Format(http.TimeFormat) }
	for _, test := range []struct {
		header string
		status int
	}{
		{"If-Match: " + etag, 200}, {`If-Match: "` + etag + `"`, 200}, {"If-Match: *", 200},
		{`If-Match: "a", "` + etag + `"`, 200}, {"If-Match: a", 412},
		{"If-None-Match: " + etag, 304}, {`If-None-Match: "` + etag + `"`, 304}, {"If-None-Match: *", 304}, {"If-None-Match: a", 200},
		{"If-Modified-Since: " + day(-1), 200}, {"If-Modified-Since: " + modified, 304}, {"If-Modified-Since: " + day(1), 304},
		{"If-Unmodified-Since: " + day(-1), 412}, {"If-Unmodified-Since: " + modified, 200}, {"If-Unmodified-Since: " + day(1), 200},
		{"If-Modified-Since: junk", 200},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			a := c.do(method, o, nil, test.header)
			if a.status != test.status {
				c.t.Errorf("%s %s: %d, want %d", method, test.header, a.status, test.status)
			}
			if a.status == 304 {
				a.has("Etag: " + etag)
			}
		}
	}
	c.get(path+"/none", "If-Match: *").is(412)
	c.get(path+"/none", "If-None-Match: *").is(404)
	c.get(o, "If-None-Match: a", "If-Modified-Since: "+modified).is(200)
}

func testCopy(c *client) {
	path := c.container("copy")
	other := c.container("copy-to")
	account := c.url[strings.LastIndex(c.url, "/")+1:]
	c.put(path+"/a b", "hello", "X-Object-Meta-Colour: blue", "X-Object-Meta-Taste: sweet", "Content-Type: a/b", "Content-Encoding: x").is(201)
	modified := c.head(path + "/a%20b").header.Get("Last-Modified")
	a := c.do("COPY", path+"/a%20b", nil, "Destination: "+other+"/c%20d", "X-Object-Meta-Taste: sour").is(201)
	a.has("Etag: "+md5Of("hello"), "X-Copied-From: "+path[1:]+"/a%20b", "X-Copied-From-Account: "+account,
		"X-Copied-From-Last-Modified: "+modified, "X-Object-Meta-Colour: blue", "X-Object-Meta-Taste: sour")
	c.get(other+"/c%20d").says("hello").has("X-Object-Meta-Colour: blue", "X-Object-Meta-Taste: sour", "Content-Type: a/b", "Content-Encoding: x")
	c.do("COPY", path+"/a%20b", nil, "Destination: "+other[1:]+"/e", "X-Fresh-Metadata: true", "X-Object-Meta-New: 1").is(201)
	c.get(other+"/e").says("hello").has("X-Object-Meta-Colour:", "X-Object-Meta-New: 1", "Content-Type: a/b", "Content-Encoding:")
	c.put(other+"/f", "", "X-Copy-From: "+path+"/a%20b", "Content-Type: c/d").is(201)
	c.get(other + "/f").says("hello").has("Content-Type: c/d")
	c.put(other+"/f", "", "X-Copy-From: "+path+"/a%20b", "X-Copy-From-Account: "+account).is(201)
	c.put(other+"/f", "", "X-Copy-From: "+path+"/a%20b", "X-Copy-From-Account: AUTH_other").is(403)
	c.do("COPY", path+"/a%20b", nil, "Destination: "+other+"/x", "Destination-Account: AUTH_other").is(403)
	c.do("COPY", path+"/a%20b", nil, "Destination: "+other+"/x", "Destination-Account: a/b").is(412)
	// Only the source's range and conditions count.
	c.put(other+"/part", "", "X-Copy-From: "+path+"/a%20b", "Range: bytes=1-3").is(201)
	c.get(other + "/part").says("ell")
	c.do("COPY", path+"/a%20b", nil, "Destination: "+other+"/x", "If-Match: nonsense").is(412)
	c.do("COPY", path+"/a%20b", nil, "Destination: "+other+"/x", "If-Match: "+md5Of("hello")).is(201)
	c.put(other+"/x", "", "X-Copy-From: "+path+"/a%20b", "Range: bytes=9-").is(416)
	// To itself.
	c.put(path+"/a b", "", "X-Copy-From: "+path+"/a%20b", "X-Object-Meta-Taste: bitter").is(201).has("Etag: " + md5Of("hello"))
	c.get(path+"/a%20b").says("hello").has("X-Object-Meta-Colour: blue", "X-Object-Meta-Taste: bitter", "Content-Type: a/b")
	c.do("COPY", path+"/a%20b", nil, "Destination: "+path+"/a%20b", "X-Fresh-Metadata: true", "Content-Type: x/y").is(201)
	c.get(path+"/a%20b").says("hello").has("X-Object-Meta-Colour:", "Content-Type: x/y")
	// What is wrong.
	c.do("COPY", path+"/a%20b", nil).is(412).holds("Destination header required")
	c.do("COPY", path+"/a%20b", nil, "Destination: nothing").is(412)
	c.do("COPY", path+"/none", nil, "Destination: "+other+"/x").is(404)
	c.do("COPY", path+"/a%20b", nil, "Destination: /nowhere/x").is(404)
	c.do("COPY", "/nowhere/x", nil, "Destination: "+other+"/x").is(404)
	c.put(other+"/x", "", "X-Copy-From: nothing").is(412)
	c.put(other+"/x", "body", "X-Copy-From: "+path+"/a%20b").is(400)
	c.put(other+"/x", "", "X-Copy-From: "+path+"/none").is(404)
}
