package swifttest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
)

func testDLO(c *client) {
	path := c.container("dlo")
	segments := c.container("dlo-segments")
	m := path + "/manifest"
	for i, s := range []string{"aaa", "bb", "", "cccc"} {
		c.put(fmt.Sprintf("%s/pre fix/%d", segments, i), s).is(201)
	}
	c.put(segments+"/prx", "no").is(201)
	value := segments[1:] + "/pre%20fix/"
	c.put(m, "", "X-Object-Manifest: "+value, "Content-Type: x/y", "X-Object-Meta-A: b").is(201).has("Etag: " + md5Of(""))
	etag := `"` + md5Of(md5Of("aaa"), md5Of("bb"), md5Of(""), md5Of("cccc")) + `"`
	c.get(m).is(200).says("aaabbcccc").has("Etag: "+etag, "Content-Length: 9", "X-Object-Manifest: "+value, "Content-Type: x/y", "X-Object-Meta-A: b", "X-Static-Large-Object:")
	c.head(m).is(200).has("Etag: "+etag, "Content-Length: 9", "X-Object-Manifest: "+value)
	c.get(m, "Range: bytes=2-5").is(206).says("abbc").has("Content-Range: bytes 2-5/9")
	c.get(m, "Range: bytes=-2").is(206).says("cc")
	c.get(m, "Range: bytes=9-").is(416).has("Content-Range: bytes */9")
	if got := c.parts(m, "bytes=0-0,4-5"); got != "bytes 0-0/9 a bytes 4-5/9 bc" {
		c.t.Errorf("parts %q", got)
	}
	c.get(m, "If-None-Match: "+etag).is(304)
	c.get(m, "If-Match: "+strings.Trim(etag, `"`)).is(200)
	c.get(m, "If-Match: x").is(412)
	c.get(m+"?multipart-manifest=get").is(200).says("").has("X-Object-Manifest: "+value, "Etag: "+md5Of(""), "Content-Type: x/y")
	// It is what lies under the prefix.
	c.put(segments+"/pre fix/9", "z").is(201)
	c.get(m).says("aaabbccccz")
	c.delete(segments + "/pre%20fix/9").is(204)
	// A copy is the whole, or the manifest.
	c.do("COPY", m, nil, "Destination: "+path+"/whole").is(201).has("Etag: " + md5Of("aaabbcccc"))
	c.get(path+"/whole").says("aaabbcccc").has("X-Object-Manifest:", "Content-Type: x/y", "X-Object-Meta-A: b")
	c.do("COPY", m+"?multipart-manifest=get", nil, "Destination: "+path+"/link").is(201)
	c.get(path + "/link").says("aaabbcccc").has("X-Object-Manifest: " + value)
	c.do("COPY", m, nil, "Destination: "+path+"/part", "Range: bytes=3-5").is(201)
	c.get(path + "/part").says("bbc")
	// A manifest under its own prefix, with bytes of its own.
	c.put(path+"/self", "head-", "X-Object-Manifest: "+path[1:]+"/self").is(201)
	c.put(path+"/self-1", "one").is(201)
	c.get(path + "/self").says("head-one")
	// POST must say it again.
	c.post(m, "X-Object-Manifest: "+value, "X-Object-Meta-C: d").is(202)
	c.get(m).says("aaabbcccc").has("X-Object-Meta-C: d")
	c.post(m, "X-Object-Meta-C: e").is(202)
	c.get(m).says("").has("X-Object-Manifest:")
	for _, bad := range []string{"nothing", "/c/p", "c/", "c//p", "c/p?x", "c/p&x", "c%zz/p"} {
		c.put(m, "", "X-Object-Manifest: "+bad).is(400)
		c.post(m, "X-Object-Manifest: "+bad).is(400)
	}
	c.put(m, "", "X-Object-Manifest: nowhere/p").is(201)
	c.get(m).is(404)
	c.put(m, "", "X-Object-Manifest: "+segments[1:]+"/none").is(201)
	c.get(m).is(200).says("").has("Content-Length: 0")
}

