// Command ringfort is the whole of Ringfort in one binary: the server, and the
// commands to set up, look at and look after it.
package main

import (
	"fmt"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"ringfort/cmd/ringfort/ringcmd"
	"ringfort/internal/benchtool"
)

// version is set by the linker for releases.
var version = "dev"

func main() {
	root := newRoot()
	if err := root.Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "ringfort:", err)
		os.Exit(exitStatus(root, err))
	}
}

// exitStatus is 1 for a failed command; the ring commands tell a warning from an
// error.
func exitStatus(root *cobra.Command, err error) int {
	if c, _, ferr := root.Find(os.Args[1:]); ferr == nil && c.Parent() != nil && c.Parent().Name() == "ring" {
		return ringcmd.ExitStatus(err)
	}
	return 1
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "ringfort",
		Short: "An object storage cluster that speaks Amazon S3 and OpenStack Swift",
		Long: `Ringfort stores objects on one directory or on thousands of disks, and serves
them over Amazon S3 and OpenStack Swift at the same time.

To begin:

    ringfort server ./data        one directory, S3 and Swift on 127.0.0.1:9000`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.AddCommand(
		newServer(), newCluster(), newStatus(), newUser(), newLogLevel(),
		newVolume(), newDevice(), ringcmd.New(), benchtool.New(), newVersion(),
	)
	return root
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		Run: func(c *cobra.Command, _ []string) {
			fmt.Fprintln(c.OutOrStdout(), "ringfort", versionText())
		},
	}
}

// versionText is the version with the commit it was built from, where known.
func versionText() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return version + " (" + s.Value[:12] + ", " + info.GoVersion + ")"
		}
	}
	return version + " (" + info.GoVersion + ")"
}
