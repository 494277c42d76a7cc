package swiftapi

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"ringfort/gateway/ops"
	"ringfort/internal/catalog"
)

func TestParsePath(t *testing.T) {
	for _, c := range []struct {
		path   string
		want   target
		status int
	}{
		{"/v1/AUTH_a", target{account: "AUTH_a"}, 0},
		{"/v1/AUTH_a/", target{account: "AUTH_a"}, 0},
		{"/v1.0/AUTH_a/c", target{account: "AUTH_a", container: "c"}, 0},
		{"/v1/AUTH_a/c/", target{account: "AUTH_a", container: "c"}, 0},
		{"/v1/AUTH_a/c/o", target{"AUTH_a", "c", "o"}, 0},
		{"/v1/AUTH_a/c//o/", target{"AUTH_a", "c", "/o/"}, 0},
		{"/v1/AUTH_a/c/../x", target{"AUTH_a", "c", "../x"}, 0},
		{"/v1", target{}, 412},
		{"/v3", target{}, 412},
		{"/", target{}, 412},
		{"", target{}, 412},
		{"/v1//c", target{}, 412},
		{"/v3/AUTH_a", target{}, 400},
		{"/v1/AUTH_a//o", target{}, 412},
		{"/v1/AUTH_a/c\x00", target{}, 412},
		{"/v1/AUTH_a/\xff", target{}, 412},
	} {
		got, err := parsePath(c.path)
		switch {
		case c.status != 0:
			if err == nil || toError(err).Status != c.status {
				t.Errorf("%q: %v, want %d", c.path, err, c.status)
			}
		case err != nil || got != c.want:
			t.Errorf("%q: %+v, %v", c.path, got, err)
		}
	}
}

func TestTimes(t *testing.T) {
	for _, c := range []struct {
		micros                    int64
		stamp, listed, lastChange string
	}{
		{0, "0000000000.00000", "1970-01-01T00:00:00.000000", "Thu, 01 Jan 1970 00:00:00 GMT"},
		{9, "0000000000.00000", "1970-01-01T00:00:00.000000", "Thu, 01 Jan 1970 00:00:00 GMT"},
		{10, "0000000000.00001", "1970-01-01T00:00:00.000010", "Thu, 01 Jan 1970 00:00:01 GMT"},
		{1384891693283452, "1384891693.28345", "2013-11-19T20:08:13.283450", "Tue, 19 Nov 2013 20:08:14 GMT"},
		{1384891693000000, "1384891693.00000", "2013-11-19T20:08:13.000000", "Tue, 19 Nov 2013 20:08:13 GMT"},
		{1384891693000009, "1384891693.00000", "2013-11-19T20:08:13.000000", "Tue, 19 Nov 2013 20:08:13 GMT"},
	} {
		if got := timestampOf(c.micros); got != c.stamp {
			t.Errorf("timestamp of %d: %s, want %s", c.micros, got, c.stamp)
		}
		if got := string(appendListTime(nil, c.micros)); got != c.listed {
			t.Errorf("listed time of %d: %s, want %s", c.micros, got, c.listed)
		}
		if got := lastModified(c.micros); got != c.lastChange {
			t.Errorf("Last-Modified of %d: %s, want %s", c.micros, got, c.lastChange)
		}
	}
}