// manifest writes a static large object's manifest of objects that were put, with
// all that can be said of them.
func manifest(segments ...string) string {
	var list []map[string]any
	for _, s := range segments {
		path, body, _ := strings.Cut(s, "=")
		list = append(list, map[string]any{"path": path, "etag": md5Of(body), "size_bytes": len(body)})
	}
	b, _ := json.Marshal(list)
	return string(b)
}

func testSLO(c *client) {
	path := c.container("slo")
	m := path + "/manifest"
	c.put(path+"/s/1", "aaa").is(201)
	c.put(path+"/s/2", "bb", "Content-Type: s/2").is(201)
	c.put(path+"/s/3", "cccc").is(201)
	body := manifest(path+"/s/1=aaa", path+"/s/2=bb", path+"/s/3=cccc")
	etag := `"` + md5Of(md5Of("aaa"), md5Of("bb"), md5Of("cccc")) + `"`
	c.put(m+"?multipart-manifest=put", body, "Content-Type: x/y", "X-Object-Meta-A: b").is(201).has("Etag: " + etag)
	c.get(m).is(200).says("aaabbcccc").has("Etag: "+etag, "Content-Length: 9", "X-Static-Large-Object: True", "Content-Type: x/y", "X-Object-Meta-A: b")
	c.head(m).is(200).has("Etag: "+etag, "Content-Length: 9", "X-Static-Large-Object: True", "Content-Type: x/y")
	c.get(m, "Range: bytes=2-5").is(206).says("abbc").has("Content-Range: bytes 2-5/9", "Content-Length: 4")
	c.get(m, "Range: bytes=3-4").is(206).says("bb")
	c.get(m, "Range: bytes=-1").is(206).says("c")
	c.get(m, "Range: bytes=9-").is(416)
	if got := c.parts(m, "bytes=0-3,8-"); got != "bytes 0-3/9 aaab bytes 8-8/9 c" {
		c.t.Errorf("parts %q", got)
	}
	c.get(m, "If-None-Match: "+etag).is(304).has("Etag: " + etag)
	c.get(m, "If-Match: "+etag).is(200)
	c.get(m, "If-Match: x").is(412)

	g := c.get(m+"?multipart-manifest=get").is(200).has("Content-Type: application/json; charset=utf-8", "X-Static-Large-Object: True")
	g.has("Etag: "+md5Of(g.body), fmt.Sprintf("Content-Length: %d", len(g.body)))
	rows := g.rows()
	if len(rows) != 3 || rows[1]["name"] != path+"/s/2" || rows[1]["hash"] != md5Of("bb") || rows[1]["bytes"] != 2.0 || rows[1]["content_type"] != "s/2" || rows[1]["last_modified"] == nil {
		c.t.Errorf("manifest %v", rows)
	}
	c.head(m+"?multipart-manifest=get").is(200).has(fmt.Sprintf("Content-Length: %d", len(g.body)), "Etag: "+md5Of(g.body))
	raw := c.get(m + "?multipart-manifest=get&format=raw").is(200)
	if rows := raw.rows(); len(rows) != 3 || rows[0]["path"] != path+"/s/1" || rows[0]["etag"] != md5Of("aaa") || rows[0]["size_bytes"] != 3.0 {
		c.t.Errorf("raw manifest %v", rows)
	}
	c.put(path+"/again?multipart-manifest=put", raw.body).is(201).has("Etag: " + etag)
	c.delete(path + "/again").is(204)

	// Listing and totals.
	rows = c.get(path + "?format=json&prefix=manifest").rows()
	if len(rows) != 1 || rows[0]["bytes"] != 9.0 || rows[0]["hash"] != md5Of(g.body) || rows[0]["slo_etag"] != etag || rows[0]["content_type"] != "x/y" {
		c.t.Errorf("row %v", rows)
	}
	c.head(path).has(fmt.Sprintf("X-Container-Bytes-Used: %d", 9+len(g.body)))

	// POST leaves it a large object.
	c.post(m, "X-Object-Meta-C: d").is(202)
	c.get(m).says("aaabbcccc").has("X-Object-Meta-C: d", "X-Object-Meta-A:", "X-Static-Large-Object: True", "Etag: "+etag)
	rows = c.get(path + "?format=json&prefix=manifest").rows()
	if rows[0]["bytes"] != 9.0 {
		c.t.Errorf("row %v", rows)
	}
	// Copies.
	c.do("COPY", m, nil, "Destination: "+path+"/whole").is(201).has("Etag: " + md5Of("aaabbcccc"))
	c.get(path+"/whole").says("aaabbcccc").has("X-Static-Large-Object:", "Content-Type: x/y", "Etag: "+md5Of("aaabbcccc"))
	c.do("COPY", m+"?multipart-manifest=get", nil, "Destination: "+path+"/link").is(201)
	c.get(path+"/link").says("aaabbcccc").has("X-Static-Large-Object: True", "Content-Type: x/y", "Etag: "+etag)
	c.do("COPY", m+"?multipart-manifest=get", nil, "Destination: "+m, "X-Object-Meta-E: f").is(201)
	c.get(m).says("aaabbcccc").has("X-Object-Meta-E: f", "X-Object-Meta-C: d", "X-Static-Large-Object: True")
	c.put(path+"/link?multipart-manifest=put", "[]", "X-Copy-From: "+m).is(405)

	// Changed and missing segments.
	c.put(path+"/s/3", "dddd").is(201)
	c.get(m, "Range: bytes=5-8").is(409)
	c.get(m, "Range: bytes=0-4").is(206).says("aaabb")
	c.put(path+"/s/1", "aaaa").is(201)
	c.get(m).is(409)
	c.head(m).is(200)
	c.delete(path + "/s/1").is(204)
	c.get(m).is(409)
	c.put(path+"/s/1", "aaa").is(201)
	c.put(path+"/s/3", "cccc").is(201)
	c.get(m).is(200).says("aaabbcccc")
	c.put(m, "plain").is(201)
	c.get(m).says("plain").has("X-Static-Large-Object:")
}

