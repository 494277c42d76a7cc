package benchtool

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	"ringfort/internal/errs"
	"ringfort/internal/nulls3"
)

const (
	// nullName is what the null server is called in reports.
	nullName = "null"
	// nullStartTimeout bounds how long a null server may take to start, and
	// nullStopTimeout to end.
	nullStartTimeout = 20 * time.Second
	nullStopTimeout  = 5 * time.Second
)

// ServeNull runs a null server on a free port of 127.0.0.1, writes its URL as one
// line to out, and serves until in ends or ctx does. Its parent holds in's other
// end, so that the server does not outlive it however it dies.
func ServeNull(ctx context.Context, in io.Reader, out io.Writer) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return errs.Wrap("bench: null server", errs.Unavailable, err)
	}
	srv := &http.Server{Handler: nulls3.New(), ReadHeaderTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	ended := make(chan struct{})
	go func() {
		// This read ends with the process at the latest, when it is not closed.
		_, _ = io.Copy(io.Discard, in)
		close(ended)
	}()
	if _, err := fmt.Fprintf(out, "http://%s\n", ln.Addr()); err != nil {
		_ = srv.Close()
		return errs.Wrap("bench: null server", errs.Unavailable, err)
	}
	select {
	case <-ctx.Done():
	case <-ended:
	case err := <-served:
		return errs.Wrap("bench: null server", errs.Unavailable, err)
	}
	_ = srv.Close()
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return errs.Wrap("bench: null server", errs.Unavailable, err)
	}
	return nil
}

// nullProcess is a null server in a process of its own.
type nullProcess struct {
	cmd   *exec.Cmd
	stdin io.Closer
	url   string
	done  chan struct{} // closed when the process has been waited for
}

// startNull starts command, which must call [ServeNull], and waits for its URL.
func startNull(command []string) (*nullProcess, error) {
	const op = "bench: null server"
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, errs.Wrap(op, errs.Unavailable, err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, errs.Wrap(op, errs.Unavailable, err)
	}
	if err := cmd.Start(); err != nil {
		return nil, errs.Wrap(op, errs.Unavailable, err)
	}
	p := &nullProcess{cmd: cmd, stdin: stdin, done: make(chan struct{})}
	line := make(chan string, 1)
	go func() {
		s, _ := bufio.NewReader(stdout).ReadString('\n')
		line <- strings.TrimSpace(s)
		_, _ = io.Copy(io.Discard, stdout)
		_ = cmd.Wait()
		close(p.done)
	}()
	timer := time.NewTimer(nullStartTimeout)
	defer timer.Stop()
	select {
	case p.url = <-line:
	case <-timer.C:
	}
	if !strings.HasPrefix(p.url, "http://") {
		p.stop()
		return nil, errs.New(op, errs.Unavailable, "%q did not start one", strings.Join(command, " "))
	}
	return p, nil
}

// stop ends the process and waits for it.
func (p *nullProcess) stop() {
	_ = p.stdin.Close()
	timer := time.NewTimer(nullStopTimeout)
	defer timer.Stop()
	select {
	case <-p.done:
		return
	case <-timer.C:
	}
	_ = p.cmd.Process.Kill()
	<-p.done
}
