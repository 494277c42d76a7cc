package harness

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Setup is a way to run the system.
type Setup struct {
	Name string
	// Dirs is the number of directories of each node, Nodes the number of
	// processes. Nodes 0 is a server that the harness did not start.
	Dirs, Nodes int
	// Policy is what a single node is told to keep objects by; "" leaves it to the
	// number of directories.
	Policy string
	// TLS adds a TLS listener with a certificate of a throw-away authority.
	TLS bool
	// Disks gives each directory of a single node a disk of its own, see [NewDisk].
	Disks bool
}

// Setups returns the three set-ups that every client is tried on, or, when the
// environment names another server, that one alone.
func Setups() []Setup {
	if external().S3 != "" {
		return []Setup{{Name: "external"}}
	}
	return []Setup{
		{Name: "1-directory", Nodes: 1, Dirs: 1},
		{Name: "4-directories", Nodes: 1, Dirs: 4},
		{Name: "4-processes", Nodes: 4, Dirs: 1},
	}
}

// NeedOwn skips a test that has to start, stop or break the server when the
// environment names another one.
func NeedOwn(t testing.TB) {
	t.Helper()
	if external().S3 != "" {
		t.Skip("runs against servers that the tests start only")
	}
}

// TLSSetups returns the set-up for clients that behave differently over TLS.
func TLSSetups() []Setup {
	if external().S3 != "" {
		return nil
	}
	return []Setup{{Name: "1-directory-tls", Nodes: 1, Dirs: 1, TLS: true}}
}

// Endpoints are a node's URLs; what it does not serve is empty.
type Endpoints struct {
	S3    string `json:"s3"`
	TLS   string `json:"tls"`
	Admin string `json:"admin"`
}

// System is a running set-up.
type System struct {
	Setup     Setup
	AccessKey string
	SecretKey string
	// CAFile is the authority's certificate of a set-up with TLS.
	CAFile string
	// Dir holds the data directories.
	Dir   string
	Nodes []*Node
	Disks []*Disk

	h         *Harness
	swiftAuth string
	swiftUser string
	launcher  *process     // "ringfort cluster start", which may stay in the foreground
	dismiss   func() error // ends what [System.guard] started
	logDir    string
	env       []string
}

// Node is one process of a system.
type Node struct {
	Endpoints
	sys   *System
	name  string
	args  []string // of "ringfort server", without the changing ones
	own   *process // started by the harness
	other *foreign // started by "ringfort cluster start"
}

// Each runs test on every one of setups, as parallel subtests: client, server and
// disk wait for one another often enough.
func (h *Harness) Each(t *testing.T, setups []Setup, test func(t *testing.T, s *System)) {
	for _, setup := range setups {
		t.Run(setup.Name, func(t *testing.T) {
			t.Parallel()
			test(t, h.Start(t, setup))
		})
	}
}

// Start runs a set-up until the test ends. Its logs are shown if the test fails.
func (h *Harness) Start(t testing.TB, setup Setup) *System {
	t.Helper()
	if setup.Nodes == 0 {
		return external().system(setup)
	}
	s := &System{Setup: setup, h: h, Dir: t.TempDir(), logDir: t.TempDir()}
	s.AccessKey, s.SecretKey = newKeys(t)
	s.swiftUser = Account + ":" + s.AccessKey
	s.env = append(cleanEnv(s.logDir),
		"RINGFORT_ACCESS_KEY="+s.AccessKey, "RINGFORT_SECRET_KEY="+s.SecretKey)
	dirs := s.makeDirs(t)
	// Cleanups run in reverse: the server ends before its disks are unmounted.
	t.Cleanup(func() { s.stop(t) })
	if setup.Nodes > 1 {
		s.startCluster(t)
	} else {
		s.startServer(t, dirs)
	}
	return s
}

// makeDirs makes the data directories of a single node; a cluster makes its own.
func (s *System) makeDirs(t testing.TB) []string {
	t.Helper()
	var dirs []string
	for i := range s.Setup.Dirs {
		if s.Setup.Nodes > 1 {
			break
		}
		dir := filepath.Join(s.Dir, "d"+strconv.Itoa(i))
		if s.Setup.Disks {
			s.Disks = append(s.Disks, NewDisk(t, dir))
		} else {
			must(t, os.MkdirAll(dir, 0o700))
		}
		dirs = append(dirs, dir)
	}
	return dirs
}

// CutPower takes the power from a single node and all its disks in one moment,
// and plugs the disks in again. The node is not started.
func (s *System) CutPower(t testing.TB) {
	t.Helper()
	n := s.Nodes[0]
	// Stopped, the node answers nobody while one disk after the other goes.
	must(t, n.own.cmd.Process.Signal(syscall.SIGSTOP))
	for _, d := range s.Disks {
		d.CutPower(t)
	}
	n.Kill(t)
	for _, d := range s.Disks {
		d.Replug(t)
	}
}

