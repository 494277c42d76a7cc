package s3test

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"io"
	mrand "math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	"github.com/minio/minio-go/v7"
	miniocreds "github.com/minio/minio-go/v7/pkg/credentials"

	"ringfort/gateway/auth/sigv4"
)

// Endpoint is a server to be tested.
type Endpoint struct {
	// URL is where it listens: "http://127.0.0.1:9000".
	URL string
	// AccessKey and SecretKey are those of an account that the suite may use: it
	// makes buckets with names of its own and removes them again.
	AccessKey, SecretKey string
	// Other is a key of another account; without one the checks that need two are
	// skipped.
	OtherAccessKey, OtherSecretKey string
	// Region to sign for. Default us-east-1.
	Region string
	// Domain, if not "", is served virtual-hosted: bucket.Domain.
	Domain string
	// Client sends the requests. Default: one of its own. Give it the roots that a
	// TLS endpoint needs.
	Client *http.Client
}

// env is one test's view of the endpoint.
type env struct {
	Endpoint
	t      *testing.T
	s3     *s3.Client
	minio  *minio.Core
	signer *sigv4.Signer
	bucket string
}

// Run drives every S3 operation at an endpoint, with the AWS SDK, minio-go and
// requests made by hand, good and bad ones.
func Run(t *testing.T, e Endpoint) {
	if e.Region == "" {
		e.Region = "us-east-1"
	}
	if e.Client == nil {
		tr := http.DefaultTransport.(*http.Transport).Clone()
		tr.DisableCompression = true
		e.Client = &http.Client{Transport: tr}
		t.Cleanup(tr.CloseIdleConnections)
	}
	for _, c := range cases() {
		t.Run(c.name, func(t *testing.T) {
			c.run(newEnv(t, e))
		})
	}
}

type testCase struct {
	name string
	run  func(*env)
}

func cases() []testCase {
	return []testCase{
		{"Buckets", testBuckets}, {"BucketNames", testBucketNames}, {"ListBuckets", testListBuckets},
		{"OtherAccount", testOtherAccount}, {"BucketTagging", testBucketTagging}, {"Settings", testSettings},
		{"ExpectedOwner", testExpectedOwner},
		{"Objects", testObjects}, {"Metadata", testMetadata}, {"ZeroLength", testZeroLength}, {"Keys", testKeys},
		{"Ranges", testRanges}, {"ReadConditions", testReadConditions}, {"WriteConditions", testWriteConditions},
		{"Overrides", testOverrides}, {"ObjectTagging", testObjectTagging}, {"ObjectACL", testObjectACL},
		{"DeleteObjects", testDeleteObjects}, {"Race", testRace},
		{"Checksums", testChecksums}, {"WrongChecksums", testWrongChecksums}, {"Payloads", testPayloads},
		{"Presigned", testPresigned}, {"SigV2", testSigV2}, {"VirtualHosts", testVirtualHosts},
		{"Copy", testCopy}, {"CopyToItself", testCopyToItself}, {"CopyConditions", testCopyConditions},
		{"Multipart", testMultipart}, {"MultipartChecksums", testMultipartChecksums}, {"MultipartWrongChecksums", testMultipartWrongChecksums},
		{"MultipartBad", testMultipartBad},
		{"MultipartConditions", testMultipartConditions}, {"UploadPartCopy", testUploadPartCopy},
		{"ListParts", testListParts}, {"ListUploads", testListUploads}, {"Attributes", testAttributes},
		{"List", testList}, {"ListModel", testListModel}, {"ListEncoding", testListEncoding}, {"ListVersions", testListVersions},
		{"Manager", testManager}, {"TransferManager", testTransferManager}, {"MinIO", testMinIO},
		{"BadAuth", testBadAuth}, {"BadBodies", testBadBodies}, {"BadXML", testBadXML}, {"BadHeaders", testBadHeaders},
		{"NotImplemented", testNotImplemented}, {"Errors", testErrors}, {"Continue", testContinue},
	}
}

