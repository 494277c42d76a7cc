package e2e

import (
	"strings"
	"testing"

	"ringfort/e2e/harness"
)

// TestResticS3 backs up to S3, checks every byte and restores.
func TestResticS3(t *testing.T) {
	eachProgram(t, "restic", func(t *testing.T, s *harness.System, program string) {
		box := harness.NewSandbox(t)
		box.Setenv("AWS_ACCESS_KEY_ID", s.AccessKey)
		box.Setenv("AWS_SECRET_ACCESS_KEY", s.SecretKey)
		backup(t, box, program, "s3:"+s.S3()+"/restic-bucket/repo")
	})
}

// TestResticSwift does the same through Swift.
func TestResticSwift(t *testing.T) {
	eachProgram(t, "restic", func(t *testing.T, s *harness.System, program string) {
		box := harness.NewSandbox(t)
		box.Setenv("ST_AUTH", s.SwiftAuth(t))
		box.Setenv("ST_USER", s.SwiftUser())
		box.Setenv("ST_KEY", s.SecretKey)
		backup(t, box, program, "swift:restic-container:/repo")
	})
}

func backup(t *testing.T, box *harness.Sandbox, program, repository string) {
	t.Helper()
	box.Setenv("RESTIC_PASSWORD", "e2e")
	box.Setenv("RESTIC_REPOSITORY", repository)
	run := func(args ...string) string {
		t.Helper()
		return box.Run(program, args...)
	}
	local := box.Path("local")
	changeable(t, harness.TreeFor(t), local)
	run("init")
	run("backup", local)
	run("check", "--read-data")
	run("restore", "latest", "--target", box.Path("first"))
	harness.SameTree(t, local, box.Path("first", local))
	change(t, local)
	run("backup", local)
	equal(t, "snapshots", strings.Count(run("snapshots", "--compact", "--json"), `"tree"`), 2)
	run("forget", "--keep-last", "1", "--prune")
	run("check", "--read-data")
	run("restore", "latest", "--target", box.Path("second"))
	harness.SameTree(t, local, box.Path("second", local))
}
