package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"ringfort/internal/node"
	"ringfort/internal/volume"
)

func newVolume() *cobra.Command {
	c := &cobra.Command{Use: "volume", Short: "Check or rebuild a device's volume while no server runs on it"}
	c.AddCommand(
		&cobra.Command{
			Use: "verify DIR", Short: "Read everything in a device's log back and check it", Args: cobra.ExactArgs(1),
			RunE: func(c *cobra.Command, args []string) error {
				cfg, err := node.VolumeConfig(args[0])
				if err != nil {
					return err
				}
				v, err := volume.Open(c.Context(), cfg)
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
are all in the log. The rows of listings and of unfinished uploads are not. The device
then serves what it has of objects, and has no vote on listings until it has been
refilled: the other devices answer for them. Do not rebuild a device whose index is
sound, and not as many at a time as listings have replicas.`,
			RunE: func(c *cobra.Command, args []string) error {
				cfg, err := node.VolumeConfig(args[0])
				if err == nil {
					err = volume.Rebuild(c.Context(), cfg)
				}
				if err == nil {
					fmt.Fprintln(c.OutOrStdout(), "the index is made again; the device has no vote on listings until it has been refilled")
				}
				return err
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
			secret, err := s.placement()
			if err != nil {
				return err
			}
			for _, dir := range args {
				uuid, err := node.FormatDevice(dir, s.Cluster, secret)
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