// testSLOSegments is what a segment can be: a range, data, another manifest.
func testSLOSegments(c *client) {
	path := c.container("slo-segments")
	c.put(path+"/s", "0123456789").is(201)
	put := func(name, body string) *answer { return c.put(path+"/"+name+"?multipart-manifest=put", body) }
	p := func(name, rest string) string { return `{"path":"` + path + `/` + name + `"` + rest + `}` }

	put("ranges", "["+p("s", `,"range":"2-4"`)+","+p("s", `,"range":"-2"`)+","+p("s", `,"range":"8-"`)+","+p("s", `,"range":"0-9"`)+"]").is(201).
		has(`Etag: "` + md5Of(md5Of("0123456789"), ":2-4;", md5Of("0123456789"), ":8-9;", md5Of("0123456789"), ":8-9;", md5Of("0123456789")) + `"`)
	c.get(path + "/ranges").says("23489890123456789")
	c.get(path+"/ranges", "Range: bytes=1-6").says("348989")
	rows := c.get(path + "/ranges?multipart-manifest=get").rows()
	if rows[0]["range"] != "2-4" || rows[0]["bytes"] != 10.0 || rows[3]["range"] != nil {
		c.t.Errorf("manifest %v", rows)
	}

	data := base64.StdEncoding.EncodeToString([]byte("inline"))
	put("data", `[{"data":"`+data+`"},`+p("s", `,"range":"0-1"`)+`,{"data":"`+data+`"}]`).is(201).
		has(`Etag: "` + md5Of(md5Of("inline"), md5Of("0123456789"), ":0-1;", md5Of("inline")) + `"`)
	c.get(path + "/data").says("inline01inline").has("Content-Length: 14")
	c.get(path+"/data", "Range: bytes=4-9").says("ne01in")
	raw := c.get(path + "/data?multipart-manifest=get&format=raw")
	put("data2", raw.body).is(201)
	c.get(path + "/data2").says("inline01inline")

	a := c.head(path + "/data")
	inner := strings.Trim(a.header.Get("Etag"), `"`)
	put("nested", "["+p("data", `,"etag":"`+inner+`","size_bytes":14`)+","+p("s", "")+","+p("data", `,"range":"6-7"`)+"]").is(201)
	c.get(path + "/nested").says("inline01inline012345678901").has("Content-Length: 26")
	c.get(path+"/nested", "Range: bytes=12-15").says("ne01")
	rows = c.get(path + "/nested?multipart-manifest=get").rows()
	if rows[0]["sub_slo"] != true || rows[0]["bytes"] != 14.0 || rows[0]["hash"] != inner {
		c.t.Errorf("manifest %v", rows)
	}
	// Ten levels can be read, no more.
	name := "data"
	for i := range 11 {
		next := fmt.Sprintf("deep-%d", i)
		put(next, "["+p(name, "")+"]").is(201)
		name = next
	}
	c.get(path + "/deep-8").is(200).says("inline01inline")
	c.get(path + "/deep-10").is(409)

	// A dynamic large object as a segment, and static ones in a dynamic.
	c.put(path+"/dyn", "", "X-Object-Manifest: "+path[1:]+"/data").is(201)
	c.get(path + "/dyn").says("inline01inlineinline01inline")
	put("of-dyn", "["+p("dyn", "")+"]").is(201)
	c.get(path + "/of-dyn").says("inline01inlineinline01inline")
	c.put(path+"/data3", "!").is(201)
	c.get(path + "/of-dyn").is(409) // it has changed
}

