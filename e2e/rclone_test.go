package e2e

import (
	"encoding/json"
	"testing"

	"ringfort/e2e/harness"
)

// rclone returns a function that runs rclone with two remotes: "s3:" and, where
// there is Swift, "swift:", on the same account.
func rclone(t *testing.T, s *harness.System, program string) (*harness.Sandbox, func(args ...string) string) {
	t.Helper()
	box := harness.NewSandbox(t)
	for name, value := range map[string]string{
		"RCLONE_CONFIG":                      box.WriteFile("rclone.conf", ""),
		"RCLONE_CONFIG_S3_TYPE":              "s3",
		"RCLONE_CONFIG_S3_PROVIDER":          "Other",
		"RCLONE_CONFIG_S3_ENDPOINT":          s.S3(),
		"RCLONE_CONFIG_S3_REGION":            "us-east-1",
		"RCLONE_CONFIG_S3_ACCESS_KEY_ID":     s.AccessKey,
		"RCLONE_CONFIG_S3_SECRET_ACCESS_KEY": s.SecretKey,
		"RCLONE_RETRIES":                     "1",
		"RCLONE_LOW_LEVEL_RETRIES":           "1",
	} {
		box.Setenv(name, value)
	}
	return box, func(args ...string) string {
		t.Helper()
		return box.Run(program, args...)
	}
}

func rcloneSwift(t *testing.T, s *harness.System, box *harness.Sandbox) {
	t.Helper()
	box.Setenv("RCLONE_CONFIG_SWIFT_TYPE", "swift")
	box.Setenv("RCLONE_CONFIG_SWIFT_AUTH", s.SwiftAuth(t))
	box.Setenv("RCLONE_CONFIG_SWIFT_USER", s.SwiftUser())
	box.Setenv("RCLONE_CONFIG_SWIFT_KEY", s.SecretKey)
}

// TestRcloneSync sends a tree up and down, and changes to it, and has rclone
// compare both sides, by digest and by content.
func TestRcloneSync(t *testing.T) {
	eachProgram(t, "rclone", func(t *testing.T, s *harness.System, program string) {
		box, run := rclone(t, s, program)
		syncTree(t, box, run, "s3:rclone-sync/tree")
	})
}

// TestRcloneSwift does the same through Swift.
func TestRcloneSwift(t *testing.T) {
	eachProgram(t, "rclone", func(t *testing.T, s *harness.System, program string) {
		box, run := rclone(t, s, program)
		rcloneSwift(t, s, box)
		syncTree(t, box, run, "swift:rclone-swift/tree")
	})
}

func syncTree(t *testing.T, box *harness.Sandbox, run func(...string) string, remote string) {
	t.Helper()
	local, back := box.Path("local"), box.Path("back")
	changeable(t, harness.TreeFor(t), local)
	run("sync", local, remote)
	run("check", local, remote)
	change(t, local)
	run("sync", local, remote)
	run("check", local, remote)
	run("check", "--download", local, remote)
	var size struct{ Count int }
	if err := json.Unmarshal([]byte(run("size", "--json", remote)), &size); err != nil {
		t.Fatal(err)
	}
	equal(t, "files there", size.Count, harness.Files(t, local))
	run("sync", remote, back)
	harness.SameTree(t, local, back)
	run("purge", remote)
}

// TestRcloneBig sends a file in parts, and copies it on the server.
func TestRcloneBig(t *testing.T) {
	eachProgram(t, "rclone", func(t *testing.T, s *harness.System, program string) {
		box, run := rclone(t, s, program)
		big := harness.BigFile(t, box.Path("up", "big"), bigBytes)
		parts := []string{"--s3-upload-cutoff", "6M", "--s3-chunk-size", "5M", "--s3-copy-cutoff", "6M"}
		run(append(parts, "copy", box.Path("up"), "s3:rclone-big/a")...)
		run(append(parts, "copy", "s3:rclone-big/a", "s3:rclone-big-copy/b")...)
		run("copy", "s3:rclone-big-copy/b", box.Path("back"))
		harness.SameFile(t, big, box.Path("back", "big"))
		run("purge", "s3:rclone-big")
		run("purge", "s3:rclone-big-copy")
	})
}

// TestRcloneCrossProtocol writes through one protocol and compares through the
// other.
func TestRcloneCrossProtocol(t *testing.T) {
	eachProgram(t, "rclone", func(t *testing.T, s *harness.System, program string) {
		box, run := rclone(t, s, program)
		rcloneSwift(t, s, box)
		tree := harness.TreeFor(t)
		run("mkdir", "s3:cross-a")
		run("copy", tree, "s3:cross-a")
		run("check", tree, "swift:cross-a")
		run("check", "--download", "s3:cross-a", "swift:cross-a")
		run("copy", tree, "swift:cross-b")
		run("check", tree, "swift:cross-b")
		run("delete", "swift:cross-a")
		equal(t, "keys left in S3", run("lsf", "-R", "--files-only", "s3:cross-a"), "")
	})
}