func (s *System) startServer(t testing.TB, dirs []string) {
	t.Helper()
	n := &Node{sys: s, name: "node0"}
	if s.Setup.TLS {
		cert, key, ca := writeCertificates(t, s.logDir)
		s.CAFile = ca
		n.args = append(n.args, "--tls-cert", cert, "--tls-key", key)
	}
	if s.Setup.Policy != "" {
		n.args = append(n.args, "--policy", s.Setup.Policy)
	}
	n.args = append(n.args, dirs...)
	s.Nodes = append(s.Nodes, n)
	n.start(t, "127.0.0.1:0")
}

// start runs "ringfort server" and waits until it is ready.
func (n *Node) start(t testing.TB, listen string) {
	t.Helper()
	ready := filepath.Join(n.sys.logDir, n.name+".ready")
	must(t, os.RemoveAll(ready))
	args := append([]string{"server", "--listen", listen, "--ready-file", ready}, n.args...)
	var err error
	n.own, err = startProcess(n.logPath(), n.sys.env, n.sys.logDir, n.sys.h.Binary(t), args...)
	must(t, err)
	waitFor(t, startTimeout, "the server to be ready", n.Log, func() bool {
		if n.own.exited() {
			t.Fatalf("the server ended: %v\n%s", n.own.exitError(), n.Log())
		}
		b, err := os.ReadFile(ready)
		return err == nil && json.Unmarshal(b, &n.Endpoints) == nil && n.S3 != ""
	})
}

func (n *Node) logPath() string { return filepath.Join(n.sys.logDir, n.name+".log") }

// Log returns the end of what the node has logged.
func (n *Node) Log() string { return tail(n.logPath()) }

// PID returns the node's process id.
func (n *Node) PID() int {
	if n.own != nil {
		return n.own.pid()
	}
	return n.other.pid
}

// Kill ends the node as a power cut of its process would: SIGKILL.
func (n *Node) Kill(t testing.TB) {
	t.Helper()
	must(t, n.signal(syscall.SIGKILL, killTimeout))
}

// Interrupt stops the node as Ctrl-C does, and checks that it ended clean.
func (n *Node) Interrupt(t testing.TB) {
	t.Helper()
	must(t, n.signal(syscall.SIGINT, stopTimeout))
	if n.own != nil {
		if err := n.own.exitError(); err != nil {
			t.Errorf("after SIGINT the server ended with %v\n%s", err, n.Log())
		}
	}
}

func (n *Node) signal(sig syscall.Signal, limit time.Duration) error {
	switch {
	case n.own != nil:
		return n.own.signal(sig, limit)
	case n.other != nil:
		return n.other.signal(sig, limit)
	}
	return nil
}

// Restart starts a stopped node again, at the address it had.
func (n *Node) Restart(t testing.TB) {
	t.Helper()
	if n.other != nil {
		// A cluster's node: run its own command line again.
		p, err := startProcess(n.logPath(), n.other.env, n.other.dir, n.other.args[0], n.other.args[1:]...)
		must(t, err)
		n.own, n.other = p, nil
		waitFor(t, startTimeout, "the node to answer", n.Log, func() bool { return answers(n.S3) })
		return
	}
	u, err := url.Parse(n.S3)
	must(t, err)
	n.start(t, u.Host)
}

// clusterFileName is where, in a cluster's directory, its nodes are written down.
const clusterFileName = "cluster.json"

// clusterFile is what "ringfort cluster start" leaves for others to read.
type clusterFile struct {
	Nodes []struct {
		PID int `json:"pid"`
		Endpoints
	} `json:"nodes"`
}

func (s *System) startCluster(t testing.TB) {
	t.Helper()
	binary := s.h.Binary(t)
	must(t, s.guard(binary))
	log := filepath.Join(s.logDir, "cluster.log")
	var err error
	s.launcher, err = startProcess(log, s.env, s.logDir, binary, "cluster", "start",
		"--nodes", strconv.Itoa(s.Setup.Nodes), "--devices", strconv.Itoa(s.Setup.Dirs), s.Dir)
	must(t, err)
	var file clusterFile
	why := func() string { return tail(log) }
	waitFor(t, startTimeout, "the cluster to be ready", why, func() bool {
		if s.launcher.exited() && s.launcher.exitError() != nil {
			t.Fatalf("ringfort cluster start: %v\n%s", s.launcher.exitError(), why())
		}
		b, err := os.ReadFile(filepath.Join(s.Dir, clusterFileName))
		return err == nil && json.Unmarshal(b, &file) == nil && len(file.Nodes) == s.Setup.Nodes
	})
	for i, f := range file.Nodes {
		n := &Node{Endpoints: f.Endpoints, sys: s, name: "node" + strconv.Itoa(i)}
		n.other, err = adopt(f.PID, binary)
		must(t, err)
		s.Nodes = append(s.Nodes, n)
	}
	for _, n := range s.Nodes {
		waitFor(t, startTimeout, n.name+" to answer", why, func() bool { return answers(n.S3) })
	}
}

// guard starts a shell that stops the cluster when this process ends without
// having done so: the cluster's nodes are not its children. The shell waits for
// the end of its input, whose other end only this process holds.
func (s *System) guard(binary string) error {
	const script = `read -r done || exec "$0" cluster stop "$1"`
	cmd := exec.Command("sh", "-c", script, binary, s.Dir)
	cmd.Env = s.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	input, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.dismiss = func() error {
		_, err := io.WriteString(input, "done\n")
		return errors.Join(err, input.Close(), cmd.Wait())
	}
	return nil
}