// testSLOManifests is what is wrong with manifests.
func testSLOManifests(c *client) {
	path := c.container("slo-manifests")
	c.put(path+"/s", "0123456789").is(201)
	c.put(path+"/empty", "").is(201)
	s := `"path":"` + path + `/s"`
	for _, test := range []struct {
		body   string
		status int
		says   string
	}{
		{"", 400, "Manifest must be valid JSON"},
		{"{", 400, "Manifest must be"},
		{"{}", 400, "Manifest must be a list"},
		{"[", 400, "valid JSON"},
		{"[] []", 400, "valid JSON"},
		{"[]", 400, "at least one"},
		{`["a"]`, 400, "Index 0: not a JSON object"},
		{`[null]`, 400, "Index 0: not a JSON object"},
		{`[{}]`, 400, `Index 0: expected keys to include one of "path" or "data"`},
		{`[{` + s + `,"data":"eA=="}]`, 400, "Index 0: expected keys"},
		{`[{` + s + `,"foo":1}]`, 400, `extraneous key`},
		{`[{"data":"eA==","etag":"x"}]`, 400, `extraneous key`},
		{`[{"data":"eA=="}]`, 400, "at least one object"},
		{`[{"data":"!"},{` + s + `}]`, 400, "Index 0: data must be valid base64"},
		{`[{"data":""},{` + s + `}]`, 400, "Index 0: too small"},
		{`[{"data":1},{` + s + `}]`, 400, "Index 0: data must be"},
		{`[{"path":1}]`, 400, `"path" must be a string`},
		{`[{"path":"/c"}]`, 400, "path does not refer to an object"},
		{`[{"path":"c/"}]`, 400, "path does not refer to an object"},
		{`[{` + s + `,"etag":1}]`, 400, "etag must be a string"},
		{`[{` + s + `,"size_bytes":"x"}]`, 400, "invalid size_bytes"},
		{`[{` + s + `,"size_bytes":-1}]`, 400, "invalid size_bytes"},
		{`[{` + s + `,"size_bytes":0}]`, 400, "too small"},
		{`[{` + s + `,"size_bytes":"10"}]`, 201, ""},
		{`[{` + s + `,"size_bytes":null,"etag":null,"range":null}]`, 201, ""},
		{`[{` + s + `,"range":"x"}]`, 400, "invalid range"},
		{`[{` + s + `,"range":"1-2,3-4"}]`, 400, "multiple ranges"},
		{`[{` + s + `,"range":"10-","size_bytes":10}]`, 400, "unsatisfiable range"},
		{`[{` + s + `,"range":"10-"}]`, 400, path + "/s, Unsatisfiable Range"},
		{`[{` + s + `,"size_bytes":11}]`, 400, path + "/s, Size Mismatch"},
		{`[{` + s + `,"etag":"` + md5Of("x") + `"}]`, 400, path + "/s, Etag Mismatch"},
		{`[{"path":"` + path + `/none"}]`, 400, path + "/none, 404 Not Found"},
		{`[{"path":"/nowhere/none"}]`, 400, "/nowhere/none, 404 Not Found"},
		{`[{"path":"` + path + `/empty"}]`, 400, path + "/empty, Too Small"},
		{`[{"path":"` + path + `/m"}]`, 409, "cannot be included"},
		{"[" + strings.Repeat("{"+s+"},", 1000) + "{" + s + "}]", 413, "1000"},
		{"[" + strings.Repeat("{"+s+"},", 999) + "{" + s + "}]", 201, ""},
		{"[" + strings.Repeat(`{"data":"eA=="},`, 10000) + "{" + s + "}]", 413, "10000"},
		{"[" + strings.Repeat(`{"data":"eA=="},`, 9999) + "{" + s + "}]", 201, ""},
		{"[" + strings.Repeat(" ", 8<<20) + "]", 413, ""},
	} {
		a := c.put(path+"/m?multipart-manifest=put", test.body)
		if a.status != test.status {
			c.t.Errorf("%.100s: %d, want %d: %s", test.body, a.status, test.status, a.body)
			continue
		}
		a.holds(test.says)
	}
	m := path + "/m?multipart-manifest=put"
	a := c.put(m, `[{`+s+`,"size_bytes":11},{"path":"`+path+`/none"}]`, "Accept: application/json").is(400)
	var report struct{ Errors [][2]string }
	if err := json.Unmarshal([]byte(a.body), &report); err != nil || len(report.Errors) != 2 || report.Errors[0] != [2]string{path + "/s", "Size Mismatch"} {
		c.t.Errorf("%v in %s", err, a.body)
	}
	a = c.put(m, `[1,{`+s+`},{}]`).is(400)
	a.holds("Index 0: ").holds("\nIndex 2: ")
	c.put(m, "[{"+s+"}]", "ETag: "+md5Of("x")).is(422)
	c.put(m, "[{"+s+"}]", `ETag: "`+md5Of(md5Of("0123456789"))+`"`).is(201)
	c.put(m, "[{"+s+"}]", "If-None-Match: *").is(412)
	c.put(m, "[{"+s+"}]", "X-Object-Manifest: c/p").is(400)
	c.do("PUT", m, chunked("[{"+s+"}]")).is(201)
	c.get(path + "/m").says("0123456789")
	if got := c.raw("PUT {account}" + m + " HTTP/1.1\nHost: x\nX-Auth-Token: {token}\nConnection: close\n\n"); !strings.Contains(got, " 411 ") {
		c.t.Errorf("no length: %q", got)
	}
	if got := c.raw("PUT {account}" + m + " HTTP/1.1\nHost: x\nX-Auth-Token: {token}\nContent-Length: 8388609\nExpect: 100-continue\nConnection: close\n\n"); !strings.Contains(got, " 413 ") {
		c.t.Errorf("too long: %q", got)
	}
}

