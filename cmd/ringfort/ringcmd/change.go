package ringcmd

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"ringfort/internal/errs"
	"ringfort/ring"
	"ringfort/ring/builder"
)

func (e *env) create() *cobra.Command {
	cfg := builder.DefaultConfig()
	var overload string
	c := &cobra.Command{
		Use:   "create FILE",
		Short: "make an empty builder file",
		Args:  oneFile,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if cfg.Overload, err = parseOverload(overload); err != nil {
				return err
			}
			if cfg.ID, err = e.newUUID(); err != nil {
				return err
			}
			if !cmd.Flags().Changed("seed") {
				var b [8]byte
				if _, err := io.ReadFull(e.random, b[:]); err != nil {
					return errs.Wrap("draw seed", errs.Other, err)
				}
				cfg.Seed = binary.BigEndian.Uint64(b[:])
			}
			b, err := builder.New(cfg)
			if err != nil {
				return err
			}
			lock, err := e.lock(args[0])
			if err != nil {
				return err
			}
			defer lock.Close()
			if _, err := e.fs.Stat(args[0]); err == nil {
				return errs.New("ring create", errs.Exists, "%s is there already; it is not overwritten, because its ring could not be changed any more", args[0])
			}
			if err := builder.Save(e.fs, args[0], b); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: ring %s of %d partitions with %d replicas; add at least %d devices\n",
				args[0], cfg.ID, 1<<cfg.Power, cfg.Replicas, cfg.Replicas)
			return nil
		},
	}
	f := c.Flags()
	f.UintVar(&cfg.Power, "power", cfg.Power, "binary logarithm of the number of partitions; 100 or more partitions for each device there will ever be")
	f.IntVar(&cfg.Replicas, "replicas", cfg.Replicas, "devices that each partition has: the copies of replica(n), k+m for ec(k,m)")
	f.IntVar(&cfg.MinPartHours, "min-part-hours", cfg.MinPartHours, "hours before another replica of a partition may move")
	f.StringVar(&overload, "overload", "unlimited", overloadHelp)
	f.Uint64Var(&cfg.Seed, "seed", 0, "makes the placement repeatable; random if not given")
	return c
}

const overloadHelp = `how far beyond its fair share a device may be loaded to keep replicas apart: 0.1 or 10%, or "unlimited"`

func parseOverload(s string) (float64, error) {
	if s == "unlimited" {
		return builder.Unlimited, nil
	}
	num, percent := strings.CutSuffix(s, "%")
	v, err := strconv.ParseFloat(num, 64)
	if err != nil || !(v >= 0) {
		return 0, errs.New("ring", errs.Invalid, "overload %q is not a number like 0.1, a percentage like 10%%, or \"unlimited\"", s)
	}
	if percent {
		v /= 100
	}
	return v, nil
}

func (e *env) add() *cobra.Command {
	var d ring.Device
	var uuid, givenID string
	c := &cobra.Command{
		Use:   "add FILE --node NAME --address HOST:PORT --weight W",
		Short: "add a device; the next rebalance gives it partitions",
		Args:  oneFile,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if d.Node == "" || d.Address == "" || !cmd.Flags().Changed("weight") {
				return errs.New("ring add", errs.Invalid, "--node, --address and --weight are needed")
			}
			if _, port, err := net.SplitHostPort(d.Address); err != nil || port == "" {
				return errs.New("ring add", errs.Invalid, "address %q is not HOST:PORT", d.Address)
			}
			if uuid != "" {
				d.UUID, err = ring.ParseUUID(uuid)
			} else {
				d.UUID, err = e.newUUID()
			}
			if err != nil {
				return err
			}
			if givenID != "" {
				if d.ID, err = parseID(givenID); err != nil {
					return err
				}
			}
			var id ring.DeviceID
			err = e.change(args[0], func(b *builder.Builder) (err error) {
				id, err = b.Add(d)
				return err
			})
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: added %s, uuid %s, in region %s, zone %s, node %s\n", args[0], id, d.UUID, d.Region, d.Zone, d.Node)
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&d.Region, "region", "r1", "region it stands in")
	f.StringVar(&d.Zone, "zone", "z1", "zone of the region: what fails together, like a rack or a room")
	f.StringVar(&d.Node, "node", "", "name of the server process that serves it")
	f.StringVar(&d.Address, "address", "", "host:port where that process listens for its peers")
	f.Float64Var(&d.Weight, "weight", 0, "its share, relative to the others: its size in GB is a good one")
	f.StringVar(&uuid, "uuid", "", "the uuid on the device; a random one if not given")
	f.StringVar(&givenID, "id", "", "its id in the cluster's other rings; a new one if not given")
	f.StringVar(&d.Meta, "meta", "", "any text, like a serial number")
	return c
}

