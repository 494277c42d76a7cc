package harness

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain lets the test binary play the ringfort program, so that the harness can
// be tested without one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "parent" {
		playParent()
	}
	if len(os.Args) > 1 && (os.Args[1] == "server" || os.Args[1] == "cluster") {
		if err := play(os.Args[1:]); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func play(args []string) error {
	switch {
	case args[0] == "server":
		return playServer(args[1:])
	case args[1] == "start":
		return playClusterStart(args[2:])
	}
	return playClusterStop(args[2])
}

// playParent starts a child, tells its id, and waits to be killed.
func playParent() {
	cmd := exec.Command("sleep", "60")
	if err := startTied(cmd, func(error) {}); err != nil {
		os.Exit(1)
	}
	os.Stdout.WriteString(strconv.Itoa(cmd.Process.Pid) + "\n")
	select {}
}

// playServer serves nothing but 403, drains on SIGINT, and writes the ready file.
func playServer(args []string) error {
	f := flag.NewFlagSet("server", flag.ContinueOnError)
	listen := f.String("listen", "", "")
	ready := f.String("ready-file", "", "")
	f.String("tls-cert", "", "")
	f.String("tls-key", "", "")
	if err := f.Parse(args); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ln, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	go http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }))
	b, err := json.Marshal(Endpoints{S3: "http://" + ln.Addr().String()})
	if err != nil {
		return err
	}
	if err := os.WriteFile(*ready, b, 0o600); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

func playClusterStart(args []string) error {
	f := flag.NewFlagSet("cluster", flag.ContinueOnError)
	nodes := f.Int("nodes", 0, "")
	f.Int("devices", 0, "")
	if err := f.Parse(args); err != nil {
		return err
	}
	var file clusterFile
	for i := range *nodes {
		ready := filepath.Join(f.Arg(0), "ready"+strconv.Itoa(i))
		// A fixed port, as a cluster's node has one.
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		addr := ln.Addr().String()
		ln.Close()
		cmd := exec.Command(os.Args[0], "server", "--listen", addr, "--ready-file", ready)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			return err
		}
		file.Nodes = append(file.Nodes, struct {
			PID int `json:"pid"`
			Endpoints
		}{cmd.Process.Pid, Endpoints{S3: "http://" + addr}})
	}
	b, err := json.Marshal(file)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(f.Arg(0), clusterFileName), b, 0o600)
}

func playClusterStop(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, clusterFileName))
	if err != nil {
		return err
	}
	var file clusterFile
	if err := json.Unmarshal(b, &file); err != nil {
		return err
	}
	for _, n := range file.Nodes {
		syscall.Kill(n.PID, syscall.SIGINT)
	}
	return nil
}

