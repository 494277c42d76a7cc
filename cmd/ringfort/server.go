package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"ringfort/internal/node"
)

type serverFlags struct {
	listen, listenTLS, admin string
	tlsCert, tlsKey          string
	policy, config           string
	region, domains          string
	readyFile                string
	logLevel, logFormat      string
	cacheMiB                 int64
	storageOnly              bool // by the configuration file's roles
}

func newServer() *cobra.Command {
	var f serverFlags
	c := &cobra.Command{
		Use:   "server [flags] DIR...",
		Short: "Serve S3 and Swift from directories, or as a node of a cluster",
		Long: `Serve S3 and Swift.

With directories, the node is a cluster by itself. At the first start it sets them
up; one directory keeps one copy of everything, two or three keep a copy each,
four or more keep objects erasure-coded. Give each directory a disk of its own.
Later starts need the same directories in the same order.

With --config, the node is one of many, as the file describes it (docs/cluster.md).

The root identity's keys come from RINGFORT_ACCESS_KEY and RINGFORT_SECRET_KEY; if
they are not set, keys are generated at the first start and printed once.`,
		RunE: func(c *cobra.Command, args []string) error { return runServer(c, &f, args) },
	}
	c.Flags().StringVar(&f.listen, "listen", "127.0.0.1:9000", "address for plain HTTP")
	c.Flags().StringVar(&f.listenTLS, "listen-tls", "", "address for TLS (default: a free port on the host of --listen; needs --tls-cert)")
	c.Flags().StringVar(&f.admin, "listen-admin", "", "address for health, metrics and administration (default: a free port on 127.0.0.1, or 9001 when --listen is on 9000)")
	c.Flags().StringVar(&f.tlsCert, "tls-cert", "", "PEM file with the certificate chain")
	c.Flags().StringVar(&f.tlsKey, "tls-key", "", "PEM file with its key")
	c.Flags().StringVar(&f.policy, "policy", "", "how objects are kept: replica(n) or ec(k,m); only at the first start")
	c.Flags().StringVar(&f.config, "config", "", "configuration file of a node of a cluster")
	c.Flags().StringVar(&f.region, "region", "", "the only region accepted in signatures (default: any)")
	c.Flags().StringVar(&f.domains, "domains", "", "comma-separated domains for virtual-hosted buckets")
	c.Flags().Int64Var(&f.cacheMiB, "cache-mib", 32, "memory for index blocks of all devices, in MiB; more makes lookups in large indexes read the disk less often")
	c.Flags().StringVar(&f.readyFile, "ready-file", "", "file to write the endpoints into, as JSON, when ready")
	c.Flags().StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error; 'ringfort log-level' changes it live")
	c.Flags().StringVar(&f.logFormat, "log-format", "text", "text or json")
	return c
}

func runServer(c *cobra.Command, f *serverFlags, dirs []string) error {
	log, level, err := newLogger(c.ErrOrStderr(), f)
	if err != nil {
		return err
	}
	cfg := node.Config{
		Name: "solo", Version: versionText(), Dirs: dirs, Policy: f.policy, Region: f.region, Log: log, Level: level,
		RootAccessKey: os.Getenv("RINGFORT_ACCESS_KEY"), RootSecret: os.Getenv("RINGFORT_SECRET_KEY"),
	}
	if (cfg.RootAccessKey == "") != (cfg.RootSecret == "") {
		return errors.New("set both RINGFORT_ACCESS_KEY and RINGFORT_SECRET_KEY, or neither")
	}
	if cfg.RootSecret != "" && (len(cfg.RootAccessKey) < 3 || len(cfg.RootSecret) < 8) {
		return errors.New("RINGFORT_ACCESS_KEY has at least 3 characters and RINGFORT_SECRET_KEY at least 8")
	}
	if f.cacheMiB < 1 || f.cacheMiB > 1<<20 {
		return fmt.Errorf("--cache-mib: %d is not between 1 and %d", f.cacheMiB, 1<<20)
	}
	if f.domains != "" {
		cfg.Domains = strings.Split(f.domains, ",")
	}
	peerAddress := ""
	if f.config != "" {
		if peerAddress, err = applyConfig(c, f, &cfg); err != nil {
			return err
		}
	} else if len(dirs) == 0 {
		return errors.New("give at least one directory, as in: ringfort server ./data")
	}
	if os.Getenv("GOGC") == "" {
		// Most of what lives is buffers and caches of fixed size: half as much garbage
		// on top of them, and not as much again, costs little processor time and
		// saves a quarter of the memory. Less still would collect all the time while
		// there is little that lives.
		debug.SetGCPercent(50)
	}
	if os.Getenv("GOMAXPROCS") == "" {
		// What returns from a sync of the disk has to wait for a turn among all that
		// computes. A few turns more than processors let the kernel decide: on two
		// processors a tenth to a quarter more PUTs a second.
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 4)
	}
	cfg.CacheBytes = f.cacheMiB << 20
	ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return serve(ctx, c.OutOrStdout(), f, &cfg, peerAddress)
}

