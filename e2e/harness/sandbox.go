package harness

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	// commandTimeout bounds one run of a client.
	commandTimeout     = 3 * time.Minute
	longCommandTimeout = 40 * time.Minute
	// benchTimeout bounds a whole suite of figures.
	benchTimeout = 3 * time.Hour
	// outputTailBytes is how much of a client's output is shown with a failure.
	outputTailBytes = 4 << 10
)

// Find returns the path of a client program, the first of names that is there: an
// absolute path, or a name to look up in PATH. A missing client fails the test in
// CI and skips it, visibly, elsewhere.
func Find(t testing.TB, names ...string) string {
	t.Helper()
	all := findAll(names)
	if len(all) == 0 {
		missing(t, "none of "+strings.Join(names, ", ")+" is installed: make deps")
	}
	return all[0]
}

// FindAll returns every one of names that is there and runs: some machines have
// two generations of a client, which behave differently.
func FindAll(t testing.TB, names ...string) []string {
	t.Helper()
	Find(t, names...)
	return findAll(names)
}

func findAll(names []string) []string {
	var found []string
	for _, name := range names {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		known := false
		for _, f := range found {
			known = known || f == path
		}
		if !known {
			found = append(found, path)
		}
	}
	return found
}

// missing ends a test for want of something that should be installed.
func missing(t testing.TB, what string) {
	t.Helper()
	if InCI() {
		t.Fatal(what)
	}
	t.Skip(what)
}

// NodeModules returns the directory of the JavaScript client with its packages
// installed.
func NodeModules(t testing.TB) string {
	t.Helper()
	root, err := moduleRoot()
	must(t, err)
	dir := filepath.Join(root, "e2e", "node")
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "@aws-sdk", "client-s3")); err != nil {
		missing(t, "the packages of e2e/node are not installed: make deps")
	}
	return dir
}

// Sandbox is a home directory and an environment for client programs.
type Sandbox struct {
	// Dir is the directory commands run in, empty at first; Home is beside it.
	Dir, Home string
	t         testing.TB
	env       []string
	secrets   []string // not to be printed
}

// NewSandbox makes a sandbox that lasts as long as the test.
func NewSandbox(t testing.TB) *Sandbox {
	t.Helper()
	base := t.TempDir()
	s := &Sandbox{Dir: filepath.Join(base, "work"), Home: filepath.Join(base, "home"), t: t}
	must(t, os.MkdirAll(s.Dir, 0o700))
	must(t, os.MkdirAll(s.Home, 0o700))
	s.env = cleanEnv(s.Home)
	return s
}

