package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"ringfort/account"
	"ringfort/container"
	"ringfort/internal/node"
	"ringfort/internal/vfs"
	"ringfort/internal/volume"
	"ringfort/objectserver"
)

func volumeConfig(dir string) volume.Config {
	return volume.Config{
		Dir: filepath.Join(dir, "volume"), FS: vfs.Default(),
		Spaces: append(append(objectserver.Spaces(), container.Spaces()...), account.Spaces()...),
	}
}

func newVolume() *cobra.Command {
	c := &cobra.Command{Use: "volume", Short: "Check or rebuild a device's volume while no server runs on it"}
	c.AddCommand(
		&cobra.Command{
			Use: "verify DIR", Short: "Read everything in a device's log back and check it", Args: cobra.ExactArgs(1),
			RunE: func(c *cobra.Command, args []string) error {
				v, err := volume.Open(c.Context(), volumeConfig(args[0]))
				if err != nil {
					return err
				}
				defer v.Close()
				bad := 0
				err = v.Verify(c.Context(), func(f volume.Finding) {
					bad++
					fmt.Fprintln(c.OutOrStdout(), f)
				})
				if err == nil && bad > 0 {
					err = fmt.Errorf("%d findings", bad)
				}
				if err == nil {
					fmt.Fprintln(c.OutOrStdout(), "all is well")
				}
				return err
			},
		},
		&cobra.Command{
			Use: "rebuild DIR", Short: "Make a device's index again from its log", Args: cobra.ExactArgs(1),
			Long: `Make the index again from the log alone: records, fragments and their small bytes
are all in the log. Listing rows and other derived entries are not, and come back
from the records and from other devices.`,
			RunE: func(c *cobra.Command, args []string) error {
				return volume.Rebuild(c.Context(), volumeConfig(args[0]))
			},
		})
	return c
}

func newDevice() *cobra.Command {
	c := &cobra.Command{Use: "device", Short: "Prepare directories as devices of a cluster"}
	var secretsFile string
	format := &cobra.Command{
		Use: "format --secrets FILE DIR...", Short: "Claim empty directories and print the ids to add to the rings", Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := readSecrets(secretsFile)
			if err != nil {
				return err
			}
			for _, dir := range args {
				uuid, err := node.FormatDevice(dir, s.Cluster)
				if err != nil {
					return err
				}
				fmt.Fprintf(c.OutOrStdout(), "%s  %s\n", uuid, dir)
			}
			return nil
		},
	}
	format.Flags().StringVar(&secretsFile, "secrets", "", "the cluster's secrets file")
	format.MarkFlagRequired("secrets")
	c.AddCommand(format)
	return c
}