func newLogger(w io.Writer, f *serverFlags) (*slog.Logger, *slog.LevelVar, error) {
	level := new(slog.LevelVar)
	if err := level.UnmarshalText([]byte(f.logLevel)); err != nil {
		return nil, nil, fmt.Errorf("--log-level: %q is none of debug, info, warn, error", f.logLevel)
	}
	opts := &slog.HandlerOptions{Level: level}
	switch f.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(w, opts)), level, nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), level, nil
	}
	return nil, nil, fmt.Errorf("--log-format: %q is neither text nor json", f.logFormat)
}

// serve listens, opens the node and serves until ctx ends.
func serve(ctx context.Context, out io.Writer, f *serverFlags, cfg *node.Config, peerAddress string) (err error) {
	// Ports first: two servers started by mistake fail here and touch no disk.
	l, err := listen(ctx, f, peerAddress)
	if err != nil {
		return err
	}
	defer closeAll(&l)
	n, err := node.Open(ctx, *cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	e := endpointsOf(&l)
	greet(out, n, e)
	if err := e.write(f.readyFile, n); err != nil {
		return err
	}
	err = n.Serve(ctx, l)
	if ctx.Err() != nil {
		fmt.Fprintln(out, "stopped")
	}
	return err
}

func listen(ctx context.Context, f *serverFlags, peerAddress string) (l node.Listeners, err error) {
	defer func() {
		if err != nil {
			closeAll(&l)
		}
	}()
	var lc net.ListenConfig
	open := func(address, flag string) (net.Listener, error) {
		x, err := lc.Listen(ctx, "tcp", address)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", flag, err)
		}
		return x, nil
	}
	if (f.tlsCert == "") != (f.tlsKey == "") {
		return l, errors.New("--tls-cert and --tls-key go together")
	}
	if !f.storageOnly {
		if l.HTTP, err = open(f.listen, "--listen"); err != nil {
			return l, err
		}
	}
	if f.tlsCert != "" && !f.storageOnly {
		cert, err := tls.LoadX509KeyPair(f.tlsCert, f.tlsKey)
		if err != nil {
			return l, fmt.Errorf("--tls-cert, --tls-key: %w", err)
		}
		l.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
		if l.HTTPS, err = open(besides(f.listenTLS, l.HTTP), "--listen-tls"); err != nil {
			return l, err
		}
	}
	if l.Admin, err = open(adminAddress(f), "--listen-admin"); err != nil {
		return l, err
	}
	if peerAddress != "" {
		l.Peer, err = open(peerAddress, "peer address")
	}
	return l, err
}

// besides returns the address given, or a free port on the host of l.
func besides(given string, l net.Listener) string {
	if given != "" {
		return given
	}
	host, _, _ := net.SplitHostPort(l.Addr().String())
	return net.JoinHostPort(host, "0")
}

func adminAddress(f *serverFlags) string {
	if f.admin != "" {
		return f.admin
	}
	if _, port, err := net.SplitHostPort(f.listen); err == nil && port == "9000" {
		return "127.0.0.1:9001"
	}
	return "127.0.0.1:0"
}

func closeAll(l *node.Listeners) {
	for _, x := range []net.Listener{l.HTTP, l.HTTPS, l.Admin, l.Peer} {
		if x != nil {
			x.Close()
		}
	}
}

