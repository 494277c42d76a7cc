package s3test

import (
	"encoding/xml"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

func keysOf(list []types.Object) (out []string) {
	for _, o := range list {
		out = append(out, *o.Key)
	}
	return out
}

func prefixesOf(list []types.CommonPrefix) (out []string) {
	for _, p := range list {
		out = append(out, *p.Prefix)
	}
	return out
}

func testList(e *env) {
	b := e.withBucket()
	for _, k := range []string{"a", "b/1", "b/2", "b/c/3", "c", "d/4"} {
		e.put(k, []byte(k))
	}
	for _, c := range []struct {
		prefix, delimiter, after string
		keys, prefixes           string
	}{
		{"", "", "", "a b/1 b/2 b/c/3 c d/4", ""},
		{"", "/", "", "a c", "b/ d/"},
		{"b/", "/", "", "b/1 b/2", "b/c/"},
		{"b", "/", "", "", "b/"},
		{"b/", "", "b/1", "b/2 b/c/3", ""},
		{"", "/", "a", "c", "b/ d/"},
		{"", "/", "c", "", "d/"},
		{"", "c/", "", "a b/1 b/2 c d/4", "b/c/"},
		{"x", "", "", "", ""},
		{"", "", "zzz", "", ""},
		{"", "", "b", "b/1 b/2 b/c/3 c d/4", ""},
	} {
		v2, err := e.s3.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &b, Prefix: &c.prefix, Delimiter: &c.delimiter, StartAfter: &c.after})
		e.must("ListObjectsV2", err)
		what := fmt.Sprintf("prefix %q delimiter %q after %q: ", c.prefix, c.delimiter, c.after)
		equal(e, what+"v2 keys", strings.Join(keysOf(v2.Contents), " "), c.keys)
		equal(e, what+"v2 prefixes", strings.Join(prefixesOf(v2.CommonPrefixes), " "), c.prefixes)
		equal(e, what+"v2 count", int(*v2.KeyCount), len(v2.Contents)+len(v2.CommonPrefixes))
		v1, err := e.s3.ListObjects(ctx, &s3.ListObjectsInput{Bucket: &b, Prefix: &c.prefix, Delimiter: &c.delimiter, Marker: &c.after})
		e.must("ListObjects", err)
		equal(e, what+"v1 keys", strings.Join(keysOf(v1.Contents), " "), c.keys)
		equal(e, what+"v1 prefixes", strings.Join(prefixesOf(v1.CommonPrefixes), " "), c.prefixes)
	}
	v2, err := e.s3.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &b, FetchOwner: aws.Bool(true), MaxKeys: ptr[int32](1)})
	e.must("ListObjectsV2", err)
	o := v2.Contents[0]
	if *o.ETag != `"`+md5Hex([]byte("a"))+`"` || *o.Size != 1 || o.StorageClass != "STANDARD" || o.LastModified == nil || o.Owner == nil || len(*o.Owner.ID) != 64 {
		e.t.Errorf("a listed object is %+v", o)
	}
	_, head := e.get("a")
	equal(e, "Last-Modified listed", *o.LastModified, *head.LastModified)
	equal(e, "truncated", *v2.IsTruncated, true)
	v2, err = e.s3.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &b, MaxKeys: ptr[int32](0)})
	e.must("ListObjectsV2 of 0", err)
	if len(v2.Contents) != 0 || *v2.IsTruncated {
		e.t.Errorf("max-keys=0: %d keys, truncated %v", len(v2.Contents), *v2.IsTruncated)
	}
	v2, err = e.s3.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &b, MaxKeys: ptr[int32](6)})
	e.must("ListObjectsV2 of all", err)
	equal(e, "truncated at the end", *v2.IsTruncated, false)
	if len(v2.Contents) == 6 && v2.Contents[0].Owner != nil {
		e.t.Error("an owner that was not asked for")
	}
	for _, q := range []string{"max-keys=x", "max-keys=-1", "max-keys=99999999999", "encoding-type=x", "list-type=2&continuation-token=abc", "list-type=2&continuation-token="} {
		e.wantAnswer(q, call{method: "GET", path: "/" + b + "?" + q}, 400, "InvalidArgument")
	}
	if a := e.do(call{method: "GET", path: "/" + b + "?max-keys=5000"}); !strings.Contains(string(a.body), "<MaxKeys>1000</MaxKeys>") {
		e.t.Errorf("max-keys=5000: %s", a.body)
	}
}

// testListModel compares pages of every kind with a sorted list of names.
func testListModel(e *env) {
	b := e.withBucket()
	r := e.seeded()
	names := make(map[string]bool)
	for range 150 {
		var k strings.Builder
		for range 1 + r.IntN(4) {
			k.WriteString([]string{"a", "b", "ab", "/", "//", "-", "ü", "~"}[r.IntN(8)])
		}
		if !names[k.String()] {
			names[k.String()] = true
			e.put(k.String(), []byte(k.String()))
		}
	}
	var sorted []string
	for k := range names {
		sorted = append(sorted, k)
	}
	slices.Sort(sorted)
	for range 40 {
		prefix := []string{"", "", "a", "/", "ab", "ü"}[r.IntN(6)]
		delimiter := []string{"", "/", "/", "//", "b"}[r.IntN(5)]
		page := int32(1 + r.IntN(30))
		what := fmt.Sprintf("prefix %q delimiter %q pages of %d", prefix, delimiter, page)
		want := modelList(sorted, prefix, delimiter)
		equal(e, what+", v2", strings.Join(e.allV2(b, prefix, delimiter, page), "|"), strings.Join(want, "|"))
		equal(e, what+", v1", strings.Join(e.allV1(b, prefix, delimiter, page), "|"), strings.Join(want, "|"))
	}
}

