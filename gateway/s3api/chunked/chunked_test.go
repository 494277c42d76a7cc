package chunked

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	md5simd "github.com/minio/md5-simd"
	"github.com/minio/minio-go/v7/pkg/signer"

	"ringfort/gateway/auth/sigv4"
	"ringfort/internal/checksum"
	"ringfort/internal/errs"
)

const (
	exampleID     = "AKIAIOSFODNN7EXAMPLE"
	exampleSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	crc32c        = "x-amz-checksum-crc32c"
)

var seedFlag = flag.Uint64("seed", 0, "repeat a randomized test with this seed")

func rng(t *testing.T) *rand.Rand {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("repeat with: go test -run %s -seed %d", t.Name(), seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func code(err error) string {
	var e *sigv4.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

var kinds = map[sigv4.Payload]string{
	sigv4.PayloadStreaming:                sigv4.Streaming,
	sigv4.PayloadStreamingTrailer:         sigv4.StreamingTrailer,
	sigv4.PayloadStreamingUnsignedTrailer: sigv4.StreamingUnsignedTrailer,
}

// body makes a request and its body as our client does, and the options with
// which a server reads it.
func body(t testing.TB, kind sigv4.Payload, data []byte, chunk int, trailers map[string]string) ([]byte, Options) {
	t.Helper()
	r := httptest.NewRequest("PUT", "/b/k", nil)
	r.Header.Set("X-Amz-Decoded-Content-Length", strconv.Itoa(len(data)))
	for name := range trailers {
		r.Header.Add("X-Amz-Trailer", name)
	}
	now := time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC)
	sent, err := sigv4.NewSigner(sigv4.Credentials{AccessKey: exampleID, SecretKey: exampleSecret}, "r").Sign(r, kinds[kind], now)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := NewWriter(&b, &sent, chunk)
	for name, value := range trailers {
		w.SetTrailer(name, value)
	}
	if n, err := w.Write(data); n != len(data) || err != nil {
		t.Fatal(n, err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if want := EncodedLength(kind, int64(len(data)), chunk, trailers); int64(b.Len()) != want {
		t.Fatalf("EncodedLength %d, body %d", want, b.Len())
	}
	v := sigv4.NewVerifier(sigv4.Config{})
	c, err := v.Parse(r)
	if err != nil {
		t.Fatal(err)
	}
	got, err := v.Verify(&c, r, exampleSecret, now)
	if err != nil {
		t.Fatal(err)
	}
	o, err := OptionsOf(r, &got)
	if err != nil {
		t.Fatal(err)
	}
	o.MinChunkBytes = 0
	return b.Bytes(), o
}

// slowly returns what Read returns, in pieces of random sizes.
type slowly struct {
	r   *rand.Rand
	src io.Reader
}

func (s slowly) Read(p []byte) (int, error) {
	if s.r.IntN(10) == 0 {
		return 0, nil
	}
	return s.src.Read(p[:min(len(p), 1+s.r.IntN(9000))])
}

// Every kind, with any sizes of data, chunks and reads, must come out as it went in.
func TestRoundTrip(t *testing.T) {
	r := rng(t)
	d := new(Decoder)
	for range 400 {
		kind := sigv4.PayloadStreaming + sigv4.Payload(r.IntN(3))
		data := make([]byte, r.IntN(40000)*r.IntN(2)+r.IntN(10))
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		var trailers map[string]string
		if kind.Trailer() && r.IntN(4) > 0 {
			trailers = map[string]string{crc32c: checksum.Of(checksum.CRC32C, data).String()}
		}
		raw, o := body(t, kind, data, 1+r.IntN(20000), trailers)
		if r.IntN(4) == 0 {
			o.DecodedLength = -1
		}
		d.Reset(slowly{r, bytes.NewReader(raw)}, o)
		got, err := io.ReadAll(slowly{r, d})
		if err != nil || !bytes.Equal(got, data) || d.Received() != int64(len(data)) {
			t.Fatalf("kind %d, %d of %d bytes: %v", kind, len(got), len(data), err)
		}
		if d.Trailer(crc32c) != trailers[crc32c] {
			t.Fatalf("trailer %q", d.Trailer(crc32c))
		}
		if n, err := d.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Fatalf("after the end: %d, %v", n, err)
		}
	}
}

// A signed body with one byte changed, or cut anywhere, must never read as whole,
// also by a reader that takes exactly the declared length.
func TestDamage(t *testing.T) {
	r := rng(t)
	data := bytes.Repeat([]byte("data"), 3000)
	for _, kind := range []sigv4.Payload{sigv4.PayloadStreaming, sigv4.PayloadStreamingTrailer} {
		var trailers map[string]string
		if kind.Trailer() {
			trailers = map[string]string{crc32c: checksum.Of(checksum.CRC32C, data).String()}
		}
		raw, o := body(t, kind, data, 5000, trailers)
		for at := 0; at < len(raw); at++ {
			if at > 300 && at < len(raw)-500 && at%37 != 0 { // all of the lines, some of the data
				continue
			}
			bad := bytes.Clone(raw)
			bad[at] ^= 1 << r.IntN(8)
			cut := raw[:at]
			for what, in := range map[string][]byte{"changed": bad, "cut": cut} {
				d := NewDecoder(bytes.NewReader(in), o)
				got := make([]byte, len(data))
				if _, err := io.ReadFull(d, got); err == nil {
					// Line ends and the case of digits and names carry nothing: then
					// the data must be right all the same.
					harmless := what == "changed" && (strings.ContainsAny(string(raw[at:at+1]), "\r\n") || raw[at]^bad[at] == 0x20)
					harmless = harmless || what == "cut" && strings.Trim(string(raw[at:]), "\r\n") == ""
					if !harmless || !bytes.Equal(got, data) {
						t.Fatalf("kind %d, byte %d of %d (%q) %s: accepted", kind, at, len(raw), raw[at], what)
					}
				} else if code(err) == "" {
					t.Fatalf("kind %d, byte %d %s: untyped %v", kind, at, what, err)
				} else if what == "cut" && at < len(raw)-400 && code(err) != CodeIncompleteBody {
					t.Fatalf("kind %d, cut at %d: %v", kind, at, err)
				}
			}
		}
	}
}

// awsBody is the body of AWS's example with trailing headers, or without.
func awsBody(signatures []string, tail string) string {
	var b strings.Builder
	for i, n := range []int{65536, 1024, 0} {
		fmt.Fprintf(&b, "%x;chunk-signature=%s\r\n%s", n, signatures[i], strings.Repeat("a", n))
		if n > 0 {
			b.WriteString("\r\n")
		}
	}
	return b.String() + tail
}

func TestAWSExamples(t *testing.T) {
	for _, c := range []struct {
		name, tail string
		kind       sigv4.Payload
		seed       string
		signatures []string
	}{
		{"chunks", "\r\n", sigv4.PayloadStreaming, "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9", []string{
			"ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
			"0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
			"b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"}},
		{"trailer", "x-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n",
			sigv4.PayloadStreamingTrailer, "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e", []string{
				"b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
				"1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
				"2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992"}},
	} {
		o := Options{Payload: c.kind, DecodedLength: 66560, MinChunkBytes: AWSMinChunkBytes, Verified: verified(c.seed)}
		if c.kind.Trailer() {
			o.Trailers = []string{crc32c}
		}
		d := NewDecoder(strings.NewReader(awsBody(c.signatures, c.tail)), o)
		got, err := io.ReadAll(d)
		if err != nil || string(got) != strings.Repeat("a", 66560) {
			t.Errorf("%s: %d bytes, %v", c.name, len(got), err)
		}
		if c.kind.Trailer() && d.Trailer(crc32c) != "sOO8/Q==" {
			t.Errorf("%s: trailer %q", c.name, d.Trailer(crc32c))
		}
		// Chunks in another order.
		s := c.signatures
		d.Reset(strings.NewReader(awsBody([]string{s[1], s[0], s[2]}, c.tail)), o)
		if _, err := io.ReadAll(d); code(err) != sigv4.CodeSignatureDoesNotMatch || !errs.Is(err, errs.Denied) {
			t.Errorf("%s: swapped signatures gave %v", c.name, err)
		}
	}
}

func verified(seed string) *sigv4.Verified {
	// The signing key of the example's secret, through the client's side.
	r := httptest.NewRequest("GET", "/", nil)
	v, err := sigv4.NewSigner(sigv4.Credentials{AccessKey: exampleID, SecretKey: exampleSecret}, "us-east-1").
		Sign(r, sigv4.UnsignedPayload, time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC))
	if err != nil {
		panic(err)
	}
	copy(v.Signature[:], seed)
	return &v
}

// hasher is what minio-go hashes with.
type hasher struct{ hash.Hash }

func (hasher) Close() {}

func newSHA256() md5simd.Hasher { return hasher{sha256.New()} }

// What minio-go sends, as it comes off the wire.
func TestMinioSigner(t *testing.T) {
	data := bytes.Repeat([]byte("minio"), 30000)
	sum := checksum.Of(checksum.CRC32C, data).String()
	trailer := func() http.Header { return http.Header{"X-Amz-Checksum-Crc32c": {sum}} }
	now := time.Now().UTC()
	for name, prepare := range map[string]func(r *http.Request) *http.Request{
		"signed": func(r *http.Request) *http.Request {
			return signer.StreamingSignV4(r, exampleID, exampleSecret, "", "r", int64(len(data)), now, newSHA256())
		},
		"signed with trailer": func(r *http.Request) *http.Request {
			r.Trailer = trailer()
			return signer.StreamingSignV4(r, exampleID, exampleSecret, "", "r", int64(len(data)), now, newSHA256())
		},
		"unsigned with trailer": func(r *http.Request) *http.Request {
			r.Header.Set("X-Amz-Content-Sha256", sigv4.StreamingUnsignedTrailer)
			return signer.SignV4Trailer(*r, exampleID, exampleSecret, "", "r", trailer())
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := http.NewRequest("PUT", "http://h:9000/b/k", bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			got := send(t, prepare(r))
			v := sigv4.NewVerifier(sigv4.Config{})
			c, err := v.Parse(got)
			if err != nil {
				t.Fatal(err)
			}
			ok, err := v.Verify(&c, got, exampleSecret, now)
			if err != nil {
				t.Fatal(err)
			}
			o, err := OptionsOf(got, &ok)
			if err != nil {
				t.Fatal(err)
			}
			d := NewDecoder(got.Body, o)
			read, err := io.ReadAll(d)
			if err != nil || !bytes.Equal(read, data) {
				t.Fatalf("%d bytes, %v", len(read), err)
			}
			if ok.Payload.Trailer() && d.Trailer(crc32c) != sum {
				t.Errorf("trailer %q", d.Trailer(crc32c))
			}
		})
	}
}

func send(t *testing.T, r *http.Request) *http.Request {
	t.Helper()
	var b bytes.Buffer
	r.Trailer = nil
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	got, err := http.ReadRequest(bufio.NewReader(&b))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// Bodies in the forms that SDKs send, and in those that they must not.
func TestUnsignedForms(t *testing.T) {
	const crc = "x-amz-checksum-crc32"
	for _, c := range []struct {
		name, in string
		trailers []string
		min      int64
		length   int64
		code     string
	}{
		{"as botocore", "5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n", []string{crc}, 8192, 5, ""},
		{"as minio-go", "5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\n\r\n\r\n", []string{crc}, 8192, 5, ""},
		{"upper case and blanks", "5\r\nhello\r\n0\r\nX-Amz-Checksum-CRC32:  NhCmhg== \r\n\r\n", []string{crc}, 0, 5, ""},
		{"no trailer", "5\r\nhello\r\n0\r\n\r\n", nil, 0, 5, ""},
		{"no last line end", "5\r\nhello\r\n0\r\n", nil, 0, 5, ""},
		{"empty", "0\r\n\r\n", nil, 0, 0, ""},
		{"leading zeros, extension", "0005;a=b\r\nhello\r\n000\r\n\r\n", nil, 0, 5, ""},
		{"several chunks", "3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", nil, 0, 5, ""},
		{"length unknown", "5\r\nhello\r\n0\r\n\r\n", nil, 0, -1, ""},
		{"small chunk first", "3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", nil, 8192, 5, CodeInvalidChunkSize},
		{"less than declared", "5\r\nhello\r\n0\r\n\r\n", nil, 0, 6, CodeIncompleteBody},
		{"more than declared", "6\r\nhello!\r\n0\r\n\r\n", nil, 0, 5, CodeIncompleteBody},
		{"more chunks than declared", "5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n", nil, 0, 5, CodeIncompleteBody},
		{"nothing", "", nil, 0, 0, CodeIncompleteBody},
		{"cut in a size", "5", nil, 0, 5, CodeIncompleteBody},
		{"cut before data", "5\r\n", nil, 0, 5, CodeIncompleteBody},
		{"cut in data", "5\r\nhel", nil, 0, 5, CodeIncompleteBody},
		{"cut after data", "5\r\nhello", nil, 0, 5, CodeIncompleteBody},
		{"no last chunk", "5\r\nhello\r\n", nil, 0, 5, CodeIncompleteBody},
		{"cut in a trailer", "5\r\nhello\r\n0\r\nx-amz-check", []string{crc}, 0, 5, CodeIncompleteBody},
		{"no line end after data", "5\r\nhello0\r\n\r\n", nil, 0, 5, CodeInvalidRequest},
		{"no size", "\r\nhello", nil, 0, 5, CodeInvalidRequest},
		{"negative", "-5\r\nhello\r\n0\r\n\r\n", nil, 0, 5, CodeInvalidRequest},
		{"prefix", "0x5\r\nhello\r\n0\r\n\r\n", nil, 0, 5, CodeInvalidRequest},
		{"huge", "fffffffffffffff\r\nhello", nil, 0, 5, CodeIncompleteBody},
		{"huge, length unknown", "fffffffffffffff\r\nhello", nil, 0, -1, CodeIncompleteBody},
		{"too many digits", "ffffffffffffffff\r\nhello", nil, 0, 5, CodeInvalidRequest},
		{"endless line", strings.Repeat("0", 9000), nil, 0, 5, CodeInvalidRequest},
		{"endless trailer", "5\r\nhello\r\n0\r\n" + strings.Repeat("x", 9000), []string{crc}, 0, 5, CodeMalformedTrailer},
		{"unannounced", "5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n", nil, 0, 5, CodeMalformedTrailer},
		{"missing", "5\r\nhello\r\n0\r\n\r\n", []string{crc}, 0, 5, CodeMalformedTrailer},
		{"repeated", "5\r\nhello\r\n0\r\n" + crc + ":a\r\n" + crc + ":a\r\n\r\n", []string{crc}, 0, 5, CodeMalformedTrailer},
		{"no colon", "5\r\nhello\r\n0\r\n" + crc + "\r\n\r\n", []string{crc}, 0, 5, CodeMalformedTrailer},
		{"more behind", "5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n", nil, 0, 5, CodeInvalidRequest},
		{"line ends without end", "5\r\nhello\r\n0\r\n" + strings.Repeat("\r\n", 50), nil, 0, 5, CodeInvalidRequest},
	} {
		o := Options{Payload: sigv4.PayloadStreamingUnsignedTrailer, DecodedLength: c.length, Trailers: c.trailers, MinChunkBytes: c.min}
		for how, src := range map[string]io.Reader{
			"at once": strings.NewReader(c.in), "bytewise": iotest.OneByteReader(strings.NewReader(c.in)), "EOF with data": iotest.DataErrReader(strings.NewReader(c.in)),
		} {
			d := NewDecoder(src, o)
			got, err := io.ReadAll(d)
			want := "hello"
			if c.length == 0 {
				want = ""
			}
			if code(err) != c.code || err == nil && string(got) != want {
				t.Errorf("%s, %s: %q, %v; want %q", c.name, how, got, err, c.code)
			}
			if err == nil && len(c.trailers) > 0 && d.Trailer(crc) != "NhCmhg==" {
				t.Errorf("%s, %s: trailer %q", c.name, how, d.Trailer(crc))
			}
			if _, again := d.Read(make([]byte, 1)); err != nil && again != err {
				t.Errorf("%s, %s: then %v", c.name, how, again)
			}
		}
	}
}

func TestSignedForms(t *testing.T) {
	data := []byte("hello")
	sum := map[string]string{crc32c: checksum.Of(checksum.CRC32C, data).String()}
	raw, o := body(t, sigv4.PayloadStreamingTrailer, data, 100, sum)
	for _, c := range []struct{ name, old, new, code string }{
		{"right", "", "", ""},
		{"as minio-go", "==\r\n", "==\n\r\n", ""},
		{"no chunk signature", ";chunk-signature=", ";signature=", CodeInvalidRequest},
		{"no trailer signature", "x-amz-trailer-signature", "x-amz-trailer-sign", CodeMalformedTrailer},
		{"trailer signature", "x-amz-trailer-signature:", "x-amz-trailer-signature:0", sigv4.CodeSignatureDoesNotMatch},
		{"trailer value", "==\r\n", "=\r\n", sigv4.CodeSignatureDoesNotMatch},
		{"trailers end early", crc32c, "\r\n" + crc32c, CodeMalformedTrailer},
		{"data", "hello", "hellO", sigv4.CodeSignatureDoesNotMatch},
	} {
		in := strings.Replace(string(raw), c.old, c.new, 1)
		got, err := io.ReadAll(NewDecoder(strings.NewReader(in), o))
		if code(err) != c.code || err == nil && string(got) != "hello" {
			t.Errorf("%s: %q, %v; want %q", c.name, got, err, c.code)
		}
		if err != nil && len(got) != 0 {
			t.Errorf("%s: %d bytes were released", c.name, len(got))
		}
	}
	// Nothing announced, nothing sent.
	raw, o = body(t, sigv4.PayloadStreamingTrailer, data, 100, nil)
	if got, err := io.ReadAll(NewDecoder(bytes.NewReader(raw), o)); err != nil || string(got) != "hello" {
		t.Errorf("without trailers: %q, %v", got, err)
	}
}

func TestSourceErrors(t *testing.T) {
	raw, o := body(t, sigv4.PayloadStreaming, make([]byte, 9000), 5000, nil)
	for _, n := range []int{0, 10, 3000, 5100, len(raw) - 1, len(raw)} {
		src := io.MultiReader(bytes.NewReader(raw[:n]), iotest.ErrReader(iotest.ErrTimeout))
		if _, err := io.ReadAll(NewDecoder(src, o)); err != iotest.ErrTimeout {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
	if _, err := io.ReadAll(NewDecoder(stuck{}, o)); err != io.ErrNoProgress {
		t.Errorf("a source that never reads: %v", err)
	}
}

type stuck struct{}

func (stuck) Read([]byte) (int, error) { return 0, nil }

func TestBadOptions(t *testing.T) {
	for _, o := range []Options{{Payload: sigv4.PayloadSigned}, {Payload: sigv4.PayloadStreaming}} {
		if _, err := NewDecoder(strings.NewReader("0\r\n\r\n"), o).Read(make([]byte, 1)); !errs.Is(err, errs.Invalid) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	w := NewWriter(io.Discard, &sigv4.Verified{Payload: sigv4.PayloadUnsigned}, 0)
	if _, err := w.Write([]byte("x")); !errs.Is(err, errs.Invalid) || w.Close() == nil {
		t.Errorf("Writer: %v", err)
	}
}

func TestOptionsOf(t *testing.T) {
	signed := &sigv4.Verified{Payload: sigv4.PayloadStreaming}
	trailing := &sigv4.Verified{Payload: sigv4.PayloadStreamingTrailer}
	for _, c := range []struct {
		v               *sigv4.Verified
		length, trailer string
		code            string
		names           int
	}{
		{signed, "5", "", "", 0},
		{signed, "", "", CodeMissingContentLength, 0},
		{signed, "-1", "", sigv4.CodeInvalidArgument, 0},
		{signed, "9223372036854775808", "", sigv4.CodeInvalidArgument, 0},
		{signed, "5", crc32c, CodeInvalidRequest, 0},
		{trailing, "5", "X-Amz-Checksum-CRC32C , x-amz-meta-a,,x-amz-trailer-signature", "", 2},
		{trailing, "5", strings.Repeat("a,", 17), CodeInvalidRequest, 0},
	} {
		r := httptest.NewRequest("PUT", "/", nil)
		r.Header.Set("X-Amz-Decoded-Content-Length", c.length)
		r.Header.Set("X-Amz-Trailer", c.trailer)
		o, err := OptionsOf(r, c.v)
		if code(err) != c.code || len(o.Trailers) != c.names || err == nil && (o.DecodedLength != 5 || o.MinChunkBytes != AWSMinChunkBytes) {
			t.Errorf("%q %q: %+v, %v", c.length, c.trailer, o, err)
		}
	}
}

func TestStoredEncoding(t *testing.T) {
	for _, c := range []struct {
		want string
		in   []string
	}{
		{"", nil}, {"", []string{"aws-chunked"}}, {"gzip", []string{"aws-chunked,gzip"}},
		{"gzip,br", []string{"gzip , AWS-Chunked", "br"}}, {"gzip", []string{"gzip,aws-chunked,"}},
	} {
		if got := StoredEncoding(c.in); got != c.want {
			t.Errorf("%q: %q, want %q", c.in, got, c.want)
		}
	}
}

func TestAllocations(t *testing.T) {
	raw, o := body(t, sigv4.PayloadStreaming, make([]byte, 100*1000), 1000, nil)
	d, src, p := new(Decoder), bytes.NewReader(raw), make([]byte, 32<<10)
	if n := testing.AllocsPerRun(20, func() {
		src.Reset(raw)
		d.Reset(src, o)
		for {
			if _, err := d.Read(p); err == io.EOF {
				return
			} else if err != nil {
				t.Fatal(err)
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations for a body of 100 chunks", n)
	}
}

// FuzzDecoder feeds unsigned and signed bodies. Signed ones may only be accepted
// when they hold the data that was signed.
func FuzzDecoder(f *testing.F) {
	data := []byte("hello, world")
	sum := map[string]string{crc32c: checksum.Of(checksum.CRC32C, data).String()}
	signed, o := body(f, sigv4.PayloadStreamingTrailer, data, 5, sum)
	f.Add(signed, 100)
	plain, _ := body(f, sigv4.PayloadStreamingUnsignedTrailer, data, 5, sum)
	f.Add(plain, 1)
	f.Add([]byte("5\r\nhello\r\n0\r\n\r\n"), 3)
	f.Fuzz(func(t *testing.T, in []byte, step int) {
		p := make([]byte, 1+uint(step)%9000)
		got, err := readAll(NewDecoder(bytes.NewReader(in), o), p)
		if err == nil && !bytes.Equal(got, data) {
			t.Fatalf("accepted %q", got)
		}
		u := Options{Payload: sigv4.PayloadStreamingUnsignedTrailer, DecodedLength: -1, Trailers: []string{crc32c}}
		got, err = readAll(NewDecoder(bytes.NewReader(in), u), p)
		if len(got) > len(in) {
			t.Fatalf("%d bytes out of %d", len(got), len(in))
		}
		if err != nil && code(err) == "" {
			t.Fatalf("untyped %v", err)
		}
	})
}

func readAll(d *Decoder, p []byte) (got []byte, err error) {
	for {
		n, err := d.Read(p)
		got = append(got, p[:n]...)
		if err == io.EOF {
			return got, nil
		}
		if err != nil {
			return got, err
		}
	}
}

func BenchmarkDecoder(b *testing.B) {
	data := make([]byte, 1<<20)
	for name, kind := range map[string]sigv4.Payload{"signed": sigv4.PayloadStreaming, "unsigned": sigv4.PayloadStreamingUnsignedTrailer} {
		raw, o := body(b, kind, data, 0, nil)
		b.Run(name, func(b *testing.B) {
			d, src, p := new(Decoder), bytes.NewReader(raw), make([]byte, 64<<10)
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				src.Reset(raw)
				d.Reset(src, o)
				if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{d}, p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