// endpoints are the URLs that a server is reached at.
type endpoints struct {
	S3    string `json:"s3"`
	TLS   string `json:"tls,omitempty"`
	Admin string `json:"admin"`
	Peer  string `json:"peer,omitempty"`
	PID   int    `json:"pid"`
}

func endpointsOf(l *node.Listeners) endpoints {
	e := endpoints{Admin: "http://" + l.Admin.Addr().String(), PID: os.Getpid()}
	if l.HTTP != nil {
		e.S3 = "http://" + l.HTTP.Addr().String()
	}
	if l.HTTPS != nil {
		e.TLS = "https://" + l.HTTPS.Addr().String()
	}
	if l.Peer != nil {
		e.Peer = l.Peer.Addr().String()
	}
	return e
}

// write leaves the endpoints where scripts and `ringfort status` find them: in the
// file that was asked for, and beside the first device.
func (e endpoints) write(file string, n *node.Node) error {
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	for _, d := range n.Devices() {
		if d.Problem == "" {
			// For convenience only: a failure here is no reason not to serve.
			os.WriteFile(filepath.Join(d.Path, endpointsFile), b, 0o644)
		}
	}
	if file == "" {
		return nil
	}
	if err := os.WriteFile(file+".tmp", b, 0o644); err != nil {
		return fmt.Errorf("--ready-file: %w", err)
	}
	return os.Rename(file+".tmp", file)
}

// endpointsFile is written into each device's directory by a running server.
const endpointsFile = "endpoints.json"

// greet prints what a person needs to begin.
func greet(w io.Writer, n *node.Node, e endpoints) {
	root, generated := n.Root()
	fmt.Fprintf(w, "Ringfort %s\n\n", versionText())
	if e.S3 != "" {
		fmt.Fprintf(w, "  S3 and Swift   %s\n", e.S3)
	}
	if e.TLS != "" {
		fmt.Fprintf(w, "                 %s\n", e.TLS)
	}
	if e.S3 != "" {
		fmt.Fprintf(w, "  Swift login    %s/auth/v1.0, user %s:%s\n", e.S3, root.Account, root.AccessKey)
	}
	fmt.Fprintf(w, "  Admin          %s  (/metrics, /health/ready)\n", e.Admin)
	for _, p := range n.Policies() {
		fmt.Fprintf(w, "  Policy         %s: %v; %s\n", p.Name, p.Spec,
			survives(p.Spec.SurvivesReads(n.ListingReplicas()), p.Spec.SurvivesWrites(n.ListingReplicas())))
	}
	for _, d := range n.Devices() {
		if d.Problem != "" {
			fmt.Fprintf(w, "  %s %s: %s\n", strings.ToUpper(d.State), d.Path, d.Problem)
		}
	}
	switch {
	case n.Fresh() && generated:
		fmt.Fprintf(w, "\n  Access key     %s\n  Secret key     %s\n  (printed this once; `RINGFORT_ACCESS_KEY` and `RINGFORT_SECRET_KEY` set others)\n", root.AccessKey, root.Secret)
	default:
		fmt.Fprintf(w, "\n  Access key     %s\n", root.AccessKey)
	}
	if e.S3 == "" {
		return
	}
	secret := "SECRET"
	if n.Fresh() && generated {
		secret = root.Secret
	}
	fmt.Fprintf(w, "\nTry:\n\n  AWS_ACCESS_KEY_ID=%s AWS_SECRET_ACCESS_KEY=%s \\\n    aws --endpoint-url %s s3 mb s3://first\n\n", root.AccessKey, secret, e.S3)
}

// survives says how many failures a policy survives.
func survives(reads, writes int) string {
	if reads == 0 {
		return "survives no failure of a device"
	}
	if reads == writes {
		return fmt.Sprintf("survives the failure of any %s", devices(reads))
	}
	w := "none"
	if writes > 0 {
		w = "any " + devices(writes)
	}
	return fmt.Sprintf("reads survive the failure of any %s, writes of %s", devices(reads), w)
}

func devices(n int) string {
	if n == 1 {
		return "1 device"
	}
	return fmt.Sprintf("%d devices", n)
}
