package ringcmd

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"ringfort/internal/errs"
	"ringfort/ring"
	"ringfort/ring/builder"
)

func (e *env) show() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "show FILE",
		Short: "print devices, balance and dispersion",
		Args:  oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := e.open(args[0])
			if err != nil {
				return err
			}
			r := b.Report()
			if asJSON {
				return printJSON(cmd.OutOrStdout(), r)
			}
			return printReport(cmd.OutOrStdout(), r)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func printReport(out io.Writer, r *builder.Report) error {
	overload := "unlimited"
	if r.Overload != nil {
		overload = fmt.Sprintf("%g%%", *r.Overload*100)
	}
	fmt.Fprintf(out, "ring %s, epoch %d\n", r.ID, r.Epoch)
	fmt.Fprintf(out, "%d partitions (power %d) of %d replicas, min-part-hours %d, overload %s\n",
		r.Partitions, r.Power, r.Replicas, r.MinPartHours, overload)
	fmt.Fprintf(out, "balance %.2f%%, over positions %.2f%%\n", r.Balance, r.PositionBalance)

	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "\nreplicas of a partition in one\tdomains\tat most\tleast possible\tcrowded partitions\t\n")
	for _, l := range r.Levels {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t\n", l.Level, l.Domains, l.Together, l.Possible, l.Crowded)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	w = tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "\ndevice\tregion\tzone\tnode\taddress\tweight\treplicas\tshould be\toff by\tof fair\tfirst\tstate\n")
	for i := range r.Devices {
		d := &r.Devices[i]
		state := "in"
		switch {
		case d.Removed:
			state = "removed, leaving"
		case d.Weight == 0 && d.Replicas > 0:
			state = "leaving"
		case d.Weight == 0:
			state = "empty"
		}
		fair := "-"
		if d.Fair > 0 {
			fair = fmt.Sprintf("%.0f%%", 100*float64(d.Want)/d.Fair)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%g\t%d\t%d\t%.2f%%\t%s\t%d\t%s\n", d.ID, d.Region, d.Zone, d.Node, d.Address,
			d.Weight, d.Replicas, d.Want, d.Deviation, fair, d.First, state)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if warnings := r.Warnings(); len(warnings) > 0 {
		fmt.Fprintf(out, "\nwarning: %s\n", strings.Join(warnings, "\nwarning: "))
	}
	return nil
}

func (e *env) validate() *cobra.Command {
	return &cobra.Command{
		Use:   "validate FILE",
		Short: "check a builder or ring file and how good the ring is",
		Long: `Checks the checksum and the structure of a builder file or a ring file, and of a
builder also how well the ring fits its devices.`,
		Args: oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := e.open(args[0])
			if errs.Is(err, errs.Invalid) { // a ring file, perhaps
				return e.validateRing(cmd.OutOrStdout(), args[0])
			}
			if err != nil {
				return err
			}
			r := b.Report()
			if err := warn(r.Warnings()); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: builder of ring %s, epoch %d, is valid\n", args[0], r.ID, r.Epoch)
			return nil
		},
	}
}

func (e *env) validateRing(out io.Writer, path string) error {
	r, err := ring.Load(e.fs, path)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: ring %s, epoch %d, %d partitions of %d replicas on %d devices, is valid\n",
		path, r.ID(), r.Epoch(), r.Partitions(), r.Replicas(), len(r.Devices()))
	return nil
}
