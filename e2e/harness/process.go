package harness

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	// startTimeout bounds how long a server may take until it is ready.
	startTimeout = 60 * time.Second
	// stopTimeout bounds how long a server may take to drain after SIGINT.
	stopTimeout = 60 * time.Second
	// killTimeout bounds how long the kernel may take to reap what was killed.
	killTimeout = 20 * time.Second
	// logTailBytes is how much of a log is shown with a failure.
	logTailBytes = 8 << 10
)

// process is a program that the harness started itself.
type process struct {
	cmd     *exec.Cmd
	logPath string
	done    chan struct{} // closed once the process has been reaped
	mu      sync.Mutex
	err     error // of Wait; guarded by mu until done is closed
}

// startProcess runs a program with its output in the file logPath.
func startProcess(logPath string, env []string, dir, name string, args ...string) (*process, error) {
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the child has its own descriptor
	fmt.Fprintf(log, "--- %s %s\n", name, strings.Join(args, " "))
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr, cmd.Env, cmd.Dir = log, log, env, dir
	p := &process{cmd: cmd, logPath: logPath, done: make(chan struct{})}
	if err := startTied(cmd, func(err error) {
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
		close(p.done)
	}); err != nil {
		return nil, err
	}
	return p, nil
}

// startTied starts cmd so that it ends with this process, however that ends (a
// test that runs out of time runs no cleanups), and calls ended when it has been
// waited for. It gets a group of its own: a terminal's Ctrl-C is for the tests,
// which then stop it.
func startTied(cmd *exec.Cmd, ended func(error)) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	go func() {
		// The kernel ties a child to the thread that made it: this goroutine keeps
		// its thread until the child has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			ended(cmd.Wait())
		}
	}()
	return <-started
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// exited reports whether the process has ended.
func (p *process) exited() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// signal sends sig and waits for the process to end.
func (p *process) signal(sig syscall.Signal, limit time.Duration) error {
	if p.exited() {
		return nil
	}
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	if !p.wait(limit) {
		return fmt.Errorf("process %d has not ended %v after %v", p.pid(), limit, sig)
	}
	return nil
}

// wait waits for the process to end, and reports whether it did within limit.
func (p *process) wait(limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-p.done:
		return true
	case <-timer.C:
		return false
	}
}

// exitError returns how the process ended; nil is a clean end.
func (p *process) exitError() error {
	<-p.done
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// tail returns the end of a log file.
func tail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	if len(b) > logTailBytes {
		b = b[len(b)-logTailBytes:]
	}
	return path + ":\n" + string(b)
}

// foreign is a process that a program of ours left running: a cluster's node. It
// is known by its pid and its start time, which together are never reused.
type foreign struct {
	pid     int
	started string   // field 22 of /proc/PID/stat
	args    []string // the command line, to start it again
	env     []string
	dir     string
}

// adopt looks a running process up, and makes sure that it runs binary.
func adopt(pid int, binary string) (*foreign, error) {
	proc := "/proc/" + strconv.Itoa(pid)
	exe, err := os.Readlink(proc + "/exe")
	if err != nil {
		return nil, err
	}
	want, err := filepath.EvalSymlinks(binary)
	if err != nil {
		return nil, err
	}
	if exe != want {
		return nil, fmt.Errorf("process %d runs %s, not %s", pid, exe, want)
	}
	f := &foreign{pid: pid}
	if f.started, err = startTime(pid); err != nil {
		return nil, err
	}
	if f.args, err = nulSeparated(proc + "/cmdline"); err != nil {
		return nil, err
	}
	if f.env, err = nulSeparated(proc + "/environ"); err != nil {
		return nil, err
	}
	if f.dir, err = os.Readlink(proc + "/cwd"); err != nil {
		return nil, err
	}
	return f, nil
}

func nulSeparated(path string) ([]string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	b = bytes.TrimSuffix(b, []byte{0})
	if len(b) == 0 {
		return nil, nil
	}
	return strings.Split(string(b), "\x00"), nil
}

// startTime returns when pid started, in the kernel's own unit. A zombie counts as
// gone.
func startTime(pid int) (string, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", err
	}
	i := bytes.LastIndexByte(b, ')')
	fields := strings.Fields(string(b[i+1:]))
	const state, start = 0, 19
	if i < 0 || len(fields) <= start || fields[state] == "Z" || fields[state] == "X" {
		return "", os.ErrProcessDone
	}
	return fields[start], nil
}

// alive reports whether it is still the same process.
func (f *foreign) alive() bool {
	started, err := startTime(f.pid)
	return err == nil && started == f.started
}

// signal sends sig and waits for the end.
func (f *foreign) signal(sig syscall.Signal, limit time.Duration) error {
	if !f.alive() {
		return nil
	}
	if err := syscall.Kill(f.pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	deadline := time.Now().Add(limit)
	for f.alive() {
		if time.Now().After(deadline) {
			return fmt.Errorf("process %d has not ended %v after %v", f.pid, limit, sig)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return nil
}

// must ends the test on an error that the harness itself met.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