// cleanEnv is an environment that knows nothing of the user but where programs
// are.
func cleanEnv(home string) []string {
	env := []string{
		"HOME=" + home, "LANG=C.UTF-8", "LC_ALL=C.UTF-8", "TZ=UTC",
		"XDG_CONFIG_HOME=" + filepath.Join(home, ".config"),
		"XDG_CACHE_HOME=" + filepath.Join(home, ".cache"),
		"XDG_DATA_HOME=" + filepath.Join(home, ".local"),
		"PATH=" + os.Getenv("PATH"),
		// A proxy must not come between a client and this machine.
		"NO_PROXY=*", "no_proxy=*",
	}
	for _, name := range []string{"TMPDIR", "GOCOVERDIR"} {
		if v := os.Getenv(name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// Setenv sets a variable for the commands to come.
func (s *Sandbox) Setenv(name, value string) { s.env = append(s.env, name+"="+value) }

// Hide keeps a secret out of what a failure prints.
func (s *Sandbox) Hide(secret string) { s.secrets = append(s.secrets, secret) }

// Path returns a path below Dir.
func (s *Sandbox) Path(elem ...string) string {
	return filepath.Join(append([]string{s.Dir}, elem...)...)
}

// WriteFile writes a file below Dir, with the directories it needs.
func (s *Sandbox) WriteFile(name, content string) string {
	s.t.Helper()
	path := s.Path(name)
	must(s.t, os.MkdirAll(filepath.Dir(path), 0o700))
	must(s.t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// Run runs a command, which must succeed, and returns its standard output.
func (s *Sandbox) Run(name string, args ...string) string {
	s.t.Helper()
	return s.succeed(timeLimit(), name, args)
}

// RunLong is Run for a command that takes its time, whatever form the tests have.
func (s *Sandbox) RunLong(name string, args ...string) string {
	s.t.Helper()
	return s.succeed(benchTimeout, name, args)
}

func (s *Sandbox) succeed(limit time.Duration, name string, args []string) string {
	s.t.Helper()
	out, errOut, err := s.run(limit, name, args)
	if err != nil {
		s.t.Fatalf("%s: %v\n%s%s", s.line(name, args), err, last(out), last(errOut))
	}
	return out
}

// Fails runs a command, which must not succeed, and returns all its output.
func (s *Sandbox) Fails(name string, args ...string) string {
	s.t.Helper()
	out, errOut, err := s.run(timeLimit(), name, args)
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		s.t.Fatalf("%s: succeeded, or did not run: %v\n%s%s", s.line(name, args), err, last(out), last(errOut))
	}
	return out + errOut
}

// timeLimit is how long one command may take.
func timeLimit() time.Duration {
	if Long() {
		return longCommandTimeout
	}
	return commandTimeout
}

func (s *Sandbox) run(limit time.Duration, name string, args []string) (out, errOut string, err error) {
	j, err := s.start(limit, name, args)
	if err != nil {
		return "", "", err
	}
	err = j.wait()
	return j.stdout.String(), j.stderr.String(), err
}

// Job is a command under way.
type Job struct {
	s              *Sandbox
	line           string
	cmd            *exec.Cmd
	ctx            context.Context
	cancel         context.CancelFunc
	ended          chan error // what Wait returned
	stdout, stderr buffer
}

// buffer is a bytes.Buffer that may be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Start starts a command and does not wait for it. It is killed at the end of the
// test, should it still run.
func (s *Sandbox) Start(name string, args ...string) *Job {
	s.t.Helper()
	j, err := s.start(timeLimit(), name, args)
	if err != nil {
		s.t.Fatalf("%s: %v", s.line(name, args), err)
	}
	s.t.Cleanup(j.cancel)
	return j
}

func (s *Sandbox) start(limit time.Duration, name string, args []string) (*Job, error) {
	j := &Job{s: s, line: s.line(name, args), ended: make(chan error, 1)}
	j.ctx, j.cancel = context.WithTimeout(context.Background(), limit)
	cmd := exec.CommandContext(j.ctx, name, args...)
	cmd.Stdout, cmd.Stderr, cmd.Env, cmd.Dir = &j.stdout, &j.stderr, s.env, s.Dir
	// Clients start children of their own: end the whole group.
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	j.cmd = cmd
	if err := startTied(cmd, func(err error) { j.ended <- err }); err != nil {
		j.cancel()
		return nil, err
	}
	return j, nil
}

func (j *Job) wait() error {
	defer j.cancel()
	err := <-j.ended
	return errors.Join(err, j.ctx.Err())
}

// WaitOutput waits until the command has written n lines that hold substring.
func (j *Job) WaitOutput(substring string, n int) {
	j.s.t.Helper()
	waitFor(j.s.t, timeLimit(), "output of "+j.line, func() string { return last(j.stdout.String()) + last(j.stderr.String()) },
		func() bool { return Lines(j.stdout.String(), substring) >= n })
}

// Wait waits for the command, which must succeed, and returns its standard output.
func (j *Job) Wait() string {
	j.s.t.Helper()
	if err := j.wait(); err != nil {
		j.s.t.Fatalf("%s: %v\n%s%s", j.line, err, last(j.stdout.String()), last(j.stderr.String()))
	}
	return j.stdout.String()
}

// line is the command as it is printed.
func (s *Sandbox) line(name string, args []string) string {
	text := name + " " + strings.Join(args, " ")
	for _, secret := range s.secrets {
		text = strings.ReplaceAll(text, secret, "…")
	}
	return text
}

func last(s string) string {
	if len(s) > outputTailBytes {
		s = "…" + s[len(s)-outputTailBytes:]
	}
	if s != "" && !strings.HasSuffix(s, "\n") {
		s += "\n"
	}
	return s
}
