package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ringfort/e2e/harness"
)

// aws is the AWS command line against one system.
type aws struct {
	*harness.Sandbox
	program string
	global  []string
}

// eachAWS runs test with every generation of the client that is installed, for the
// newer ones send other checksums and payload signatures by default, and others over
// TLS. How many directories and processes the server has is no matter for that: on
// several, one generation is enough.
func eachAWS(t *testing.T, setups []harness.Setup, test func(t *testing.T, a *aws)) {
	t.Parallel()
	programs := harness.FindAll(t, "/usr/bin/aws", "aws")
	rig.Each(t, setups, func(t *testing.T, s *harness.System) {
		for i, program := range programs {
			if i > 0 && s.Setup.Nodes*s.Setup.Dirs > 1 {
				break
			}
			t.Run(fmt.Sprintf("client%d", i), func(t *testing.T) { test(t, newAWS(t, s, program)) })
		}
	})
}

// withTLS returns all set-ups.
func withTLS() []harness.Setup { return append(harness.Setups(), harness.TLSSetups()...) }

func newAWS(t *testing.T, s *harness.System, program string) *aws {
	t.Helper()
	a := &aws{Sandbox: harness.NewSandbox(t), program: program}
	a.global = []string{"--endpoint-url", s.S3()}
	if s.CAFile != "" {
		a.global = append(a.global, "--ca-bundle", s.CAFile)
	}
	a.Setenv("AWS_ACCESS_KEY_ID", s.AccessKey)
	a.Setenv("AWS_SECRET_ACCESS_KEY", s.SecretKey)
	a.Setenv("AWS_DEFAULT_REGION", "us-east-1")
	a.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	a.Setenv("AWS_PAGER", "")
	a.Setenv("AWS_CONFIG_FILE", a.WriteFile("aws.config", `[default]
s3 =
  addressing_style = path
  multipart_threshold = 8MB
  multipart_chunksize = 8MB
`))
	t.Log(program)
	return a
}

// run runs one command of the client.
func (a *aws) run(args ...string) string {
	return a.Run(a.program, append(append([]string(nil), a.global...), args...)...)
}

// api runs an s3api command and decodes its answer.
func (a *aws) api(t *testing.T, args ...string) map[string]any {
	t.Helper()
	out := a.run(append([]string{"--output", "json", "s3api"}, args...)...)
	if strings.TrimSpace(out) == "" {
		return nil
	}
	var answer map[string]any
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return answer
}

// TestAWSCopy sends a file in parts up, from bucket to bucket, and down.
func TestAWSCopy(t *testing.T) {
	eachAWS(t, withTLS(), func(t *testing.T, a *aws) {
		big := harness.BigFile(t, a.Path("big"), bigBytes)
		a.run("s3", "mb", "s3://aws-from")
		a.run("s3", "mb", "s3://aws-to")
		a.run("s3", "cp", "--no-progress", "--metadata", "colour=blue", big, "s3://aws-from/dir/big")
		a.run("s3", "cp", "--no-progress", "s3://aws-from/dir/big", "s3://aws-to/big")
		a.run("s3", "cp", "--no-progress", "s3://aws-to/big", a.Path("back"))
		harness.SameFile(t, big, a.Path("back"))
		info, err := os.Stat(big)
		if err != nil {
			t.Fatal(err)
		}
		head := a.api(t, "head-object", "--bucket", "aws-to", "--key", "big")
		equal(t, "length", head["ContentLength"], any(float64(info.Size())))
		// Only newer clients carry metadata along when they copy in parts.
		head = a.api(t, "head-object", "--bucket", "aws-from", "--key", "dir/big")
		equal(t, "metadata", fmt.Sprint(head["Metadata"]), "map[colour:blue]")
		a.run("s3", "mv", "--no-progress", "s3://aws-from/dir/big", "s3://aws-from/moved")
		equal(t, "keys", harness.Lines(a.run("s3", "ls", "--recursive", "s3://aws-from"), "moved"), 1)
		a.run("s3", "rb", "--force", "s3://aws-from")
		a.run("s3", "rb", "--force", "s3://aws-to")
	})
}