func newFake(t *testing.T) *Harness {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	t.Setenv("RINGFORT_BIN", self)
	h, err := New()
	must(t, err)
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// TestServer starts, kills, restarts and stops a node of each kind.
func TestSystem(t *testing.T) {
	for _, setup := range []Setup{
		{Name: "one", Nodes: 1, Dirs: 1},
		{Name: "tls", Nodes: 1, Dirs: 2, TLS: true},
		{Name: "cluster", Nodes: 3, Dirs: 1},
	} {
		t.Run(setup.Name, func(t *testing.T) {
			h := newFake(t)
			var pids []int
			t.Run("run", func(t *testing.T) {
				s := h.Start(t, setup)
				if len(s.Nodes) != setup.Nodes || !strings.HasPrefix(s.SwiftUser(), "main:RFE2E") {
					t.Fatalf("%d nodes, user %s", len(s.Nodes), s.SwiftUser())
				}
				n := s.Nodes[len(s.Nodes)-1]
				before := n.Endpoints.S3
				first := n.PID()
				n.Kill(t)
				if answers(n.Endpoints.S3) {
					t.Error("a killed node answers")
				}
				n.Restart(t)
				if n.Endpoints.S3 != before || n.PID() == first || !answers(n.Endpoints.S3) {
					t.Errorf("restarted at %s as %d, was %s as %d", n.Endpoints.S3, n.PID(), before, first)
				}
				n.Interrupt(t)
				n.Restart(t)
				for _, n := range s.Nodes {
					pids = append(pids, n.PID())
				}
			})
			for _, pid := range pids {
				if _, err := startTime(pid); err == nil {
					t.Errorf("process %d is left running", pid)
				}
			}
		})
	}
}

// TestStrays: what a start that failed half way left running is found.
func TestStrays(t *testing.T) {
	h := newFake(t)
	s := h.Start(t, Setup{Name: "cluster", Nodes: 2, Dirs: 1})
	nodes := s.Nodes
	s.Nodes = nil
	s.adoptStrays()
	equalPIDs := len(s.Nodes) == len(nodes)
	for _, n := range nodes {
		equalPIDs = equalPIDs && slices.ContainsFunc(s.Nodes, func(m *Node) bool { return m.PID() == n.PID() })
	}
	if !equalPIDs {
		t.Errorf("found %d of %d processes", len(s.Nodes), len(nodes))
	}
}

func TestAdoptRefusesStrangers(t *testing.T) {
	if _, err := adopt(os.Getpid(), "/bin/sh"); err == nil {
		t.Error("a process of another program was adopted")
	}
	if _, err := adopt(1<<30, "/bin/sh"); err == nil {
		t.Error("a process that is not there was adopted")
	}
}

func TestSandbox(t *testing.T) {
	t.Setenv("AWS_SECRET_ACCESS_KEY", "of the user")
	s := NewSandbox(t)
	s.Setenv("GREETING", "hello")
	sh := Find(t, "no-such-program", "sh")
	if out := s.Run(sh, "-c", `echo "$GREETING $HOME $AWS_SECRET_ACCESS_KEY"; pwd`); out != "hello "+s.Home+" \n"+s.Dir+"\n" {
		t.Errorf("the sandbox shows %q", out)
	}
	if out := s.Fails(sh, "-c", "echo no >&2; exit 3"); out != "no\n" {
		t.Errorf("a failure shows %q", out)
	}
	j := s.Start(sh, "-c", "echo one; echo two; read line; echo three")
	j.WaitOutput("o", 2) // its input is empty: it ends by itself
	if out := j.Wait(); out != "one\ntwo\nthree\n" {
		t.Errorf("a job shows %q", out)
	}
	s.Hide("hunter2")
	if line := s.line("curl", []string{"-u", "me:hunter2"}); strings.Contains(line, "hunter2") {
		t.Errorf("a secret is printed: %s", line)
	}
}

func TestTrees(t *testing.T) {
	a, b, c := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "c")
	Tree(t, a, 5, 40)
	Tree(t, b, 5, 40)
	SameTree(t, a, b)
	CopyTree(t, a, c)
	SameTree(t, a, c)
	if n := Files(t, a); n != 40 {
		t.Errorf("%d files, want 40", n)
	}
	x := BigFile(t, filepath.Join(t.TempDir(), "x"), 3<<20)
	SameFile(t, x, x)
	if n := Lines("a b\nb\nc", "b"); n != 2 {
		t.Errorf("%d lines, want 2", n)
	}
}

func TestFindMetric(t *testing.T) {
	const page = "# HELP up whether\nup_total 3\nup{device=\"1\"} 4\nup 5e+06\n"
	if v, err := findMetric(strings.NewReader(page), "up"); err != nil || v != 5e6 {
		t.Errorf("got %v, %v", v, err)
	}
	if _, err := findMetric(strings.NewReader(page), "down"); err == nil {
		t.Error("a metric that is not there is found")
	}
}

// TestBuildTool: what the proxy does not have is said, and asked for once.
func TestBuildTool(t *testing.T) {
	t.Setenv("GOPROXY", "off")
	t.Setenv("GOFLAGS", "-mod=mod")
	h := newFake(t)
	tool := Tool{Module: "example.com/none", Version: "v1.0.0", Package: "."}
	b := h.buildTool(t, tool)
	if b.path != "" || !strings.Contains(b.problem, "example.com/none@v1.0.0") {
		t.Errorf("got %+v", b)
	}
}

// TestTied: what the harness starts ends with it, even when it is killed.
func TestTied(t *testing.T) {
	self, err := os.Executable()
	must(t, err)
	parent := exec.Command(self, "parent")
	out, err := parent.StdoutPipe()
	must(t, err)
	must(t, parent.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	must(t, err)
	child, err := strconv.Atoi(strings.TrimSpace(line))
	must(t, err)
	if _, err := startTime(child); err != nil {
		t.Fatalf("the child does not run: %v", err)
	}
	must(t, parent.Process.Kill())
	_ = parent.Wait() // it was killed
	waitFor(t, killTimeout, "the child to end", func() string { return "" }, func() bool {
		_, err := startTime(child)
		return err != nil
	})
}

// TestDeadline: waiting for what does not come ends the test it happens in.
func TestDeadline(t *testing.T) {
	p, err := startProcess(filepath.Join(t.TempDir(), "log"), os.Environ(), t.TempDir(), "sleep", "60")
	must(t, err)
	if p.wait(20 * time.Millisecond) {
		t.Error("sleep 60 ended at once")
	}
	must(t, p.signal(syscall.SIGKILL, killTimeout))
	if p.exitError() == nil {
		t.Error("a killed process ended clean")
	}
}