func (e *env) setWeight() *cobra.Command {
	return &cobra.Command{
		Use:   "set-weight FILE DEVICE WEIGHT",
		Short: "change the weight of a device; 0 empties it",
		Args:  atLeast(3, "a builder file, a device and its new weight"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseID(args[1])
			if err != nil {
				return err
			}
			w, err := strconv.ParseFloat(args[2], 64)
			if err != nil || len(args) > 3 {
				return errs.New("ring set-weight", errs.Invalid, "%q is not a weight", strings.Join(args[2:], " "))
			}
			if err := e.change(args[0], func(b *builder.Builder) error { return b.SetWeight(id, w) }); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %s has weight %v from the next rebalance on\n", args[0], id, w)
			return nil
		},
	}
}

func (e *env) remove() *cobra.Command {
	return &cobra.Command{
		Use:   "remove FILE DEVICE...",
		Short: "take devices out; the next rebalances empty them",
		Long: `Takes devices out for good, whether they still work or not. Rebalances give
their partitions to others, one replica of a partition at a time, and a device
leaves the ring with its last one. Its id is never used again: a disk that comes
back is wiped and added as a new device.`,
		Args: atLeast(2, "a builder file and the devices to remove"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.change(args[0], func(b *builder.Builder) error {
				for _, a := range args[1:] {
					id, err := parseID(a)
					if err == nil {
						err = b.Remove(id)
					}
					if err != nil {
						return err
					}
					fmt.Fprintf(cmd.OutOrStdout(), "%s: %s will be emptied and leave\n", args[0], id)
				}
				return nil
			})
		},
	}
}

// rebalanceFlags are the options of rebalance.
type rebalanceFlags struct {
	output, overload string
	minPartHours     int
	dryRun, pretend  bool
	json             bool
}

func (e *env) rebalance() *cobra.Command {
	var o rebalanceFlags
	c := &cobra.Command{
		Use:   "rebalance FILE",
		Short: "move partitions to where they should be and write the ring file",
		Long: `Computes what each device should hold and moves replicas towards that: at most
one replica of a partition, and none of a partition that moved in the last
--min-part-hours, unless its device was removed or has weight 0. Then writes the
ring file. Exit status 1 says that not everything could be moved yet, or that the
ring has a weakness; rebalance again when the moves have been made.`,
		Args: oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.output == "" {
				o.output = strings.TrimSuffix(args[0], filepath.Ext(args[0])) + ".ring"
			}
			if o.output == args[0] {
				return errs.New("ring rebalance", errs.Invalid, "the ring would be written over its builder %s: name another file with --output", args[0])
			}
			if o.dryRun {
				return e.runSimulation(cmd, args[0], &o)
			}
			return e.runRebalance(cmd, args[0], &o)
		},
	}
	f := c.Flags()
	f.StringVarP(&o.output, "output", "o", "", "ring file to write; the builder's name with .ring if not given")
	f.StringVar(&o.overload, "overload", "", "change the setting: "+overloadHelp)
	f.IntVar(&o.minPartHours, "min-part-hours", 0, "change the setting: hours before another replica of a partition may move")
	f.BoolVar(&o.dryRun, "dry-run", false, "change nothing; show this rebalance and those to follow")
	f.BoolVar(&o.pretend, "pretend-min-part-hours-passed", false, "move any partition; only when no move is under way")
	f.BoolVar(&o.json, "json", false, "print JSON")
	return c
}