func TestNames(t *testing.T) {
	for in, want := range map[string]string{"": "", "a": "A", "one-two_three": "One-Two_Three", "x1y": "X1Y", "été-x": "été-X", "abc": "Abc"} {
		if got := titleCase(in); got != want {
			t.Errorf("titleCase(%q) = %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{"gold": "gold", "ec(4,2)": "ec-4-2-", "a.b_c-D9": "a.b_c-D9", "é": "-"} {
		if got := headerToken(in); got != want {
			t.Errorf("headerToken(%q) = %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{"a.txt": "text/plain", "A.PNG": "image/png", "x": defaultContentType, "a.tar.gz": "application/gzip", ".html": "text/html", "": defaultContentType} {
		if got := typeByName(in); got != want {
			t.Errorf("typeByName(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestObjectPath(t *testing.T) {
	for _, c := range []struct {
		in, container, object string
		ok                    bool
	}{
		{"c/o", "c", "o", true}, {"/c/o", "c", "o", true}, {"/c/o/p", "c", "o/p", true}, {"c%20d/%C3%BC", "c d", "ü", true},
		{"c//o", "c", "/o", true}, {"a+b/c+d", "a+b", "c+d", true},
		{"c", "", "", false}, {"c/", "", "", false}, {"/", "", "", false}, {"//o", "", "", false}, {"", "", "", false},
		{"c/%zz", "", "", false}, {"c/%ff", "", "", false}, {"c/%00", "", "", false},
		{strings.Repeat("c", 257) + "/o", "", "", false}, {"c/" + strings.Repeat("o", 1025), "", "", false},
	} {
		container, object, ok := objectPath(c.in)
		if ok != c.ok || ok && (container != c.container || object != c.object) {
			t.Errorf("%.40q: %q, %q, %v", c.in, container, object, ok)
		}
	}
}

func TestAcceptable(t *testing.T) {
	for in, want := range map[string]string{
		"":                              "",
		"a/b":                           "a/b",
		"a/b, C/D":                      "a/b c/d",
		"a/b;q=0.1, c/d":                "c/d a/b",
		"a/b;q=0, c/d;q=0.5;x=y":        "c/d",
		"a/b;q=junk, c/d; q=0.3, */*":   "*/* c/d",
		"a/b;q=2, c/d;q=-1, e/f;q=NaN,": "",
	} {
		if got := strings.Join(acceptable(in), " "); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestToken(t *testing.T) {
	key := tokens{key: bytes.Repeat([]byte{1}, 32)}
	now := time.Unix(1700000000, 0)
	text, err := key.make("account ü", "access:key", "secret", now)
	if err != nil {
		t.Fatal(err)
	}
	c, ok := key.read(text)
	if !ok || c.account != "account ü" || c.accessKey != "access:key" || c.expires != now.Unix() || c.secret != key.fingerprint("secret") {
		t.Errorf("%+v, %v", c, ok)
	}
	if again, _ := key.make("account ü", "access:key", "secret", now); again == text {
		t.Error("two logins with one token")
	}
	if _, ok := (tokens{key: bytes.Repeat([]byte{2}, 32)}).read(text); ok {
		t.Error("another key's token was taken")
	}
	for i := len(tokenPrefix); i < len(text); i++ {
		b := []byte(text)
		b[i] ^= 1
		if string(b) == text {
			continue
		}
		if c2, ok := key.read(string(b)); ok {
			// The last character has bits that base64 does not use.
			if i != len(text)-1 || c2 != c {
				t.Errorf("a token with byte %d changed was taken", i)
			}
		}
	}
	for n := range text {
		if _, ok := key.read(text[:n]); ok {
			t.Errorf("%d bytes of a token were taken", n)
		}
	}
	if _, err := key.make(strings.Repeat("a", 256), "k", "s", now); err == nil {
		t.Error("an account that does not fit was taken")
	}
}

// plainResolve is resolve said differently: by the bytes that are asked for.
func plainResolve(list []byteRange, size int64) []span {
	var spans []span
	for _, r := range list {
		first, end := r.first, r.last+1
		if r.suffix {
			first, end = max(size-r.last, 0), size
			if r.last == 0 {
				continue
			}
		} else if r.last < 0 || end > size {
			end = size
		}
		if !r.suffix && first >= size {
			continue
		}
		spans = append(spans, span{first, end - first})
	}
	return spans
}

func TestResolveModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	for range 20000 {
		size := rnd.Int64N(12)
		var parts []string
		for range 1 + rnd.IntN(2) { // too few to be excessive
			a, b := rnd.Int64N(15), rnd.Int64N(15)
			parts = append(parts, []string{fmt.Sprintf("%d-%d", a, b), fmt.Sprintf("%d-", a), fmt.Sprintf("-%d", b)}[rnd.IntN(3)])
		}
		header := "bytes=" + strings.Join(parts, ",")
		list, ok := parseRange(header)
		if !ok {
			continue
		}
		got, want := resolve(list, size), plainResolve(list, size)
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("%s of %d: %v, want %v", header, size, got, want)
		}
	}
}

func sampleItems(n int) []ops.Item {
	items := make([]ops.Item, n)
	for i := range items {
		items[i] = ops.Item{Name: fmt.Sprintf("photos/2024/%08d.jpg", i), RowValue: catalog.RowValue{
			Size: int64(i) * 1000, ETag: "d41d8cd98f00b204e9800998ecf8427e", ContentType: "image/jpeg", Modified: 1384891693283452 + int64(i),
		}}
	}
	return items
}

// TestListingGolden holds the three forms of a listing to the letter.
func TestListingGolden(t *testing.T) {
	items := sampleItems(1)
	items[0].Name = "a<\"\n\u2028é"
	items = append(items, ops.Item{Name: "b&/", CommonPrefix: true}, ops.Item{Name: "slo", RowValue: catalog.RowValue{
		Size: 100, ETag: "aa", ContentType: "x/y", Modified: 1e6,
		Extra: catalog.Pairs{{Name: metaSLOETag, Value: "bb"}, {Name: metaSLOSize, Value: "5000000000"}},
	}})
	for i, want := range []string{
		"a<\"\n\u2028é\nb&/\nslo\n",
		`[{"bytes":0,"hash":"d41d8cd98f00b204e9800998ecf8427e","name":"a<\"\n` + "\u2028" + `é","content_type":"image/jpeg","last_modified":"2013-11-19T20:08:13.283450"},` +
			`{"subdir":"b&/"},{"bytes":5000000000,"hash":"aa","name":"slo","content_type":"x/y","slo_etag":"\"bb\"","last_modified":"1970-01-01T00:00:01.000000"}]`,
		xmlHeader + `<container name="c&amp;d"><object><name>a&lt;&quot;&#10;` + "\u2028" + `é</name><hash>d41d8cd98f00b204e9800998ecf8427e</hash><bytes>0</bytes>` +
			`<content_type>image/jpeg</content_type><last_modified>2013-11-19T20:08:13.283450</last_modified></object>` +
			`<subdir name="b&amp;/"><name>b&amp;/</name></subdir><object><name>slo</name><hash>aa</hash><bytes>5000000000</bytes>` +
			`<content_type>x/y</content_type><last_modified>1970-01-01T00:00:01.000000</last_modified></object></container>`,
	} {
		if got := string(formats[i].objects("c&d", items)); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", formats[i].contentType, got, want)
		}
	}
	list := []ops.ContainerInfo{
		{Name: "c", Count: 2, Bytes: 3, Created: time.UnixMicro(1384891693283452), Policy: "gold"}, {Name: "d/", Prefix: true},
	}
	for i, want := range []string{
		"c\nd/\n",
		`[{"name":"c","count":2,"bytes":3,"last_modified":"2013-11-19T20:08:13.283450","storage_policy":"gold"},{"subdir":"d/"}]`,
		xmlHeader + `<account name="AUTH_a">` + "\n" + `<container><name>c</name><count>2</count><bytes>3</bytes><last_modified>2013-11-19T20:08:13.283450</last_modified>` +
			`<storage_policy>gold</storage_policy></container>` + "\n" + `<subdir name="d/" />` + "\n</account>",
	} {
		if got := string(formats[i].containers("AUTH_a", list)); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", formats[i].contentType, got, want)
		}
	}
}

func FuzzPath(f *testing.F) {
	for _, s := range []string{"/v1/AUTH_a/c/o", "/v1", "//", "/v1/a//", "/v1/a/c\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if p, err := parsePath(path); err == nil {
			if p.account == "" || p.container == "" && p.object != "" || !utf8.ValidString(p.object) || strings.Contains(p.container, "/") {
				t.Errorf("%q: %+v", path, p)
			}
		}
		if c, o, ok := objectPath(path); ok && (c == "" || o == "" || len(c) > 256 || len(o) > 1024 || strings.IndexByte(o, 0) >= 0) {
			t.Errorf("%q: %q, %q", path, c, o)
		}
		if c, p, ok := parseManifestHeader(path); ok && (c == "" || p == "" || strings.Contains(c, "/")) {
			t.Errorf("%q: %q, %q", path, c, p)
		}
		if u := escapePath("/" + path); !strings.HasPrefix(u, "/") {
			t.Errorf("%q: %q", path, u)
		}
	})
}

func FuzzParams(f *testing.F) {
	f.Add("limit=10&prefix=a%20b&marker&reverse=on", "text/plain;q=0.5, */*")
	f.Add("&&=&%zz", "a/b;q=")
	f.Fuzz(func(t *testing.T, raw, accept string) {
		p, err := parseParams(raw)
		if err == nil {
			for name, value := range p {
				if !utf8.ValidString(name) || !utf8.ValidString(value) {
					t.Errorf("%q: %q=%q", raw, name, value)
				}
			}
		}
		if n, err := limitParam(p["limit"]); err == nil && (n < 0 || n > maxListing) {
			t.Errorf("%q: limit %d", raw, n)
		}
		for _, a := range acceptable(accept) {
			if a == "" {
				t.Errorf("%q: an empty type", accept)
			}
		}
	})
}

func FuzzRange(f *testing.F) {
	for _, s := range []string{"bytes=0-1", "bytes=-5,7-", "bytes=99999999999999999999-", "bytes=1-2,,"} {
		f.Add(s, int64(10))
	}
	f.Fuzz(func(t *testing.T, header string, size int64) {
		if size < 0 {
			return
		}
		list, ok := parseRange(header)
		if !ok {
			return
		}
		for _, s := range resolve(list, size) {
			if s.off < 0 || s.n < 0 || s.n > size || s.off > size-s.n || s.n == 0 && size > 0 {
				t.Errorf("%q of %d: %+v", header, size, s)
			}
		}
	})
}

func FuzzToken(f *testing.F) {
	key := tokens{key: bytes.Repeat([]byte{1}, 32)}
	good, err := key.make("a", "k", "s", time.Unix(1, 0))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(tokenPrefix)
	f.Add(tokenPrefix + "AAAA")
	f.Fuzz(func(t *testing.T, text string) {
		if c, ok := key.read(text); ok && (c.account != "a" || c.accessKey != "k") {
			t.Errorf("%q was taken: %+v", text, c)
		}
	})
}

func FuzzManifest(f *testing.F) {
	for _, s := range []string{
		`[{"path":"/c/o","etag":"x","size_bytes":1,"range":"0-0"},{"data":"eA=="}]`, `[]`, `[{}]`, `[null,1]`, `[{"path":"c/o","size_bytes":1e3}]`,
		`[{"path":"c/o","size_bytes":"1"}]`, `[{"path":"c/o"}`, `{"a":[]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		list, err := parseManifest(body, 10)
		if err != nil {
			if s := toError(err).Status; s != 400 && s != 413 {
				t.Errorf("%q: %v", body, err)
			}
			return
		}
		o := &catalog.Object{ContentType: "x/y"}
		for i := range list {
			s := &list[i]
			if s.stored.Data != nil {
				continue
			}
			if s.container == "" || s.name == "" {
				t.Errorf("%q: a segment without a name", body)
			}
			if p := s.check(&content{object: o, size: max(s.size, 1), etag: s.etag}); p != "" && p != "Unsatisfiable Range" {
				t.Errorf("%q: %s", body, p)
			}
		}
		stored, etag, size := storedForm(list)
		var back []storedSegment
		if err := json.Unmarshal(stored, &back); err != nil || len(back) != len(list) || len(etag) != 32 || size < 0 {
			t.Fatalf("%q: %v in %s", body, err, stored)
		}
		if got := staticSegments(back).size(); got != size {
			t.Errorf("%q: %d bytes stored, %d read", body, size, got)
		}
	})
}

// FuzzListing: what is printed is JSON and XML that reads back, for every name.
func FuzzListing(f *testing.F) {
	f.Add("a", "b/c")
	f.Add("\"\\\x00\x1f\x7f", "<&>\"'")
	f.Add("\u2028\U0001f600\ufffd", "\xff\xfe")
	f.Fuzz(func(t *testing.T, name, contentType string) {
		items := []ops.Item{{Name: name, RowValue: catalog.RowValue{ContentType: contentType}}, {Name: name, CommonPrefix: true}}
		var rows []map[string]any
		if err := json.Unmarshal(formats[1].objects("c", items), &rows); err != nil {
			t.Fatal(err)
		}
		if utf8.ValidString(name) && rows[0]["name"] != name {
			t.Errorf("%q became %q", name, rows[0]["name"])
		}
		b := formats[2].objects("c", items)
		if strings.ContainsFunc(name+contentType, func(r rune) bool { return r < ' ' || r == utf8.RuneError || r == 0xfffe || r == 0xffff }) {
			return // XML has no such characters
		}
		d := xml.NewDecoder(bytes.NewReader(b))
		for {
			if _, err := d.Token(); err == io.EOF {
				return
			} else if err != nil {
				t.Fatalf("%v in %s", err, b)
			}
		}
	})
}

func BenchmarkListing(b *testing.B) {
	items := sampleItems(10000)
	for i := range formats[:3] {
		b.Run(formats[i].mediaType, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				b.SetBytes(int64(len(formats[i].objects("c", items))))
			}
			b.ReportMetric(float64(len(items))*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

func BenchmarkToken(b *testing.B) {
	key := tokens{key: bytes.Repeat([]byte{1}, 32)}
	text, err := key.make("main", "AKIAEXAMPLE", "secret", time.Now())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := key.read(text); !ok {
			b.Fatal("refused")
		}
	}
}
