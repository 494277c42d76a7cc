package e2e

import (
	"fmt"
	"strings"
	"testing"

	"ringfort/e2e/harness"
)

// s3cmd returns a function that runs s3cmd against s.
func s3cmd(t *testing.T, s *harness.System) (*harness.Sandbox, func(args ...string) string) {
	t.Helper()
	program := harness.Find(t, "s3cmd")
	box := harness.NewSandbox(t)
	host := s.S3Host(t)
	config := box.WriteFile(".s3cfg", fmt.Sprintf(`[default]
access_key = %s
secret_key = %s
host_base = %s
host_bucket = %s
use_https = False
progress_meter = False
stats = False
`, s.AccessKey, s.SecretKey, host, host))
	return box, func(args ...string) string {
		t.Helper()
		return box.Run(program, append([]string{"-c", config}, args...)...)
	}
}

// TestS3cmdSync sends a tree up and down, and changes to it.
func TestS3cmdSync(t *testing.T) {
	t.Parallel()
	rig.Each(t, harness.Setups(), func(t *testing.T, s *harness.System) {
		box, run := s3cmd(t, s)
		tree, local, back := harness.TreeFor(t), box.Path("local"), box.Path("back")
		changeable(t, tree, local)
		const bucket = "s3://s3cmd-sync"
		run("mb", bucket)
		out := run("sync", local+"/", bucket+"/tree/")
		// What it has sent already under another name it has the server copy.
		sentOrCopied := harness.Lines(out, "upload: ") + harness.Lines(out, "remote copy: ")
		equal(t, "files sent", sentOrCopied, harness.Files(t, local))
		equal(t, "keys listed", harness.Lines(run("ls", "-r", bucket), bucket), harness.Files(t, local))
		out = run("sync", local+"/", bucket+"/tree/")
		equal(t, "files sent again", harness.Lines(out, "upload: "), 0)

		sent, deleted := change(t, local)
		out = run("sync", "--delete-removed", local+"/", bucket+"/tree/")
		equal(t, "changed files sent", harness.Lines(out, "upload: "), sent)
		equal(t, "files deleted", harness.Lines(out, "delete: "), deleted)

		box.WriteFile("back/keep", "")
		run("sync", "--delete-removed", bucket+"/tree/", back+"/")
		harness.SameTree(t, local, back)
		run("rb", "--recursive", "--force", bucket)
		equal(t, "buckets left", harness.Lines(run("ls"), bucket), 0)
	})
}

// TestS3cmdObjects takes s3cmd's other commands once each.
func TestS3cmdObjects(t *testing.T) {
	t.Parallel()
	rig.Each(t, harness.Setups(), func(t *testing.T, s *harness.System) {
		box, run := s3cmd(t, s)
		const bucket = "s3://s3cmd-objects"
		run("mb", bucket)
		big := harness.BigFile(t, box.Path("big"), bigBytes)
		run("put", "--multipart-chunk-size-mb=5", "--add-header=x-amz-meta-colour:blue", big, bucket+"/big")
		run("get", bucket+"/big", box.Path("big.back"))
		harness.SameFile(t, big, box.Path("big.back"))
		if info := run("info", bucket+"/big"); !strings.Contains(info, "colour") || !strings.Contains(info, "blue") {
			t.Errorf("info lacks the metadata:\n%s", info)
		}
		small := box.WriteFile("small", "0123456789")
		run("put", small, bucket+"/a b/ü+&.txt")
		run("cp", bucket+"/a b/ü+&.txt", bucket+"/copy")
		run("mv", bucket+"/copy", bucket+"/moved")
		run("get", bucket+"/moved", box.Path("moved"))
		harness.SameFile(t, small, box.Path("moved"))
		equal(t, "directories listed", harness.Lines(run("ls", bucket+"/"), "DIR"), 1)
		if du := run("du", bucket); !strings.Contains(du, "3 objects") {
			t.Errorf("du says %s", du)
		}
		run("put", "--continue-put", "--multipart-chunk-size-mb=5", big, bucket+"/big")
		equal(t, "uploads unfinished", harness.Lines(run("multipart", bucket), bucket+"/big"), 0)

		run("--signature-v2", "put", small, bucket+"/v2")
		run("--signature-v2", "get", bucket+"/v2", box.Path("v2"))
		harness.SameFile(t, small, box.Path("v2"))
		run("del", bucket+"/v2")
		run("del", "--recursive", "--force", bucket)
		run("rb", bucket)
	})
}