// stop ends everything, first kindly and then not, and checks that nothing was
// left running.
func (s *System) stop(t testing.TB) {
	if t.Failed() {
		s.showLogs(t)
	}
	if s.launcher != nil {
		s.adoptStrays()
		if err := s.clusterStop(); err != nil {
			t.Error(err)
		}
	}
	for _, n := range s.Nodes {
		if err := n.signal(syscall.SIGINT, stopTimeout); err != nil {
			t.Errorf("%v\n%s", err, n.Log())
		}
		if err := n.signal(syscall.SIGKILL, killTimeout); err != nil {
			t.Error(err)
		}
	}
	if s.dismiss != nil {
		if err := s.dismiss(); err != nil {
			t.Error(err)
		}
	}
}

// adoptStrays takes in the processes of a cluster whose start failed half way: our
// own program, working in this system's directory.
func (s *System) adoptStrays() {
	if len(s.Nodes) > 0 {
		return
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == s.launcher.pid() {
			continue
		}
		other, err := adopt(pid, s.h.binary)
		if err == nil && strings.Contains(strings.Join(other.args, "\x00"), s.Dir) {
			s.Nodes = append(s.Nodes, &Node{sys: s, name: "stray", other: other})
		}
	}
}

// clusterStop runs "ringfort cluster stop" and ends the launcher, should it still
// be there.
func (s *System) clusterStop() error {
	log := filepath.Join(s.logDir, "cluster-stop.log")
	p, err := startProcess(log, s.env, s.logDir, s.h.binary, "cluster", "stop", s.Dir)
	if err != nil {
		return err
	}
	if !p.wait(stopTimeout) {
		err = fmt.Errorf("ringfort cluster stop takes longer than %v\n%s", stopTimeout, tail(log))
		err = errors.Join(err, p.signal(syscall.SIGKILL, killTimeout))
	} else if exit := p.exitError(); exit != nil {
		err = fmt.Errorf("ringfort cluster stop: %w\n%s", exit, tail(log))
	}
	if late := s.launcher.signal(syscall.SIGINT, stopTimeout); late != nil {
		err = errors.Join(err, late, s.launcher.signal(syscall.SIGKILL, killTimeout))
	}
	return err
}

// showLogs prints the end of every log, those in the data directory too.
func (s *System) showLogs(t testing.TB) {
	paths, _ := filepath.Glob(filepath.Join(s.logDir, "*.log"))
	for _, pattern := range []string{"*.log", "*/*.log", "*/log"} {
		more, _ := filepath.Glob(filepath.Join(s.Dir, pattern))
		paths = append(paths, more...)
	}
	for _, path := range paths {
		t.Log(tail(path))
	}
}

// S3 returns the S3 URL that clients are to use: TLS where the set-up has it.
func (s *System) S3() string {
	if s.Setup.TLS {
		return s.Nodes[0].TLS
	}
	return s.Nodes[0].Endpoints.S3
}

// S3Host returns the host and port of [System.S3].
func (s *System) S3Host(t testing.TB) string {
	t.Helper()
	u, err := url.Parse(s.S3())
	must(t, err)
	return u.Host
}

// SwiftAuth returns the URL of Swift's v1 authentication; a test that needs Swift
// is skipped where there is none.
func (s *System) SwiftAuth(t testing.TB) string {
	t.Helper()
	if s.Setup.Nodes > 0 {
		return s.S3() + "/auth/v1.0"
	}
	if s.swiftAuth == "" {
		t.Skip("RINGFORT_E2E_SWIFT_AUTH is not set")
	}
	return s.swiftAuth
}

// SwiftUser returns the root identity as Swift's v1 authentication names it.
func (s *System) SwiftUser() string { return s.swiftUser }

// externalServer is the server that the environment names.
type externalServer struct {
	S3, accessKey, secretKey, swiftAuth, swiftUser string
}

func external() externalServer {
	return externalServer{
		S3:        os.Getenv("RINGFORT_E2E_S3"),
		accessKey: os.Getenv("RINGFORT_E2E_ACCESS_KEY"),
		secretKey: os.Getenv("RINGFORT_E2E_SECRET_KEY"),
		swiftAuth: os.Getenv("RINGFORT_E2E_SWIFT_AUTH"),
		swiftUser: os.Getenv("RINGFORT_E2E_SWIFT_USER"),
	}
}

func (e externalServer) system(setup Setup) *System {
	s := &System{
		Setup: setup, AccessKey: e.accessKey, SecretKey: e.secretKey,
		swiftAuth: e.swiftAuth, swiftUser: e.swiftUser,
	}
	if s.swiftUser == "" {
		s.swiftUser = fmt.Sprintf("%s:%s", Account, s.AccessKey)
	}
	s.Nodes = []*Node{{Endpoints: Endpoints{S3: e.S3}, sys: s, name: "external"}}
	return s
}