func newEnv(t *testing.T, ep Endpoint) *env {
	e := &env{Endpoint: ep, t: t}
	e.signer = sigv4.NewSigner(sigv4.Credentials{AccessKey: ep.AccessKey, SecretKey: ep.SecretKey}, ep.Region)
	e.s3 = e.client(ep.AccessKey, ep.SecretKey)
	u, err := url.Parse(ep.URL)
	if err != nil {
		t.Fatal(err)
	}
	e.minio, err = minio.NewCore(u.Host, &minio.Options{
		Creds: miniocreds.NewStaticV4(ep.AccessKey, ep.SecretKey, ""), Secure: u.Scheme == "https",
		Region: ep.Region, BucketLookup: minio.BucketLookupPath, Transport: ep.Client.Transport, MaxRetries: 1, TrailingHeaders: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// client is the AWS SDK with a key. It does not retry: an error is an error.
func (e *env) client(key, secret string, change ...func(*s3.Options)) *s3.Client {
	o := s3.Options{
		BaseEndpoint: aws.String(e.URL), Region: e.Region, UsePathStyle: true, HTTPClient: e.Client,
		Credentials: credentials.NewStaticCredentialsProvider(key, secret, ""), RetryMaxAttempts: 1,
		// What programs get that load the SDK's default configuration.
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenSupported,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenSupported,
	}
	for _, c := range change {
		c(&o)
	}
	return s3.New(o)
}

var ctx = context.Background()

// newName returns a bucket name that nobody else uses.
func newName() string {
	var b [8]byte
	rand.Read(b[:])
	return "ringfort-test-" + hex.EncodeToString(b[:])
}

// withBucket makes a bucket for the test, which is emptied and removed after it.
func (e *env) withBucket() string {
	e.t.Helper()
	if e.bucket == "" {
		e.bucket = e.newBucket()
	}
	return e.bucket
}

func (e *env) newBucket() string {
	e.t.Helper()
	name := newName()
	if _, err := e.s3.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &name}); err != nil {
		e.t.Fatalf("CreateBucket: %v", err)
	}
	e.t.Cleanup(func() { e.remove(name) })
	return name
}

// remove empties and deletes a bucket, unfinished uploads included.
func (e *env) remove(name string) {
	ups := s3.NewListMultipartUploadsPaginator(e.s3, &s3.ListMultipartUploadsInput{Bucket: &name})
	for ups.HasMorePages() {
		page, err := ups.NextPage(ctx)
		if err != nil {
			break
		}
		for _, u := range page.Uploads {
			e.s3.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &name, Key: u.Key, UploadId: u.UploadId})
		}
	}
	var keys []string
	token := ""
	for {
		page, err := e.minio.ListObjectsV2(name, "", "", token, "", 1000)
		if err != nil {
			break
		}
		for _, o := range page.Contents {
			keys = append(keys, o.Key)
		}
		if token = page.NextContinuationToken; token == "" {
			break
		}
	}
	for _, k := range keys {
		e.s3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &name, Key: &k})
	}
	if _, err := e.s3.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: &name}); err != nil && code(err) != "NoSuchBucket" {
		e.t.Errorf("cleaning up: DeleteBucket: %v", err)
	}
}

// code returns the S3 error code of an SDK's error.
func code(err error) string {
	var ae smithy.APIError
	if errors.As(err, &ae) {
		return ae.ErrorCode()
	}
	if m := minio.ToErrorResponse(err); m.Code != "" {
		return m.Code
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// wantCode fails the test unless err is that S3 error.
func (e *env) wantCode(what string, err error, want string) {
	e.t.Helper()
	if got := code(err); got != want {
		e.t.Errorf("%s: %q (%v), want %q", what, got, err, want)
	}
}

func (e *env) must(what string, err error) {
	e.t.Helper()
	if err != nil {
		e.t.Fatalf("%s: %v", what, err)
	}
}

// put writes an object with the SDK's defaults.
func (e *env) put(key string, body []byte) *s3.PutObjectOutput {
	e.t.Helper()
	out, err := e.s3.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(e.withBucket()), Key: &key, Body: bytes.NewReader(body)})
	e.must("PutObject "+key, err)
	return out
}

// get reads an object whole.
func (e *env) get(key string) ([]byte, *s3.GetObjectOutput) {
	e.t.Helper()
	out, err := e.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(e.withBucket()), Key: &key})
	e.must("GetObject "+key, err)
	defer out.Body.Close()
	b, err := io.ReadAll(out.Body)
	e.must("reading "+key, err)
	return b, out
}

