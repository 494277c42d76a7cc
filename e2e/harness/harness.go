// Package harness starts real ringfort processes and real S3 and Swift clients
// for the end-to-end tests. It sees the system as its users do: one binary, its
// command line, its ports and its files. It imports nothing of the server.
//
// Read [Harness] first (one for a test binary: it builds the program once), then
// [System] (one running set-up: a directory, four directories, four processes)
// and [Sandbox] (a home directory in which client programs run).
//
// # What it relies on
//
//	ringfort server --listen 127.0.0.1:0 --ready-file PATH DIR...
//
// writes PATH when it is ready, a JSON object with the URLs "s3", "tls" and
// "admin" (what is not served is left out), and
//
//	ringfort cluster start --nodes 4 --devices 1 DIR
//
// writes DIR/cluster.json, {"nodes":[{"pid":…,"s3":…,"admin":…},…]}. Both take the
// root keys from RINGFORT_ACCESS_KEY and RINGFORT_SECRET_KEY.
//
// # Another server
//
// With RINGFORT_E2E_S3 (an S3 URL), RINGFORT_E2E_ACCESS_KEY and
// RINGFORT_E2E_SECRET_KEY set, and optionally RINGFORT_E2E_SWIFT_AUTH (the URL of
// v1 authentication) and RINGFORT_E2E_SWIFT_USER, the clients run against that
// server and nothing is started. It answers the question whether a failure is the
// client's own.
//
// # Promises
//
// Every process is one that the harness started, and is stopped by its id when its
// test ends, however it ends; waiting has a deadline everywhere. Clients never see
// the home directory or the environment of the person who runs the tests.
package harness

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// Account is the root identity's account.
const Account = "main"

// Harness holds what the tests of one binary share: the built program.
type Harness struct {
	dir    string // temporary, removed by Close
	build  sync.Once
	binary string
	err    error

	toolsMu sync.Mutex
	tools   map[Tool]builtTool // guarded by toolsMu
}

// New makes a Harness. Nothing is built before it is needed.
func New() (*Harness, error) {
	dir, err := os.MkdirTemp("", "ringfort-e2e-")
	if err != nil {
		return nil, err
	}
	return &Harness{dir: dir, tools: make(map[Tool]builtTool)}, nil
}

// Close removes the built program.
func (h *Harness) Close() error { return os.RemoveAll(h.dir) }

// Binary returns the path of the ringfort program. It is built at the first call,
// unless RINGFORT_BIN names one.
func (h *Harness) Binary(t testing.TB) string {
	t.Helper()
	h.build.Do(func() {
		if h.binary = os.Getenv("RINGFORT_BIN"); h.binary != "" {
			return
		}
		h.binary = filepath.Join(h.dir, "ringfort")
		root, err := moduleRoot()
		if err != nil {
			h.err = err
			return
		}
		cmd := exec.Command("go", "build", "-trimpath", "-o", h.binary, "./cmd/ringfort")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as "make build" does: its memory is another with C
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			h.err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if h.err != nil {
		t.Fatal(h.err)
	}
	return h.binary
}

// moduleRoot returns the directory of go.mod, above the working directory.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", fmt.Errorf("no go.mod above the working directory")
		}
		dir = parent
	}
}

// Long reports whether the long forms of the tests are asked for: RINGFORT_E2E is
// "long".
func Long() bool { return os.Getenv("RINGFORT_E2E") == "long" }

// InCI reports whether a missing client is a failure: CI is "true".
func InCI() bool { return os.Getenv("CI") == "true" }

// newKeys returns a fresh access key and secret. They hold what real keys hold
// and some clients escape wrongly: capitals, digits, slash and plus.
func newKeys(t testing.TB) (access, secret string) {
	t.Helper()
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	s := hex.EncodeToString(b)
	return "RFE2E" + s[:11], "secret/" + s + "+E2E"
}

// waitFor calls done until it returns true, and fails the test when that has not
// happened within limit. what says what was waited for, and why, called after a
// failure, what is known about it.
func waitFor(t testing.TB, limit time.Duration, what string, why func() string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s\n%s", limit, what, why())
		}
		time.Sleep(10 * time.Millisecond)
	}
}