func testSLODelete(c *client) {
	path := c.container("slo-delete")
	for _, s := range []string{"1", "2", "3"} {
		c.put(path+"/s/"+s, "x"+s).is(201)
	}
	c.put(path+"/inner?multipart-manifest=put", manifest(path+"/s/1=x1", path+"/s/2=x2")).is(201)
	c.put(path+"/outer?multipart-manifest=put", `[{"path":"`+path+`/inner"},{"path":"`+path+`/s/3"},{"path":"`+path+`/s/1"}]`).is(201)
	c.put(path+"/plain", "x").is(201)
	c.delete(path + "/plain?multipart-manifest=delete").is(200).holds("Response Status: 400 Bad Request").holds("Not an SLO manifest")
	c.get(path + "/plain").is(200)
	c.delete(path + "/none?multipart-manifest=delete").is(200).holds("Number Not Found: 1").holds("Response Status: 200 OK")
	c.delete(path + "/s/2").is(204)
	a := c.delete(path+"/outer?multipart-manifest=delete", "Accept: application/json").is(200).has("Content-Type: application/json; charset=utf-8")
	var report struct {
		Deleted  int    `json:"Number Deleted"`
		NotFound int    `json:"Number Not Found"`
		Status   string `json:"Response Status"`
		Errors   [][]string
	}
	if err := json.Unmarshal([]byte(a.body), &report); err != nil || report.Deleted != 4 || report.NotFound != 1 || report.Status != "200 OK" || len(report.Errors) != 0 {
		c.t.Errorf("%v in %s", err, a.body)
	}
	if got := c.listed(path, ""); got != "plain" {
		c.t.Errorf("left: %q", got)
	}
	// A DELETE without the parameter leaves the segments.
	c.put(path+"/s/1", "x1").is(201)
	c.put(path+"/m?multipart-manifest=put", manifest(path+"/s/1=x1")).is(201)
	c.delete(path + "/m").is(204)
	if got := c.listed(path, ""); got != "plain s/1" {
		c.t.Errorf("left: %q", got)
	}
	c.put(path+"/m?multipart-manifest=put", manifest(path+"/s/1=x1")).is(201)
	c.delete(path+"/m?multipart-manifest=delete", "Accept: application/xml").is(200).holds("<number_deleted>2</number_deleted>")
}

