package e2e

import (
	"testing"

	"ringfort/e2e/harness"
)

// TestDuplicityS3 backs up to S3 in full and incrementally, verifies and restores.
func TestDuplicityS3(t *testing.T) {
	t.Parallel()
	rig.Each(t, harness.Setups(), func(t *testing.T, s *harness.System) {
		box, run := duplicity(t)
		box.Setenv("AWS_ACCESS_KEY_ID", s.AccessKey)
		box.Setenv("AWS_SECRET_ACCESS_KEY", s.SecretKey)
		box.Setenv("AWS_DEFAULT_REGION", "us-east-1")
		box.Setenv("AWS_EC2_METADATA_DISABLED", "true")
		// This backend expects its bucket to be there.
		_, s3 := s3cmd(t, s)
		s3("mb", "s3://duplicity-bucket")
		duplicityRoundTrip(t, box, run, "boto3+s3://duplicity-bucket/backup",
			"--s3-endpoint-url", s.S3(), "--s3-region-name", "us-east-1")
	})
}

// TestDuplicitySwift does the same through Swift.
func TestDuplicitySwift(t *testing.T) {
	t.Parallel()
	rig.Each(t, harness.Setups(), func(t *testing.T, s *harness.System) {
		box, run := duplicity(t)
		box.Setenv("SWIFT_AUTHURL", s.SwiftAuth(t))
		box.Setenv("SWIFT_USERNAME", s.SwiftUser())
		box.Setenv("SWIFT_PASSWORD", s.SecretKey)
		box.Setenv("SWIFT_AUTHVERSION", "1")
		duplicityRoundTrip(t, box, run, "swift://duplicity-container/backup")
	})
}

func duplicity(t *testing.T) (*harness.Sandbox, func(args ...string) string) {
	t.Helper()
	program := harness.Find(t, "duplicity")
	box := harness.NewSandbox(t)
	return box, func(args ...string) string {
		t.Helper()
		args = append([]string{"--no-encryption", "--num-retries", "1", "--volsize", "5"}, args...)
		return box.Run(program, args...)
	}
}

func duplicityRoundTrip(t *testing.T, box *harness.Sandbox, run func(...string) string, url string, options ...string) {
	t.Helper()
	local := box.Path("local")
	changeable(t, harness.TreeFor(t), local)
	with := func(args ...string) []string { return append(append([]string(nil), options...), args...) }
	run(with("full", local, url)...)
	run(with("verify", "--compare-data", url, local)...)
	change(t, local)
	run(with("incremental", local, url)...)
	equal(t, "backup sets", harness.Lines(run(with("collection-status", url)...), "Incremental  "), 1)
	run(with("restore", url, box.Path("back"))...)
	harness.SameTree(t, local, box.Path("back"))
}
