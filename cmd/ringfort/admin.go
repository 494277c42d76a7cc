package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"ringfort/gateway/auth/users"
	"ringfort/internal/node"
)

// adminClient speaks to a server's admin listener.
type adminClient struct {
	url string
}

// flags adds what every command that needs the admin listener takes.
func (a *adminClient) flags(c *cobra.Command) {
	c.PersistentFlags().StringVar(&a.url, "admin", envOr("RINGFORT_ADMIN", "http://127.0.0.1:9001"), "URL of the admin listener (or RINGFORT_ADMIN)")
}

func envOr(name, or string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return or
}

// call sends a request as the root identity and decodes the answer.
func (a *adminClient) call(method, path string, in, out any) error {
	accessKey, secret := os.Getenv("RINGFORT_ACCESS_KEY"), os.Getenv("RINGFORT_SECRET_KEY")
	if accessKey == "" || secret == "" {
		return errors.New("set RINGFORT_ACCESS_KEY and RINGFORT_SECRET_KEY to the root identity's keys")
	}
	var body io.Reader
	switch v := in.(type) {
	case nil:
	case string:
		body = strings.NewReader(v)
	default:
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, strings.TrimRight(a.url, "/")+path, body)
	if err != nil {
		return err
	}
	req.SetBasicAuth(accessKey, secret)
	client := http.Client{Timeout: 30 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("%w\nIs the server running, and is its admin address %s? It prints it when it starts; --admin or RINGFORT_ADMIN set another", err, a.url)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return errors.New(strings.TrimSpace(string(b)))
	}
	switch v := out.(type) {
	case nil:
		return nil
	case *string:
		*v = strings.TrimSpace(string(b))
		return nil
	}
	return json.Unmarshal(b, out)
}

func newUser() *cobra.Command {
	var a adminClient
	c := &cobra.Command{
		Use:   "user",
		Short: "Add, list, disable and remove access keys",
		Long: `Accounts, users and access keys of the cluster. The keys of the root identity,
in RINGFORT_ACCESS_KEY and RINGFORT_SECRET_KEY, give the right to change them.
A change is felt everywhere within two seconds.`,
	}
	a.flags(c)
	var accessKey, secret string
	add := &cobra.Command{
		Use: "add ACCOUNT NAME", Short: "Add a user with an access key, which is printed once", Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			var u users.User
			if err := a.call("POST", "/users", users.User{Account: args[0], Name: args[1], AccessKey: accessKey, Secret: secret}, &u); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "Account     %s\nUser        %s\nAccess key  %s\nSecret key  %s\nSwift login %s:%s, with the secret key\n",
				u.Account, u.Name, u.AccessKey, u.Secret, u.Account, u.AccessKey)
			return nil
		},
	}
	add.Flags().StringVar(&accessKey, "access-key", "", "access key to use (default: a new one)")
	add.Flags().StringVar(&secret, "secret", "", "secret key to use (default: a new one)")
	list := &cobra.Command{
		Use: "list", Short: "List access keys", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var list []users.User
			if err := a.call("GET", "/users", nil, &list); err != nil {
				return err
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "ACCESS KEY\tACCOUNT\tUSER\tSTATE")
			for _, u := range list {
				state := "enabled"
				if !u.Enabled {
					state = "disabled"
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", u.AccessKey, u.Account, u.Name, state)
			}
			return w.Flush()
		},
	}
	one := func(use, short, method, suffix, done string) *cobra.Command {
		return &cobra.Command{Use: use + " ACCESS_KEY", Short: short, Args: cobra.ExactArgs(1),
			RunE: func(c *cobra.Command, args []string) error {
				if err := a.call(method, "/users/"+args[0]+suffix, nil, nil); err != nil {
					return err
				}
				fmt.Fprintf(c.OutOrStdout(), "%s %s\n", args[0], done)
				return nil
			}}
	}
	c.AddCommand(add, list,
		one("disable", "Refuse an access key's requests from now on", "POST", "/disable", "disabled"),
		one("enable", "Accept a disabled access key again", "POST", "/enable", "enabled"),
		one("remove", "Delete an access key; what its account holds stays", "DELETE", "", "removed"))
	return c
}

func newLogLevel() *cobra.Command {
	var a adminClient
	c := &cobra.Command{
		Use: "log-level [debug|info|warn|error]", Short: "Show or change a running server's log level", Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var level string
			var err error
			if len(args) == 0 {
				err = a.call("GET", "/log-level", nil, &level)
			} else {
				err = a.call("PUT", "/log-level", args[0], &level)
			}
			if err == nil {
				fmt.Fprintln(c.OutOrStdout(), level)
			}
			return err
		},
	}
	a.flags(c)
	return c
}

func newStatus() *cobra.Command {
	var a adminClient
	var asJSON bool
	c := &cobra.Command{
		Use: "status", Short: "Show nodes, devices, space and unfinished uploads", Args: cobra.NoArgs,
		Long: `Show what the server that is asked knows of the cluster. The exit status is 1 if
a node does not answer or a device is out of service.`,
		RunE: func(c *cobra.Command, _ []string) error {
			var r node.Report
			if err := a.call("GET", "/status", nil, &r); err != nil {
				return err
			}
			if asJSON {
				e := json.NewEncoder(c.OutOrStdout())
				e.SetIndent("", "  ")
				if err := e.Encode(r); err != nil {
					return err
				}
			} else {
				printStatus(c.OutOrStdout(), &r)
			}
			return r.Err()
		},
	}
	a.flags(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func printStatus(out io.Writer, r *node.Report) {
	for _, p := range r.Policies {
		fmt.Fprintf(out, "policy %s  %s  %s\n", p.Name, p.Spec, survives(p.SurvivesReads, p.SurvivesWrites))
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nNODE\tDEVICE\tSTATE\tFREE\tTOTAL\tDIRECTORY")
	for _, n := range r.Nodes {
		for _, d := range n.Devices {
			state := d.State
			if d.Problem != "" {
				state += ": " + d.Problem
			}
			fmt.Fprintf(w, "%s\t%v\t%s\t%s\t%s\t%s\n", n.Name, d.Device, state, size(d.FreeBytes), size(d.TotalBytes), d.Path)
		}
	}
	w.Flush()
	for _, m := range r.Missing {
		fmt.Fprintf(out, "%s does not answer\n", m)
	}
	fmt.Fprintf(out, "\nunfinished uploads  %d\nrequests under way  %d\n", r.Uploads, r.Requests)
}

// size prints bytes for people.
func size(n uint64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/1024, 0
	for v >= 1024 && i < len(units)-1 {
		v /= 1024
		i++
	}
	return fmt.Sprintf("%.1f %ciB", v, units[i])
}