// TestAWSSync sends a tree up and down, and changes to it. Its requests are those
// of TestAWSCopy, which takes TLS.
func TestAWSSync(t *testing.T) {
	eachAWS(t, harness.Setups(), func(t *testing.T, a *aws) {
		local, back := a.Path("local"), a.Path("back")
		changeable(t, harness.TreeFor(t), local)
		a.run("s3", "mb", "s3://aws-sync")
		out := a.run("s3", "sync", "--no-progress", local, "s3://aws-sync/tree")
		equal(t, "files sent", harness.Lines(out, "upload: "), harness.Files(t, local))
		out = a.run("s3", "sync", "--no-progress", local, "s3://aws-sync/tree")
		equal(t, "files sent again", harness.Lines(out, "upload: "), 0)
		sent, deleted := change(t, local)
		out = a.run("s3", "sync", "--no-progress", "--delete", local, "s3://aws-sync/tree")
		equal(t, "changed files sent", harness.Lines(out, "upload: "), sent)
		equal(t, "files deleted", harness.Lines(out, "delete: "), deleted)
		a.run("s3", "sync", "--no-progress", "s3://aws-sync/tree", back)
		harness.SameTree(t, local, back)
		out = a.run("s3", "ls", "--recursive", "--summarize", "s3://aws-sync/tree/")
		if want := fmt.Sprintf("Total Objects: %d", harness.Files(t, local)); !strings.Contains(out, want) {
			t.Errorf("the listing does not end with %q", want)
		}
		a.run("s3", "rb", "--force", "s3://aws-sync")
	})
}

// TestAWSAPI takes the calls that have commands of their own.
func TestAWSAPI(t *testing.T) {
	eachAWS(t, withTLS(), func(t *testing.T, a *aws) {
		const bucket = "aws-api"
		a.api(t, "create-bucket", "--bucket", bucket)
		a.api(t, "head-bucket", "--bucket", bucket)
		a.api(t, "get-bucket-location", "--bucket", bucket)
		body := a.WriteFile("body", "0123456789")
		put := a.api(t, "put-object", "--bucket", bucket, "--key", "a b/ü+&.txt", "--body", body,
			"--content-type", "text/plain", "--tagging", "k=v")
		equal(t, "ETag", put["ETag"], any(`"781e5e245d69b566979b86e28d23f2c7"`))

		got := a.api(t, "get-object", "--bucket", bucket, "--key", "a b/ü+&.txt", "--range", "bytes=2-4", a.Path("range"))
		equal(t, "range", got["ContentRange"], any("bytes 2-4/10"))
		b, err := os.ReadFile(a.Path("range"))
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "bytes of the range", string(b), "234")

		tags := a.api(t, "get-object-tagging", "--bucket", bucket, "--key", "a b/ü+&.txt")
		equal(t, "tags", fmt.Sprint(tags["TagSet"]), "[map[Key:k Value:v]]")
		a.api(t, "put-object-tagging", "--bucket", bucket, "--key", "a b/ü+&.txt", "--tagging", "TagSet=[{Key=x,Value=y}]")
		a.api(t, "delete-object-tagging", "--bucket", bucket, "--key", "a b/ü+&.txt")
		a.api(t, "copy-object", "--bucket", bucket, "--key", "copy", "--copy-source", bucket+"/a b/ü+&.txt")
		attributes := a.api(t, "get-object-attributes", "--bucket", bucket, "--key", "copy", "--object-attributes", "ObjectSize")
		equal(t, "size", attributes["ObjectSize"], any(float64(10)))

		for i := range 5 {
			a.api(t, "put-object", "--bucket", bucket, "--key", fmt.Sprintf("list/%d", i), "--body", body)
		}
		page := a.api(t, "list-objects-v2", "--bucket", bucket, "--prefix", "list/", "--page-size", "2")
		equal(t, "keys in pages of two", len(page["Contents"].([]any)), 5)
		old := a.api(t, "list-objects", "--bucket", bucket, "--delimiter", "/")
		equal(t, "common prefixes", len(old["CommonPrefixes"].([]any)), 2)

		a.uploads(t, bucket)
		a.presigned(t, bucket)
		a.mistakes(t, bucket)
		a.api(t, "delete-objects", "--bucket", bucket, "--delete", "Objects=[{Key=list/0},{Key=list/1},{Key=list/2}]")
		a.run("s3", "rb", "--force", "s3://"+bucket)
	})
}