// modelList is what a listing must show, prefixes marked.
func modelList(sorted []string, prefix, delimiter string) (out []string) {
	for _, k := range sorted {
		rest, ok := strings.CutPrefix(k, prefix)
		if !ok {
			continue
		}
		if delimiter != "" {
			if i := strings.Index(rest, delimiter); i >= 0 {
				common := "P:" + k[:len(prefix)+i+len(delimiter)]
				if !slices.Contains(out, common) {
					out = append(out, common)
				}
				continue
			}
		}
		out = append(out, "K:"+k)
	}
	slices.SortFunc(out, func(a, b string) int { return strings.Compare(a[2:], b[2:]) })
	return out
}

func merged(keys []types.Object, prefixes []types.CommonPrefix) (out []string) {
	for _, o := range keys {
		out = append(out, "K:"+*o.Key)
	}
	for _, p := range prefixes {
		out = append(out, "P:"+*p.Prefix)
	}
	slices.SortFunc(out, func(a, b string) int { return strings.Compare(a[2:], b[2:]) })
	return out
}

func (e *env) allV2(bucket, prefix, delimiter string, page int32) (out []string) {
	var token *string
	for {
		l, err := e.s3.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &bucket, Prefix: &prefix, Delimiter: &delimiter, MaxKeys: &page, ContinuationToken: token})
		e.must("ListObjectsV2", err)
		lines := merged(l.Contents, l.CommonPrefixes)
		out = append(out, lines...)
		if *l.IsTruncated != (l.NextContinuationToken != nil) || *l.IsTruncated && len(lines) != int(page) {
			e.t.Fatalf("truncated %v, token %v, %d lines of %d", *l.IsTruncated, l.NextContinuationToken, len(lines), page)
		}
		if token = l.NextContinuationToken; token == nil {
			return out
		}
	}
}

func (e *env) allV1(bucket, prefix, delimiter string, page int32) (out []string) {
	var marker *string
	for {
		l, err := e.s3.ListObjects(ctx, &s3.ListObjectsInput{Bucket: &bucket, Prefix: &prefix, Delimiter: &delimiter, MaxKeys: &page, Marker: marker})
		e.must("ListObjects", err)
		lines := merged(l.Contents, l.CommonPrefixes)
		out = append(out, lines...)
		if !*l.IsTruncated {
			return out
		}
		if marker = l.NextMarker; marker == nil {
			if delimiter != "" {
				e.t.Fatal("no NextMarker")
			}
			marker = aws.String(lines[len(lines)-1][2:])
		}
	}
}

func testListEncoding(e *env) {
	b := e.withBucket()
	e.put("a b+c/ü&\n", []byte("x"))
	e.put("dir<1>/k", []byte("x"))
	var out struct {
		Prefix, Delimiter, EncodingType, StartAfter string
		Contents                                    []struct{ Key string }
		CommonPrefixes                              []struct{ Prefix string }
	}
	a := e.do(call{method: "GET", path: "/" + b + "?list-type=2&encoding-type=url"})
	e.must("the listing's XML", xml.Unmarshal(a.body, &out))
	equal(e, "encoding", out.EncodingType, "url")
	got, err := url.QueryUnescape(out.Contents[0].Key)
	e.must("decoding", err)
	equal(e, "key", got, "a b+c/ü&\n")
	if strings.ContainsAny(out.Contents[0].Key, " +&\nü") {
		e.t.Errorf("key %q is not encoded", out.Contents[0].Key)
	}
	a = e.do(call{method: "GET", path: "/" + b + "?list-type=2&delimiter=/&encoding-type=url&start-after=b%20"})
	e.must("the listing's XML", xml.Unmarshal(a.body, &out))
	equal(e, "prefix", out.CommonPrefixes[0].Prefix, "dir%3C1%3E/")
	equal(e, "start-after", out.StartAfter, "b%20")
	a = e.do(call{method: "GET", path: "/" + b + "?list-type=2"})
	if !strings.Contains(string(a.body), "<Key>a b+c/ü&amp;&#xa;</Key>") || !strings.Contains(string(a.body), "<Key>dir&lt;1&gt;/k</Key>") {
		e.t.Errorf("without encoding: %s", a.body)
	}
}

func testListVersions(e *env) {
	b := e.withBucket()
	for _, k := range []string{"a", "b/1", "c"} {
		e.put(k, []byte(k))
	}
	l, err := e.s3.ListObjectVersions(ctx, &s3.ListObjectVersionsInput{Bucket: &b, Delimiter: aws.String("/")})
	e.must("ListObjectVersions", err)
	if len(l.Versions) != 2 || *l.Versions[1].Key != "c" || *l.Versions[0].VersionId != "null" || !*l.Versions[0].IsLatest || len(l.CommonPrefixes) != 1 {
		e.t.Errorf("%+v", l)
	}
	l, err = e.s3.ListObjectVersions(ctx, &s3.ListObjectVersionsInput{Bucket: &b, MaxKeys: ptr[int32](1)})
	e.must("ListObjectVersions", err)
	l, err = e.s3.ListObjectVersions(ctx, &s3.ListObjectVersionsInput{Bucket: &b, KeyMarker: l.NextKeyMarker, VersionIdMarker: l.NextVersionIdMarker})
	e.must("ListObjectVersions, further", err)
	equal(e, "versions left", len(l.Versions), 2)
	// The null version is the object itself.
	e.wantAnswer("the null version", call{method: "GET", path: e.object("a") + "?versionId=null"}, 200, "")
	e.wantAnswer("another version", call{method: "GET", path: e.object("a") + "?versionId=abc"}, 400, "InvalidArgument")
}