func testBulkDelete(c *client) {
	path := c.container("bulk")
	full := c.container("bulk-full")
	for _, name := range []string{"a", "b c", "ü/d", "e"} {
		c.put(path+"/"+escape(name), "x").is(201)
	}
	c.put(full+"/o", "x").is(201)
	bulk := func(method, body string, header ...string) *answer {
		return c.do(method, "?bulk-delete", strings.NewReader(body), append(header, "Content-Type: text/plain")...)
	}
	bulk("POST", path+"/a\n\n"+path[1:]+"/b%20c\r\n"+path+"/none\n").is(200).
		says("Number Deleted: 2\nNumber Not Found: 1\nResponse Body: \nResponse Status: 200 OK\nErrors:\n")
	// A container goes after what is listed before it, and not while it is full.
	a := bulk("DELETE", path+"/%C3%BC/d\n"+path+"/e\n"+path+"\n"+full+"\n/c/%zz\n/c/%ff", "Accept: application/json").is(200)
	var report struct {
		Deleted  int    `json:"Number Deleted"`
		NotFound int    `json:"Number Not Found"`
		Status   string `json:"Response Status"`
		Errors   [][2]string
	}
	if err := json.Unmarshal([]byte(a.body), &report); err != nil || report.Deleted != 3 || report.Status != "400 Bad Request" ||
		fmt.Sprint(report.Errors) != "[["+full+" 409 Conflict] [/c/%ff 412 Precondition Failed] [/c/%zz 412 Precondition Failed]]" &&
			fmt.Sprint(report.Errors) != "[[/c/%ff 412 Precondition Failed] [/c/%zz 412 Precondition Failed] ["+full+" 409 Conflict]]" {
		c.t.Errorf("%v in %s", err, a.body)
	}
	c.head(path).is(404)
	c.get(full + "/o").is(200)
	bulk("POST", "").is(200).holds("Invalid bulk delete").holds("Response Status: 400 Bad Request")
	bulk("POST", strings.Repeat("c/o\n", 10001)).is(200).holds("Number Deleted: 0").holds("Response Status: 413").holds("Maximum Bulk Deletes: 10000")
	bulk("POST", strings.Repeat("c", 5000)).is(200).holds("Response Status: 400").holds("Invalid File Name")
	bulk("POST", "x/y", "Accept: image/png").is(406)
	bulk("POST", "x/y", "Accept: application/xml").is(200).holds("<number_not_found>1</number_not_found>")
	bulk("POST", "x/y", "X-Auth-Token: -").is(401)
	c.put(path, "").is(201) // for the clean-up
}