// uploads begins multipart uploads, completes one and aborts the other.
func (a *aws) uploads(t *testing.T, bucket string) {
	t.Helper()
	part := a.WriteFile("part", strings.Repeat("x", 5<<20))
	id := a.api(t, "create-multipart-upload", "--bucket", bucket, "--key", "parts")["UploadId"].(string)
	var list []string
	for i, file := range []string{part, a.Path("body")} {
		up := a.api(t, "upload-part", "--bucket", bucket, "--key", "parts", "--upload-id", id,
			"--part-number", fmt.Sprint(i+1), "--body", file)
		list = append(list, fmt.Sprintf(`{"PartNumber":%d,"ETag":%q}`, i+1, strings.Trim(up["ETag"].(string), `"`)))
	}
	parts := a.api(t, "list-parts", "--bucket", bucket, "--key", "parts", "--upload-id", id)
	equal(t, "parts", len(parts["Parts"].([]any)), 2)
	doomed := a.api(t, "create-multipart-upload", "--bucket", bucket, "--key", "doomed")["UploadId"].(string)
	uploads := a.api(t, "list-multipart-uploads", "--bucket", bucket)
	equal(t, "uploads", len(uploads["Uploads"].([]any)), 2)
	a.api(t, "abort-multipart-upload", "--bucket", bucket, "--key", "doomed", "--upload-id", doomed)
	done := a.api(t, "complete-multipart-upload", "--bucket", bucket, "--key", "parts", "--upload-id", id,
		"--multipart-upload", `{"Parts":[`+strings.Join(list, ",")+`]}`)
	if etag, _ := done["ETag"].(string); !strings.HasSuffix(etag, `-2"`) {
		t.Errorf("the ETag of two parts is %s", etag)
	}
	head := a.api(t, "head-object", "--bucket", bucket, "--key", "parts")
	equal(t, "length of the parts", head["ContentLength"], any(float64(5<<20+10)))
}

// presigned fetches an object by a URL that the client signed.
func (a *aws) presigned(t *testing.T, bucket string) {
	t.Helper()
	url := strings.TrimSpace(a.run("s3", "presign", "s3://"+bucket+"/copy"))
	if strings.HasPrefix(url, "https:") {
		return // the test's own client does not know the authority
	}
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("presigned URL: %s, %v\n%s", resp.Status, err, b)
	}
	equal(t, "bytes of the presigned URL", string(b), "0123456789")
}

// mistakes gets the errors that the client has to tell by their codes.
func (a *aws) mistakes(t *testing.T, bucket string) {
	t.Helper()
	for _, c := range []struct{ code, call string }{
		{"NoSuchKey", "get-object --bucket " + bucket + " --key none " + filepath.Join(a.Dir, "none")},
		{"NoSuchBucket", "list-objects-v2 --bucket aws-api-none"},
		{"BucketNotEmpty", "delete-bucket --bucket " + bucket},
		{"NoSuchUpload", "list-parts --bucket " + bucket + " --key parts --upload-id bm9uZQ"},
		{"NoSuchBucketPolicy", "get-bucket-policy --bucket " + bucket},
		{"404", "head-object --bucket " + bucket + " --key none"},
	} {
		args := append(append([]string(nil), a.global...), "s3api")
		out := a.Fails(a.program, append(args, strings.Fields(c.call)...)...)
		if !strings.Contains(out, "("+c.code+")") {
			t.Errorf("%s: want %s, got %s", c.call, c.code, out)
		}
	}
}