// apply changes the settings that were given.
func (o *rebalanceFlags) apply(cmd *cobra.Command, b *builder.Builder) error {
	if cmd.Flags().Changed("overload") {
		v, err := parseOverload(o.overload)
		if err != nil {
			return err
		}
		if err := b.SetOverload(v); err != nil {
			return err
		}
	}
	if cmd.Flags().Changed("min-part-hours") {
		if err := b.SetMinPartHours(o.minPartHours); err != nil {
			return err
		}
	}
	if o.pretend {
		b.PretendTimePassed()
	}
	return nil
}

// rebalanced is what rebalance prints as JSON.
type rebalanced struct {
	Ring     string           `json:"ring,omitempty"`
	Steps    []builder.Result `json:"steps"`
	Warnings []string         `json:"warnings"`
}

func (e *env) runRebalance(cmd *cobra.Command, path string, o *rebalanceFlags) error {
	var res builder.Result
	var report *builder.Report
	// The builder is saved before the ring is written: a ring whose builder was
	// lost could have its epoch given out a second time.
	var made *ring.Ring
	err := e.change(path, func(b *builder.Builder) (err error) {
		if err := o.apply(cmd, b); err != nil {
			return err
		}
		if res, err = b.Rebalance(e.now()); err != nil {
			return err
		}
		made, err = b.Ring()
		report = b.Report()
		return err
	})
	if err != nil {
		return err
	}
	if err := ring.Save(e.fs, o.output, made); err != nil {
		return err
	}
	warnings := rebalanceWarnings(&res, report)
	out := cmd.OutOrStdout()
	if o.json {
		if err := printJSON(out, rebalanced{Ring: o.output, Steps: []builder.Result{res}, Warnings: warnings}); err != nil {
			return err
		}
	} else {
		printResult(out, &res)
		fmt.Fprintf(out, "balance %.2f%%; wrote %s\n", report.Balance, o.output)
	}
	return warn(warnings)
}

// runSimulation shows at most this many rebalances.
const maxSimulated = 100

func (e *env) runSimulation(cmd *cobra.Command, path string, o *rebalanceFlags) error {
	b, err := e.open(path)
	if err != nil {
		return err
	}
	if err := o.apply(cmd, b); err != nil {
		return err
	}
	steps, after, err := b.Simulate(e.now(), maxSimulated)
	if err != nil {
		return err
	}
	report := after.Report()
	warnings := rebalanceWarnings(&steps[len(steps)-1], report)
	out := cmd.OutOrStdout()
	if o.json {
		if err := printJSON(out, rebalanced{Steps: steps, Warnings: warnings}); err != nil {
			return err
		}
		return warn(warnings)
	}
	for i := range steps {
		printResult(out, &steps[i])
	}
	fmt.Fprintf(out, "balance %.2f%% at the end; nothing was changed\n", report.Balance)
	return warn(warnings)
}

func printResult(w io.Writer, r *builder.Result) {
	switch {
	case r.First:
		fmt.Fprintf(w, "epoch %d: placed all partitions\n", r.Epoch)
	case !r.Changed:
		fmt.Fprintf(w, "epoch %d: nothing to move\n", r.Epoch)
	default:
		fmt.Fprintf(w, "epoch %d: moved %d replicas; loads ask for %d\n", r.Epoch, r.Moved, r.Least)
	}
}

// rebalanceWarnings adds what a rebalance left undone to what the report warns
// of.
func rebalanceWarnings(r *builder.Result, report *builder.Report) []string {
	w := []string{}
	if !r.Settled() {
		w = append(w, fmt.Sprintf("%d replicas are still to move, %d of them from devices removed or of weight 0, and %d partitions to be spread: rebalance again when these moves are done (%d partitions were kept back by min-part-hours)",
			max(r.Leftover, r.Stranded), r.Stranded, r.Crowded, r.Locked))
	}
	return append(w, report.Warnings()...)
}

// warn turns warnings into the error that ends a command with status 1.
func warn(warnings []string) error {
	if len(warnings) == 0 {
		return nil
	}
	return &Warning{What: strings.Join(warnings, "\nwarning: ")}
}
