package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"ringfort/internal/node"
	"ringfort/internal/policy"
	"ringfort/internal/vfs"
	"ringfort/ring"
	"ringfort/ring/builder"
)

func newCluster() *cobra.Command {
	c := &cobra.Command{Use: "cluster", Short: "Run a cluster of several processes on this machine, and make a cluster's secrets"}
	c.AddCommand(newClusterStart(), newClusterStop(), newClusterSecrets())
	return c
}

// clusterFile lists the processes of a local cluster.
type clusterFile struct {
	Nodes []clusterNode `json:"nodes"`
}

type clusterNode struct {
	Name string `json:"name"`
	PID  int    `json:"pid"`
	endpointsPart
}

type endpointsPart struct {
	S3    string `json:"s3"`
	TLS   string `json:"tls,omitempty"`
	Admin string `json:"admin"`
}

func newClusterStart() *cobra.Command {
	var nodes, perNode int
	var spec string
	c := &cobra.Command{
		Use:   "start [flags] DIR",
		Short: "Start a local cluster of real processes, to try things",
		Long: `Start a cluster of processes on this machine. At the first start DIR is set up
with rings, secrets and a folder for each node; later starts continue with what
is there. Each node logs into its folder; DIR/cluster.json lists endpoints and
process ids.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			l := &localCluster{dir: args[0], nodes: nodes, perNode: perNode, policy: spec}
			return l.start(c.Context(), c.OutOrStdout())
		},
	}
	c.Flags().IntVar(&nodes, "nodes", 4, "number of processes (first start)")
	c.Flags().IntVar(&perNode, "devices", 1, "directories of each process (first start)")
	c.Flags().StringVar(&spec, "policy", "", "replica(n) or ec(k,m) (first start; default: by the number of devices)")
	return c
}

func newClusterStop() *cobra.Command {
	return &cobra.Command{
		Use:   "stop DIR",
		Short: "Stop a local cluster",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return (&localCluster{dir: args[0]}).stop(c.Context(), c.OutOrStdout())
		},
	}
}

func newClusterSecrets() *cobra.Command {
	return &cobra.Command{
		Use:   "secrets FILE",
		Short: "Make the file of secrets that the nodes of a cluster share",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := makeSecrets(args[0])
			if err == nil {
				fmt.Fprintf(c.OutOrStdout(), "cluster %s\nCopy %s to every node and keep it safe: without its placement key no object can be found.\n", s.Cluster, args[0])
			}
			return err
		},
	}
}

func makeSecrets(path string) (*secrets, error) {
	random := func(n int) string {
		b := make([]byte, n)
		rand.Read(b) // never fails since Go 1.24
		return hex.EncodeToString(b)
	}
	s := &secrets{
		Cluster: random(16), Placement: random(32), Peer: random(32), Tokens: random(32),
		AccessKey: "RF" + strings.ToUpper(random(9)), Secret: random(20),
	}
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = f.Write(append(b, '\n'))
	return s, errors.Join(err, f.Sync(), f.Close())
}

// localCluster is a cluster of processes under one directory.
type localCluster struct {
	dir     string
	nodes   int
	perNode int
	policy  string
}

func (l *localCluster) path(parts ...string) string {
	return filepath.Join(append([]string{l.dir}, parts...)...)
}

// setUp makes rings, secrets and configuration files.
func (l *localCluster) setUp() error {
	total := l.nodes * l.perNode
	if l.nodes < 1 || l.perNode < 1 {
		return errors.New("--nodes and --devices are at least 1")
	}
	p := policy.Default(total)
	if l.policy != "" {
		var err error
		if p, err = policy.Parse(l.policy); err != nil {
			return err
		}
	}
	if p.Fragments() > total {
		return fmt.Errorf("%v needs %d devices; %d nodes with %d each have %d", p, p.Fragments(), l.nodes, l.perNode, total)
	}
	if err := os.MkdirAll(l.path("rings"), 0o755); err != nil {
		return err
	}
	sec, err := makeSecrets(l.path("secrets.json"))
	if err != nil {
		return err
	}
	placement, err := sec.placement()
	if err != nil {
		return err
	}
	ports, err := freePorts(3 * l.nodes)
	if err != nil {
		return err
	}
	var devices []ring.Device
	for i := range l.nodes {
		name := "node" + strconv.Itoa(i+1)
		nc := &nodeConfig{
			Name: name, Secrets: "../secrets.json",
			Listen: ports[3*i], Admin: ports[3*i+1], Peer: ports[3*i+2],
			AccountRing: "../rings/account.ring", ContainerRing: "../rings/container.ring",
			Policies: []policyConfig{{Name: node.DefaultPolicy, Policy: p.String(), Ring: "../rings/object.ring", Default: true}},
		}
		for j := range l.perNode {
			sub := "d" + strconv.Itoa(j+1)
			uuid, err := node.FormatDevice(l.path(name, sub), sec.Cluster, placement)
			if err != nil {
				return err
			}
			nc.Devices = append(nc.Devices, sub)
			devices = append(devices, ring.Device{
				ID: ring.DeviceID(len(devices) + 1), UUID: uuid, Zone: name, Node: name, Address: nc.Peer, Weight: 1,
			})
		}
		b, err := yaml.Marshal(nc)
		if err != nil {
			return err
		}
		if err := os.WriteFile(l.path(name, "ringfort.yaml"), b, 0o644); err != nil {
			return err
		}
	}
	for name, replicas := range map[string]int{"account": min(3, total), "container": min(3, total), "object": p.Fragments()} {
		r, err := builder.Simple(devices, replicas, 12, uint64(len(name)))
		if err != nil {
			return err
		}
		if err := ring.Save(vfs.Default(), l.path("rings", name+".ring"), r); err != nil {
			return err
		}
	}
	return nil
}

// freePorts returns addresses on 127.0.0.1 that nobody listens on now.
func freePorts(n int) ([]string, error) {
	var out []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		out = append(out, l.Addr().String())
	}
	return out, nil
}

func (l *localCluster) configs() ([]string, error) {
	return filepath.Glob(l.path("node*", "ringfort.yaml"))
}

func (l *localCluster) start(ctx context.Context, out interface{ Write([]byte) (int, error) }) error {
	configs, err := l.configs()
	if err != nil {
		return err
	}
	if len(configs) == 0 {
		if err := l.setUp(); err != nil {
			return err
		}
		if configs, err = l.configs(); err != nil {
			return err
		}
	}
	if old, err := l.read(); err == nil {
		for _, n := range old.Nodes {
			if l.alive(n) {
				return fmt.Errorf("%s is running already, as process %d: `ringfort cluster stop %s` stops the cluster", n.Name, n.PID, l.dir)
			}
		}
	}
	var file clusterFile
	for _, config := range configs {
		n, err := l.startNode(ctx, config)
		file.Nodes = append(file.Nodes, n)
		if werr := l.write(&file); err == nil {
			err = werr
		}
		if err != nil {
			return errors.Join(err, l.stop(ctx, out))
		}
	}
	sec, err := readSecrets(l.path("secrets.json"))
	if err != nil {
		return err
	}
	for _, n := range file.Nodes {
		fmt.Fprintf(out, "%s  process %d  S3 and Swift %s  admin %s\n", n.Name, n.PID, n.S3, n.Admin)
	}
	if os.Getenv("RINGFORT_ACCESS_KEY") == "" {
		fmt.Fprintf(out, "\nAccess key  %s\nSecret key  %s\n", sec.AccessKey, sec.Secret)
	}
	return nil
}

// startNode starts one process, which goes on when this command has ended, and
// waits until it serves.
func (l *localCluster) startNode(ctx context.Context, config string) (clusterNode, error) {
	dir := filepath.Dir(config)
	n := clusterNode{Name: filepath.Base(dir)}
	self, err := os.Executable()
	if err != nil {
		return n, err
	}
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return n, err
	}
	defer log.Close()
	ready := filepath.Join(dir, "ready.json")
	os.Remove(ready)
	// Not tied to ctx: it outlives this command.
	cmd := exec.Command(self, "server", "--config", config, "--ready-file", ready)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return n, err
	}
	n.PID = cmd.Process.Pid
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(60 * time.Second)
	defer deadline.Stop()
	for {
		select {
		case err := <-exited:
			return n, fmt.Errorf("%s ended at once (%v); its log is %s", n.Name, err, log.Name())
		case <-deadline.C:
			return n, fmt.Errorf("%s is not ready after a minute; its log is %s", n.Name, log.Name())
		case <-ctx.Done():
			return n, ctx.Err()
		case <-tick.C:
			if b, err := os.ReadFile(ready); err == nil {
				return n, json.Unmarshal(b, &n.endpointsPart)
			}
		}
	}
}

func (l *localCluster) read() (*clusterFile, error) {
	b, err := os.ReadFile(l.path("cluster.json"))
	if err != nil {
		return nil, err
	}
	var f clusterFile
	return &f, json.Unmarshal(b, &f)
}

func (l *localCluster) write(f *clusterFile) error {
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(l.path("cluster.json.tmp"), b, 0o644); err != nil {
		return err
	}
	return os.Rename(l.path("cluster.json.tmp"), l.path("cluster.json"))
}

// alive reports whether a node's process is still that node: its id may have been
// given to another program.
func (l *localCluster) alive(n clusterNode) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", n.PID))
	return err == nil && strings.Contains(string(b), filepath.Join(n.Name, "ringfort.yaml"))
}

func (l *localCluster) stop(ctx context.Context, out interface{ Write([]byte) (int, error) }) error {
	f, err := l.read()
	if err != nil {
		return fmt.Errorf("%s holds no running cluster: %w", l.dir, err)
	}
	for _, n := range f.Nodes {
		if l.alive(n) {
			syscall.Kill(n.PID, syscall.SIGINT)
		}
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(60 * time.Second)
	defer deadline.Stop()
	for _, n := range f.Nodes {
		for l.alive(n) {
			select {
			case <-tick.C:
			case <-deadline.C:
				return fmt.Errorf("%s (process %d) has not stopped after a minute", n.Name, n.PID)
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		fmt.Fprintf(out, "%s stopped\n", n.Name)
	}
	return os.Remove(l.path("cluster.json"))
}
