package sigv4

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// The examples of the S3 API reference, "Signature Calculations for the
// Authorization Header" (single chunk, multiple chunks, trailing headers) and
// "Using Query Parameters".
const (
	exampleID     = "AKIAIOSFODNN7EXAMPLE"
	exampleSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
)

var exampleTime = time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC)

// request reads a request from its text, as a server would.
func request(t testing.TB, lines ...string) *http.Request {
	t.Helper()
	text := strings.Join(lines, "\r\n") + "\r\n\r\n"
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
	if err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	return r
}

func credential(signedHeaders, signature string) string {
	return "Authorization: AWS4-HMAC-SHA256 Credential=" + exampleID + "/20130524/us-east-1/s3/aws4_request," +
		"SignedHeaders=" + signedHeaders + ",Signature=" + signature
}

func TestAWSExamples(t *testing.T) {
	const date = "x-amz-date: 20130524T000000Z"
	empty := "x-amz-content-sha256: " + EmptySHA256
	for _, c := range []struct {
		name  string
		lines []string
	}{
		{"GET object", []string{
			"GET /test.txt HTTP/1.1", "Host: examplebucket.s3.amazonaws.com", "Range: bytes=0-9", empty, date,
			credential("host;range;x-amz-content-sha256;x-amz-date", "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"),
		}},
		{"PUT object", []string{
			"PUT /test$file.text HTTP/1.1", "Host: examplebucket.s3.amazonaws.com",
			"Date: Fri, 24 May 2013 00:00:00 GMT", date, "x-amz-storage-class: REDUCED_REDUNDANCY",
			"x-amz-content-sha256: 44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
			credential("date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class", "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"),
		}},
		{"GET lifecycle", []string{
			"GET /?lifecycle HTTP/1.1", "Host: examplebucket.s3.amazonaws.com", empty, date,
			credential("host;x-amz-content-sha256;x-amz-date", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
		}},
		{"list", []string{
			"GET /?max-keys=2&prefix=J HTTP/1.1", "Host: examplebucket.s3.amazonaws.com", empty, date,
			credential("host;x-amz-content-sha256;x-amz-date", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
		}},
		{"presigned", []string{
			"GET /test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request" +
				"&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host" +
				"&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404 HTTP/1.1",
			"Host: examplebucket.s3.amazonaws.com",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := NewVerifier(Config{Region: "us-east-1"})
			if _, err := verify(v, request(t, c.lines...), exampleSecret, exampleTime); err != nil {
				t.Error(details(err))
			}
			// The same with anything changed must fail.
			for _, bad := range []func([]string){
				func(l []string) { l[0] = "HEAD" + l[0][3:] },
				func(l []string) { l[0] = strings.Replace(l[0], " /", " /x", 1) },
				func(l []string) { l[1] = "Host: other" },
				func(l []string) { l[0] = strings.Replace(l[0], " HTTP", "z HTTP", 1) },
			} {
				lines := append([]string(nil), c.lines...)
				bad(lines)
				if _, err := verify(v, request(t, lines...), exampleSecret, exampleTime); code(err) != CodeSignatureDoesNotMatch {
					t.Errorf("%q gave %v", lines, err)
				}
			}
			if _, err := verify(v, request(t, c.lines...), exampleSecret+"x", exampleTime); code(err) != CodeSignatureDoesNotMatch {
				t.Errorf("another secret gave %v", err)
			}
		})
	}
}

// verify parses and verifies.
func verify(v *Verifier, r *http.Request, secret string, now time.Time) (Verified, error) {
	c, err := v.Parse(r)
	if err != nil {
		return Verified{}, err
	}
	return v.Verify(&c, r, secret, now)
}

func code(err error) string {
	if e, ok := err.(*Error); ok {
		return e.Code
	}
	return ""
}

func details(err error) string {
	e, ok := err.(*Error)
	if !ok {
		return err.Error()
	}
	s := e.Error()
	for _, d := range e.Details {
		s += "\n" + d.Name + ": " + d.Value
	}
	return s
}

// The chunked example: 65 KiB of 'a' in chunks of 64 KiB, 1 KiB and none.
func TestAWSChunkedExample(t *testing.T) {
	r := request(t,
		"PUT /examplebucket/chunkObject.txt HTTP/1.1", "Host: s3.amazonaws.com", "x-amz-date: 20130524T000000Z",
		"x-amz-storage-class: REDUCED_REDUNDANCY", "x-amz-content-sha256: "+Streaming, "Content-Encoding: aws-chunked",
		"x-amz-decoded-content-length: 66560", "Content-Length: 66824",
		credential("content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class",
			"4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"))
	v, err := verify(NewVerifier(Config{}), r, exampleSecret, exampleTime)
	if err != nil {
		t.Fatal(details(err))
	}
	if v.Payload != PayloadStreaming {
		t.Errorf("payload %d", v.Payload)
	}
	chain(t, &v, "",
		"ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
		"0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
		"b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9")
}

func TestAWSTrailerExample(t *testing.T) {
	r := request(t,
		"PUT /examplebucket/chunkObject.txt HTTP/1.1", "Host: s3.amazonaws.com", "x-amz-date: 20130524T000000Z",
		"x-amz-storage-class: REDUCED_REDUNDANCY", "x-amz-content-sha256: "+StreamingTrailer, "Content-Encoding: aws-chunked",
		"x-amz-decoded-content-length: 66560", "x-amz-trailer: x-amz-checksum-crc32c", "Content-Length: 66824",
		credential("content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class;x-amz-trailer",
			"106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e"))
	v, err := verify(NewVerifier(Config{}), r, exampleSecret, exampleTime)
	if err != nil {
		t.Fatal(details(err))
	}
	chain(t, &v, "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435",
		"b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
		"1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
		"2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992")
}

func chain(t *testing.T, v *Verified, trailer string, want ...string) {
	t.Helper()
	s := v.ChunkSigner()
	for i, size := range []int{65536, 1024, 0} {
		sum := sha256.Sum256(bytes.Repeat([]byte("a"), size))
		if got := string(s.Chunk(&sum)[:]); got != want[i] {
			t.Errorf("chunk %d: %s, want %s", i, got, want[i])
		}
	}
	if trailer == "" {
		return
	}
	sum := sha256.Sum256([]byte("x-amz-checksum-crc32c:sOO8/Q==\n"))
	if got := string(s.Trailer(&sum)[:]); got != trailer {
		t.Errorf("trailer: %s, want %s", got, trailer)
	}
}

// Our own client must make the same signatures.
func TestSignerMakesTheExamples(t *testing.T) {
	s := NewSigner(Credentials{AccessKey: exampleID, SecretKey: exampleSecret}, "us-east-1")
	r := httptest.NewRequest("GET", "https://examplebucket.s3.amazonaws.com/test.txt", nil)
	r.Header.Set("Range", "bytes=0-9")
	v, err := s.Sign(r, EmptySHA256, exampleTime)
	if err != nil || string(v.Signature[:]) != "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41" {
		t.Errorf("Sign: %s, %v", v.Signature, err)
	}
	r = httptest.NewRequest("GET", "https://examplebucket.s3.amazonaws.com/test.txt", nil)
	v, err = s.Presign(r, 24*time.Hour, exampleTime)
	if err != nil || string(v.Signature[:]) != "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404" {
		t.Errorf("Presign: %s, %v", v.Signature, err)
	}
}
