package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"ringfort/internal/keyhash"
	"ringfort/internal/node"
	"ringfort/internal/peer"
	"ringfort/internal/policy"
	"ringfort/internal/vfs"
	"ringfort/ring"
)

// nodeConfig is the configuration file of a node of a cluster. Paths are relative
// to the file. docs/cluster.md explains each field.
type nodeConfig struct {
	Name     string   `yaml:"name"`
	Secrets  string   `yaml:"secrets"` // file made by `ringfort cluster secrets`
	Listen   string   `yaml:"listen"`
	Admin    string   `yaml:"admin"`
	Peer     string   `yaml:"peer"` // as the rings name this node's address
	TLSCert  string   `yaml:"tls_cert,omitempty"`
	TLSKey   string   `yaml:"tls_key,omitempty"`
	Roles    []string `yaml:"roles,omitempty"` // gateway, storage; both by default
	Devices  []string `yaml:"devices"`
	Region   string   `yaml:"region,omitempty"`
	CacheMiB int64    `yaml:"cache_mib,omitempty"` // memory for index blocks; 32 by default
	Domains  []string `yaml:"domains,omitempty"`

	AccountRing   string         `yaml:"account_ring"`
	ContainerRing string         `yaml:"container_ring"`
	Policies      []policyConfig `yaml:"policies"`
}

type policyConfig struct {
	Name    string `yaml:"name"`
	Index   uint32 `yaml:"index"`
	Policy  string `yaml:"policy"`
	Ring    string `yaml:"ring"`
	Default bool   `yaml:"default,omitempty"`
}

// secrets are what the nodes of a cluster share and nobody else may know.
type secrets struct {
	Cluster   string `json:"cluster"`
	Placement string `json:"placement"` // 32 bytes in hexadecimal; never changes
	Peer      string `json:"peer"`
	Tokens    string `json:"tokens"`
	AccessKey string `json:"access_key"` // of the root identity
	Secret    string `json:"secret"`
}

func readSecrets(path string) (*secrets, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var s secrets
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if s.Cluster == "" || len(s.Peer) < peer.MinSecretBytes || len(s.Tokens) < 16 {
		return nil, fmt.Errorf("%s: cluster, peer and tokens are needed; `ringfort cluster secrets` makes such a file", path)
	}
	return &s, nil
}

func (s *secrets) placement() (k keyhash.Secret, err error) {
	b, err := hex.DecodeString(s.Placement)
	if err != nil || len(b) != len(k) {
		return k, errors.New("secrets: placement is not 64 hexadecimal digits")
	}
	copy(k[:], b)
	return k, nil
}

func readConfig(path string) (*nodeConfig, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	d := yaml.NewDecoder(io.LimitReader(f, 1<<20))
	d.KnownFields(true) // a misspelt field is an error, not a default
	var c nodeConfig
	if err := d.Decode(&c); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	switch {
	case c.Name == "" || c.Secrets == "" || c.Listen == "" || c.Peer == "" || c.AccountRing == "" || c.ContainerRing == "":
		return nil, fmt.Errorf("%s: name, secrets, listen, peer, account_ring and container_ring are needed", path)
	case len(c.Policies) == 0:
		return nil, fmt.Errorf("%s: give at least one policy", path)
	}
	for _, r := range c.Roles {
		if r != "gateway" && r != "storage" {
			return nil, fmt.Errorf("%s: role %q is neither gateway nor storage", path, r)
		}
	}
	return &c, nil
}

// applyConfig fills in the node's configuration and the flags from the file, and
// returns the address of the peer listener.
func applyConfig(c *cobra.Command, f *serverFlags, cfg *node.Config) (string, error) {
	nc, err := readConfig(f.config)
	if err != nil {
		return "", err
	}
	if f.policy != "" {
		return "", errors.New("--policy is for a node by itself: the configuration file lists a cluster's policies")
	}
	dir := filepath.Dir(f.config)
	sec, err := readSecrets(under(dir, nc.Secrets))
	if err != nil {
		return "", err
	}
	cc := &node.ClusterConfig{ID: sec.Cluster, Tokens: []byte(sec.Tokens), Address: nc.Peer}
	cc.Gateway = len(nc.Roles) == 0 || slices.Contains(nc.Roles, "gateway")
	cc.Storage = len(nc.Roles) == 0 || slices.Contains(nc.Roles, "storage")
	f.storageOnly = !cc.Gateway
	if cc.Secret, err = sec.placement(); err != nil {
		return "", err
	}
	if cc.Peer, err = peer.NewSecret([]byte(sec.Peer)); err != nil {
		return "", err
	}
	if cc.Rings, err = nc.rings(dir); err != nil {
		return "", err
	}
	if len(cfg.Dirs) > 0 {
		return "", errors.New("with --config the directories are listed in the file")
	}
	cfg.Name, cfg.Cluster, cfg.Region, cfg.Domains = nc.Name, cc, nc.Region, nc.Domains
	for _, d := range nc.Devices {
		cfg.Dirs = append(cfg.Dirs, under(dir, d))
	}
	if cfg.RootAccessKey == "" {
		cfg.RootAccessKey, cfg.RootSecret = sec.AccessKey, sec.Secret
	}
	if cfg.RootAccessKey == "" {
		return "", errors.New("a cluster's root keys come from its secrets file or from RINGFORT_ACCESS_KEY and RINGFORT_SECRET_KEY")
	}
	nc.flags(c, f, dir)
	return nc.Peer, nil
}

// flags takes from the file what was not given on the command line.
func (nc *nodeConfig) flags(c *cobra.Command, f *serverFlags, dir string) {
	set := func(name string, to *string, v string) {
		if v != "" && !c.Flags().Changed(name) {
			*to = v
		}
	}
	set("listen", &f.listen, nc.Listen)
	set("listen-admin", &f.admin, nc.Admin)
	if nc.CacheMiB > 0 && !c.Flags().Changed("cache-mib") {
		f.cacheMiB = nc.CacheMiB
	}
	if nc.TLSCert != "" {
		set("tls-cert", &f.tlsCert, under(dir, nc.TLSCert))
		set("tls-key", &f.tlsKey, under(dir, nc.TLSKey))
	}
}

func under(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

func (nc *nodeConfig) rings(dir string) (*node.Rings, error) {
	load := func(path string) (*ring.Ring, error) {
		r, err := ring.Load(vfs.Default(), under(dir, path))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return r, nil
	}
	var err error
	out := &node.Rings{}
	if out.Account, err = load(nc.AccountRing); err != nil {
		return nil, err
	}
	if out.Container, err = load(nc.ContainerRing); err != nil {
		return nil, err
	}
	for _, p := range nc.Policies {
		rp := node.RingPolicy{Name: p.Name, Index: p.Index, Default: p.Default || len(nc.Policies) == 1}
		if rp.Spec, err = policy.Parse(p.Policy); err != nil {
			return nil, err
		}
		if rp.Ring, err = load(p.Ring); err != nil {
			return nil, err
		}
		if rp.Default {
			out.Policies = append([]node.RingPolicy{rp}, out.Policies...)
		} else {
			out.Policies = append(out.Policies, rp)
		}
	}
	return out, out.Validate()
}
