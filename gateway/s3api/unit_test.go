package s3api

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/mux"

	"ringfort/internal/catalog"
	"ringfort/internal/checksum"
	"ringfort/internal/errs"
)

func TestValidBucketName(t *testing.T) {
	for name, want := range map[string]bool{
		"abc": true, "a.b": true, "a-b": true, "1ab": true, "a1.2b": true, strings.Repeat("a", 63): true, "1.2.3.4.5": true, "1234.1.1.1": true,
		"ab": false, strings.Repeat("a", 64): false, "": false, "aBc": false, "a_b": false, "-ab": false, "ab-": false, ".ab": false, "ab.": false,
		"a..b": false, "1.2.3.4": false, "192.168.5.4": false, "xn--abc": false, "abc-s3alias": false, "sthree-abc": false, "abc--ol-s3": false,
		"abc--x-s3": false, "abc.mrap": false, "amzn-s3-demo-abc": false, "ä-bc": false, "a b": false, "a/b": false,
	} {
		if got := validBucketName(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}

func TestParseRange(t *testing.T) {
	for _, c := range []struct {
		header string
		size   int64
		want   string // "off+n", "none" or "bad"
	}{
		{"bytes=0-0", 10, "0+1"}, {"bytes=0-9", 10, "0+10"}, {"bytes=0-10", 10, "0+10"}, {"bytes=9-", 10, "9+1"}, {"bytes=-3", 10, "7+3"},
		{"bytes=-30", 10, "0+10"}, {"bytes= 1 - 2 ", 10, "1+2"}, {"BYTES=1-2", 10, "1+2"}, {"bytes=0-18446744073709551616", 10, "0+10"},
		{"bytes=-9223372036854775808", 10, "0+10"},
		{"bytes=10-", 10, "bad"}, {"bytes=10-11", 10, "bad"}, {"bytes=-0", 10, "bad"}, {"bytes=0-", 0, "bad"}, {"bytes=-1", 0, "bad"},
		{"bytes=18446744073709551616-", 10, "bad"},
		{"", 10, "none"}, {"bytes", 10, "none"}, {"bytes=", 10, "none"}, {"bytes=-", 10, "none"}, {"bytes=2-1", 10, "none"}, {"bytes=1", 10, "none"},
		{"bytes=1-2,4-5", 10, "none"}, {"bytes=--1", 10, "none"}, {"bytes=1--2", 10, "none"}, {"items=0-1", 10, "none"}, {"bytes=0x1-2", 10, "none"},
	} {
		s, ok, err := parseRange(c.header, c.size)
		got := fmt.Sprintf("%d+%d", s.off, s.n)
		switch {
		case err != nil:
			got = "bad"
		case !ok:
			got = "none"
		}
		if got != c.want {
			t.Errorf("%q of %d: %s, want %s", c.header, c.size, got, c.want)
		}
	}
}

func FuzzRange(f *testing.F) {
	for _, s := range []string{"bytes=0-9", "bytes=-5", "bytes=5-", "bytes=99999999999999999999-", "bytes=1-2,3-4"} {
		f.Add(s, int64(100))
	}
	f.Fuzz(func(t *testing.T, header string, size int64) {
		if size < 0 {
			return
		}
		s, ok, err := parseRange(header, size)
		if err == nil && ok && (s.off < 0 || s.n <= 0 || s.off > size-s.n) {
			t.Fatalf("%q of %d gave %+v", header, size, s)
		}
		if err != nil && toError(err).Code != "InvalidRange" {
			t.Fatal(err)
		}
		if s, err := parseCopyRange(header, size); err == nil && (s.off < 0 || s.n <= 0 || s.off > size-s.n) {
			t.Fatalf("copy range %q of %d gave %+v", header, size, s)
		}
	})
}

func TestParseCopySource(t *testing.T) {
	for v, want := range map[string]string{
		"b/k": "b|k", "/b/k": "b|k", "b/a/b": "b|a/b", "b//k": "b|/k", "/b/%C3%BC": "b|ü", "b/a%2Fb": "b|a/b", "b/a+b": "b|a b", "b/a%2Bb": "b|a+b",
		"b/k?versionId=null": "b|k", "b/k?x": "b|k?x", "b%2Fk": "b|k", "b/%3FversionId=1": "b|?versionId=1",
		"": "InvalidArgument", "b": "InvalidArgument", "/": "InvalidArgument", "b/": "InvalidArgument", "//k": "InvalidArgument", "b/%": "InvalidArgument",
		"b/k?versionId=1": "InvalidArgument", "b/%00": "InvalidArgument", "b/%ff": "InvalidURI", "arn:aws:s3:x": "NotImplemented",
		"b/" + strings.Repeat("k", 1025): "KeyTooLongError", strings.Repeat("b", 300) + "/k": "InvalidBucketName",
	} {
		s, err := parseCopySource(v)
		got := s.bucket + "|" + s.key
		if err != nil {
			got = toError(err).Code
		}
		if got != want {
			t.Errorf("%.40q: %s, want %s", v, got, want)
		}
	}
}

func FuzzCopySource(f *testing.F) {
	for _, s := range []string{"b/k", "/b/%C3%BC?versionId=null", "b/a+b%zz", "arn:x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, v string) {
		s, err := parseCopySource(v)
		if err != nil {
			toError(err)
			return
		}
		if s.bucket == "" || s.key == "" || checkKey(s.key) != nil || strings.Contains(s.bucket, "/") {
			t.Fatalf("%q gave %+v", v, s)
		}
	})
}

func TestToken(t *testing.T) {
	for _, name := range []string{"", "a", "ü\x00\n", strings.Repeat("k", 1024)} {
		tok := encodeToken(name)
		if got, err := decodeToken(tok); err != nil || got != name {
			t.Errorf("%.20q came back as %.20q, %v", name, got, err)
		}
		if strings.Contains(tok, "=") || strings.ContainsAny(tok, "+/&") {
			t.Errorf("token %q needs encoding", tok)
		}
	}
	for _, tok := range []string{"", "a", "AAAAAAA", "!!!", encodeToken("abc") + "A", encodeToken("abc")[1:], strings.Repeat("A", 5000)} {
		if _, err := decodeToken(tok); err == nil || toError(err).Code != "InvalidArgument" {
			t.Errorf("%.20q gave %v", tok, err)
		}
	}
}

func FuzzToken(f *testing.F) {
	f.Add(encodeToken("name"))
	f.Add("")
	f.Fuzz(func(t *testing.T, tok string) {
		if name, err := decodeToken(tok); err == nil && encodeToken(name) != tok {
			t.Fatalf("%q is another spelling of the token for %q", tok, name)
		}
	})
}

func TestMatchETag(t *testing.T) {
	for list, want := range map[string]bool{
		"abc": true, `"abc"`: true, `W/"abc"`: true, "*": true, `"x", "abc"`: true, `"x",abc`: true, "": false, `"x"`: false, `"ab"`: false, "abcd": false,
	} {
		if got := matchETag(list, "abc"); got != want {
			t.Errorf("%q: %v", list, got)
		}
	}
}

func TestConditions(t *testing.T) {
	at := time.Date(2030, 5, 6, 7, 8, 9, 999_000_000, time.UTC)
	o := &catalog.Object{ETag: "abc", Modified: at.UnixMicro()}
	same, now := httpTime(o.Modified), at.Add(24*time.Hour)
	if same != "Mon, 06 May 2030 07:08:09 GMT" {
		t.Error(same)
	}
	for _, c := range []struct {
		c    conditions
		want verdict
		name string
	}{
		{conditions{}, holds, ""},
		{conditions{ifModifiedSince: same}, unchanged, "If-Modified-Since"}, // fractions do not count
		{conditions{ifUnmodifiedSince: same}, holds, ""},
		{conditions{ifMatch: "x", ifUnmodifiedSince: same}, failed, "If-Match"},
		{conditions{ifNoneMatch: "abc", ifMatch: "x"}, failed, "If-Match"},
		{conditions{ifNoneMatch: "abc", ifMatch: "abc"}, unchanged, "If-None-Match"},
		{conditions{ifNoneMatch: "x", ifModifiedSince: same}, holds, ""},
		{conditions{ifModifiedSince: now.Add(time.Hour).Format(http.TimeFormat)}, holds, ""},
		{conditions{ifModifiedSince: "yesterday", ifUnmodifiedSince: "tomorrow"}, holds, ""},
		{conditions{ifModifiedSince: "Mon, 06 May 2030 07:08:09 +0000"}, unchanged, "If-Modified-Since"},
	} {
		if got, name := c.c.judge(o, now); got != c.want || name != c.name {
			t.Errorf("%+v: %d %s", c.c, got, name)
		}
	}
}

func TestAppendText(t *testing.T) {
	for in, want := range map[string]string{
		"plain": "plain", "": "", `a&b<c>d"e'f`: "a&amp;b&lt;c&gt;d&quot;e&#39;f", "ü日😀": "ü日😀", "\t\n\r": "&#x9;&#xa;&#xd;",
		"\x00\x01\x1f": "&#x0;&#x1;&#x1f;", "a\x7fb": "a&#x7f;b", "\ufffe\uffff": "&#xfffe;&#xffff;", "\ufffd": "\ufffd", "x\xffy": "x\ufffdy",
	} {
		if got := string(appendText(nil, in)); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if got := string(appendURL(nil, "a b+c/ü~*")); got != "a%20b%2Bc/%C3%BC~%2A" {
		t.Error(got)
	}
	if got := legible("a\x00\x1f\tb\ufffe"); got != "a\ufffd\ufffd\tb\ufffd" {
		t.Errorf("%q", got)
	}
}

func TestAppendMicros(t *testing.T) {
	for _, at := range []time.Time{
		time.Unix(0, 0), time.Date(2026, 11, 20, 10, 11, 12, 999_999_000, time.UTC), time.Date(1999, 12, 31, 23, 59, 59, 0, time.UTC), time.Date(9999, 1, 2, 3, 4, 5, 0, time.UTC),
	} {
		want := at.UTC().Truncate(time.Second).Format(isoMillis)
		if got := string(appendMicros(nil, at.UnixMicro())); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if got := string(appendMicros(nil, time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro())); !strings.HasPrefix(got, "12026-") {
		t.Error(got)
	}
}

func TestTags(t *testing.T) {
	for header, want := range map[string]string{
		"": "", "a=b": "a=b", "a=b&c=": "a=b&c=", "a": "a=", "a=1+1": "a=1+1", "a=%2B": "a=%2B", "%C3%BC=x": "%C3%BC=x",
		"a=1&a=2": "InvalidArgument", "a=%zz": "InvalidArgument", "=b": "InvalidTag", "a=;": "InvalidTag", "aws:a=b": "InvalidTag", "AWS:a=b": "InvalidTag",
		"1=&2=&3=&4=&5=&6=&7=&8=&9=&10=&11=": "BadRequest",
	} {
		set, err := parseTagHeader(header)
		got := set.encode()
		if err != nil {
			got = toError(err).Code
		} else if back := decodeTags(got).encode(); back != got {
			t.Errorf("%q came back as %q", got, back)
		} else if countTags(got) != len(set) {
			t.Errorf("%q counts %d", got, countTags(got))
		}
		if got != want {
			t.Errorf("%q: %q, want %q", header, got, want)
		}
	}
}

// Every kind has an answer, every code a status and a text.
func TestErrorTable(t *testing.T) {
	for code, c := range codes {
		if c.status < 300 || c.status > 599 || c.message == "" {
			t.Errorf("%s: %+v", code, c)
		}
	}
	for k := errs.Invalid; k <= errs.Gone; k++ {
		e := toError(errs.New("op", k, "text"))
		switch k {
		case errs.Corrupt:
			if e.Code != "InternalError" || e.Status != 500 {
				t.Errorf("%v: %v", k, e)
			}
			continue
		case errs.Other:
			continue
		}
		if _, ok := codes[e.Code]; !ok || e.Code == "InternalError" || e.Kind != k {
			t.Errorf("%v: %+v", k, e)
		}
	}
	if e := toError(fmt.Errorf("plain")); e.Code != "InternalError" || strings.Contains(e.Message, "plain") {
		t.Errorf("a plain error: %+v", e)
	}
	inner := refuse("EntityTooSmall", "")
	if e := toError(errs.Wrap("ops.Put", errs.Other, inner)); e != inner || errs.KindOf(e) != errs.Invalid {
		t.Errorf("a wrapped one: %+v", e)
	}
	if e := toError(errs.New("x", errs.OutcomeUnknown, "secret detail")); e.Status != 503 || !strings.Contains(e.Message, "unknown") {
		t.Errorf("%+v", e)
	}
}

func TestParseQuery(t *testing.T) {
	q, err := parseQuery("a=1&b&c=&a=2&%C3%BC=x+y&&d=%26")
	if err != nil || q.get("a") != "1" || !q.has("b") || q.get("ü") != "x y" || q.get("d") != "&" || len(q) != 6 {
		t.Errorf("%+v, %v", q, err)
	}
	if _, ok := q.lookup("e"); ok || q.has("") {
		t.Error("found what is not there")
	}
	for _, bad := range []string{"a=%", "%zz=1", "a=%2", strings.Repeat("a&", 1001)} {
		if _, err := parseQuery(bad); err == nil {
			t.Errorf("%.20q was accepted", bad)
		}
	}
}

func FuzzListParams(f *testing.F) {
	for _, s := range []string{"list-type=2&max-keys=5&prefix=a%2F&delimiter=/", "max-keys=-1", "encoding-type=url", "continuation-token=x", "acl&policy", "versions&key-marker=a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := parseQuery(raw)
		if err != nil {
			toError(err)
			return
		}
		if sub, err := q.subresource(); err == nil && sub != "" && !subresources[sub] {
			t.Fatalf("%q chose %q", raw, sub)
		}
		p, err := q.listParams()
		if err == nil && (p.limit < 0 || p.limit > maxPage) {
			t.Fatalf("%q asks for %d", raw, p.limit)
		}
		x := string(p.text(nil, "Prefix", p.prefix))
		if strings.Count(x, "<") != 2 {
			t.Fatalf("the prefix %q broke out: %s", p.prefix, x)
		}
	})
}

func FuzzXML(f *testing.F) {
	for _, s := range []string{
		"<Delete><Quiet>true</Quiet><Object><Key>a</Key><VersionId>null</VersionId></Object></Delete>",
		"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>\"x\"</ETag><ChecksumCRC32>AAAAAA==</ChecksumCRC32></Part></CompleteMultipartUpload>",
		"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>",
		"<CreateBucketConfiguration><LocationConstraint>eu-west-1</LocationConstraint></CreateBucketConfiguration>",
		"<a><b/></a>", "<?xml version=\"1.0\"?><!-- x --><Delete/>", "<Delete>\x00</Delete>",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if in, err := parseDelete(body); err == nil && (len(in.Objects) == 0 || len(in.Objects) > maxDeletes) {
			t.Fatalf("%d objects", len(in.Objects))
		} else if err != nil && toError(err).Code != "MalformedXML" {
			t.Fatal(err)
		}
		if in, err := parseComplete(body); err == nil {
			last := 0
			for _, p := range in.Parts {
				if p.PartNumber <= last || p.ETag == "" {
					t.Fatalf("%+v", in.Parts)
				}
				last = p.PartNumber
			}
		}
		var n node
		if err := decodeXML(body, "Tagging", &n); err != nil && toError(err).Code != "MalformedXML" {
			t.Fatal(err)
		}
		var c createBucketRequest
		_ = decodeXML(body, "CreateBucketConfiguration", &c)
	})
}

func TestHostBucket(t *testing.T) {
	h := New(Config{Domains: []string{"s3.example.com", ".Other.test."}})
	for host, want := range map[string]string{
		"b.s3.example.com": "b", "b.s3.example.com:9000": "b", "B.S3.Example.COM": "b", "a.b.s3.example.com.": "a.b", "x.other.test:1": "x",
		"s3.example.com": "", "s3.example.com:9000": "", ".s3.example.com": "", "example.com": "", "127.0.0.1:9000": "", "[::1]:9000": "", "[::1]": "", "": "",
		"bs3.example.com": "",
	} {
		if got := h.hostBucket(host); got != want {
			t.Errorf("%q: %q, want %q", host, got, want)
		}
	}
}

func TestWithChecksum(t *testing.T) {
	meta := catalog.Pairs{{Name: "a", Value: "1"}, {Name: "checksum-algorithm", Value: "CRC32"}, {Name: "checksum-chosen", Value: "1"}, {Name: "checksum-type", Value: "x"}, {Name: "meta-x", Value: "2"}}
	sum := checksum.Of(checksum.SHA256, []byte("x"))
	got := withChecksum(meta, sum, sum.String())
	want := fmt.Sprint(catalog.Pairs{{Name: "a", Value: "1"}, {Name: "checksum-algorithm", Value: "SHA256"}, {Name: "checksum-sha256", Value: sum.String()}, {Name: "meta-x", Value: "2"}})
	if fmt.Sprint(got) != want {
		t.Errorf("%v, want %v", got, want)
	}
	if back := checksumOf(&catalog.Object{Meta: got}); back != sum {
		t.Errorf("read back as %v", back)
	}
	if got := withChecksum(meta, checksum.Sum{}, ""); len(got) != 2 {
		t.Errorf("without: %v", got)
	}
	for _, a := range checksum.All() {
		if metaOf(a) != "checksum-"+strings.ToLower(a.String()) || !strings.EqualFold(lowerHeader(a), a.Header()) {
			t.Errorf("%v: %s, %s", a, metaOf(a), lowerHeader(a))
		}
	}
}

// BenchmarkRoute is the cost of finding out what a request wants.
func BenchmarkRoute(b *testing.B) {
	h := New(Config{Domains: []string{"s3.example.com"}})
	r, err := http.NewRequest("GET", "http://127.0.0.1:9000/bucket/some/key?x-id=GetObject", nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		q := &request{h: h, r: r}
		if err := q.parse(); err != nil {
			b.Fatal(err)
		}
		if _, err := h.route(q); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMux is what a gorilla/mux router before the handler costs: one prefix
// for all that is not S3, and the rest for S3.
func BenchmarkMux(b *testing.B) {
	router := mux.NewRouter().SkipClean(true).UseEncodedPath()
	nothing := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	router.PathPrefix("/v1/").Handler(nothing)
	router.PathPrefix("/auth/").Handler(nothing)
	router.PathPrefix("/").Handler(nothing)
	r, err := http.NewRequest("GET", "http://127.0.0.1:9000/bucket/some/key?x-id=GetObject", nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		router.ServeHTTP(nil, r)
	}
}