// wantBody fails the test unless the object reads so.
func (e *env) wantBody(key string, want []byte) {
	e.t.Helper()
	if got, _ := e.get(key); !bytes.Equal(got, want) {
		e.t.Errorf("%s: %d bytes that are not the %d written", key, len(got), len(want))
	}
}

// wantGone fails the test unless there is no such object.
func (e *env) wantGone(key string) {
	e.t.Helper()
	_, err := e.s3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: aws.String(e.withBucket()), Key: &key})
	e.wantCode("HeadObject of "+key+", which must not exist", err, "NotFound")
}

// pattern returns n bytes that depend on seed.
func pattern(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := mrand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	r.Read(b)
	return b
}

func md5Hex(b []byte) string {
	s := md5.Sum(b)
	return hex.EncodeToString(s[:])
}

func md5Base64(b []byte) string {
	s := md5.Sum(b)
	return base64.StdEncoding.EncodeToString(s[:])
}

// call is a request made by hand.
type call struct {
	method, path string // path with query, encoded
	header       map[string]string
	body         []byte
	payload      string // x-amz-content-sha256; default: the body's hash
	at           time.Time
	// unsigned headers are added after signing, and mangle may do what it likes.
	mangle func(*http.Request)
	signer *sigv4.Signer // default: the env's
	plain  bool          // no signature at all
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
	code   string
}

// do signs and sends a request.
func (e *env) do(c call) *answer {
	e.t.Helper()
	req := e.request(c)
	res, err := e.Client.Do(req)
	e.must(c.method+" "+c.path, err)
	defer res.Body.Close()
	a := &answer{status: res.StatusCode, header: res.Header}
	a.body, err = io.ReadAll(res.Body)
	e.must("reading the answer to "+c.method+" "+c.path, err)
	if res.StatusCode >= 300 && len(a.body) > 0 {
		var x struct{ Code string }
		if err := xml.Unmarshal(a.body, &x); err != nil {
			e.t.Errorf("%s %s: the error's body is not XML: %q", c.method, c.path, a.body)
		}
		a.code = x.Code
	}
	return a
}

func (e *env) request(c call) *http.Request {
	e.t.Helper()
	req, err := http.NewRequest(c.method, e.URL+c.path, bytes.NewReader(c.body))
	e.must("making the request", err)
	// What the path says must go out as it is.
	if u, err := url.Parse(e.URL + c.path); err == nil {
		req.URL = u
	}
	for k, v := range c.header {
		req.Header.Set(k, v)
	}
	if c.at.IsZero() {
		c.at = time.Now()
	}
	if c.payload == "" {
		sum := sha256.Sum256(c.body)
		c.payload = hex.EncodeToString(sum[:])
	}
	if c.signer == nil {
		c.signer = e.signer
	}
	if !c.plain {
		_, err := c.signer.Sign(req, c.payload, c.at)
		e.must("signing", err)
	}
	if c.mangle != nil {
		c.mangle(req)
	}
	return req
}

// wantAnswer sends a request and compares status and code.
func (e *env) wantAnswer(what string, c call, status int, wantCode string) *answer {
	e.t.Helper()
	a := e.do(c)
	if a.status != status || a.code != wantCode {
		e.t.Errorf("%s: %d %s, want %d %s\n%s", what, a.status, a.code, status, wantCode, a.body)
	}
	return a
}

// object is the path of an object in the test's bucket.
func (e *env) object(key string) string {
	return "/" + e.withBucket() + "/" + strings.ReplaceAll(url.PathEscape(key), "%2F", "/")
}

// seeded returns a random source and says how to get it again.
func (e *env) seeded() *mrand.Rand {
	seed := uint64(time.Now().UnixNano())
	e.t.Logf("seed %d", seed)
	return mrand.New(mrand.NewPCG(seed, seed))
}

func ptr[T any](v T) *T { return &v }

func equal[T comparable](e *env, what string, got, want T) {
	e.t.Helper()
	if got != want {
		e.t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// value is *p, or the zero value.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
