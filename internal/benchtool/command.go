package benchtool

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"ringfort/internal/errs"
)

const longHelp = `Puts load on an S3 endpoint and reports operations and megabytes per second and
latencies; with --pid also processor time, bytes written and memory of the
server; with --null also what the same load reaches against a server that does
nothing, which is the ceiling of client and network on this machine.

The keys are taken from RINGFORT_ACCESS_KEY and RINGFORT_SECRET_KEY, or from
AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, unless flags give them.

Everything is written to a bucket of its own and deleted at the end. Load goes to
this machine only, unless --allow-remote is given. The exit status is not zero if
any operation failed.`

const examples = `  ringfort bench --op put,get --size 4KiB -c 32
  ringfort bench --suite --duration 60s --pid $(pidof ringfort) --json bench.json
  ringfort bench --op get --size 1MiB -c 16 --rate 500
  ringfort bench --suite=quick --runs 10 --benchfmt new.txt && benchstat old.txt new.txt`

// flags are the command line's, before they become a [Config].
type flags struct {
	cfg         Config
	ops         []string
	sizes       []string
	concurrency int
	listTotal   int64
	suite       string
	dataLimit   string
	jsonPath    string
	benchPath   string
	quiet       bool
}

// New returns the command "bench".
func New() *cobra.Command {
	f := &flags{cfg: Default()}
	cmd := &cobra.Command{
		Use:     "bench",
		Short:   "measure an S3 endpoint under load",
		Long:    longHelp,
		Example: examples,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SilenceUsage = true
			return f.run(cmd)
		},
	}
	f.register(cmd)
	cmd.AddCommand(newNullCommand())
	return cmd
}

func (f *flags) register(cmd *cobra.Command) {
	c, s := &f.cfg, cmd.Flags()
	s.StringSliceVar(&c.Endpoints, "endpoint", c.Endpoints, "URL of the server; several share the connections out")
	s.StringVar(&c.AccessKey, "access-key", "", "access key")
	s.StringVar(&c.SecretKey, "secret-key", "", "secret key; the environment is the safer place for it")
	s.StringVar(&c.Region, "region", c.Region, "region that requests are signed for")
	s.StringVar(&c.Bucket, "bucket", c.Bucket, "bucket to work in, made if it is not there")
	s.StringSliceVar(&f.ops, "op", nil, "operations to measure: put, get, head, delete, list, scan")
	s.StringSliceVar(&f.sizes, "size", []string{"4KiB"}, "object sizes")
	s.IntVarP(&f.concurrency, "concurrency", "c", 32, "connections, each with one request at a time")
	s.Int64Var(&f.listTotal, "list-total", 10_000, "keys in the bucket that a page of 1,000 is listed from")
	s.StringVar(&f.suite, "suite", "", "measure a whole table instead of --op: node, cluster or quick (implies --null)")
	s.Lookup("suite").NoOptDefVal = "node"
	s.DurationVar(&c.Duration, "duration", c.Duration, "time of each figure")
	s.DurationVar(&c.Warmup, "warmup", c.Warmup, "time before each figure that is not recorded")
	s.DurationVar(&c.Grace, "grace", c.Grace, "time that requests under way get at the end of a figure")
	s.Int64Var(&c.Count, "count", 0, "operations after which a figure ends; 0 is no limit but --duration")
	s.Float64Var(&c.RatePerSecond, "rate", 0, "operations a second to start, whether answered or not (open loop); 0 sends the next when the last is answered")
	s.Int64Var(&c.Keys, "keys", 0, "different keys to work on; 0 is as many as --data-limit allows")
	s.StringVar(&f.dataLimit, "data-limit", FormatSize(c.DataLimitBytes), "most data to keep in the bucket for each object size; then the first keys are written again")
	s.IntVar(&c.Runs, "runs", 1, "times to measure everything")
	s.BoolVar(&c.Null, "null", false, "measure the null server too and give every figure as a share of it")
	s.IntSliceVar(&c.PIDs, "pid", nil, "process ids of the server, to report what it uses")
	s.BoolVar(&c.Verify, "verify", false, "compare every byte read with what was written")
	s.BoolVar(&c.Keep, "keep", false, "leave the objects; kept listing buckets are used again")
	s.BoolVar(&c.AllowRemote, "allow-remote", false, "permit endpoints that are not this machine")
	s.BoolVar(&c.Insecure, "insecure", false, "accept any TLS certificate")
	s.Int64Var(&c.MaxErrors, "max-errors", c.MaxErrors, "failures after which a figure ends; 0 is no limit")
	s.StringVar(&c.Note, "note", "", "text to repeat in the report, such as the state of the caches")
	s.StringVar(&f.jsonPath, "json", "", "file to write the report to as JSON; - is standard output instead of the table")
	s.StringVar(&f.benchPath, "benchfmt", "", "file to write the report to as Go benchmark lines; - is standard output instead of the table")
	s.BoolVarP(&f.quiet, "quiet", "q", false, "do not tell the progress")
}

// config turns the flags into a configuration.
func (f *flags) config(cmd *cobra.Command) (Config, error) {
	cfg := f.cfg
	cfg.AccessKey = firstOf(cfg.AccessKey, os.Getenv("RINGFORT_ACCESS_KEY"), os.Getenv("AWS_ACCESS_KEY_ID"))
	cfg.SecretKey = firstOf(cfg.SecretKey, os.Getenv("RINGFORT_SECRET_KEY"), os.Getenv("AWS_SECRET_ACCESS_KEY"))
	var err error
	if cfg.DataLimitBytes, err = ParseSize(f.dataLimit); err != nil {
		return cfg, err
	}
	if cfg.Figures, err = f.figures(); err != nil {
		return cfg, err
	}
	if f.suite != "" && !cmd.Flags().Changed("null") {
		cfg.Null = true
	}
	self, err := os.Executable()
	if err != nil {
		return cfg, errs.Wrap("bench", errs.Unavailable, err)
	}
	cfg.NullCommand = append([]string{self}, strings.Fields(cmd.CommandPath())[1:]...)
	cfg.NullCommand = append(cfg.NullCommand, nullCommandName)
	if !f.quiet {
		errOut := cmd.ErrOrStderr()
		cfg.Progress = func(line string) { fmt.Fprintln(errOut, line) }
	}
	return cfg, nil
}

func (f *flags) figures() ([]Figure, error) {
	if f.suite != "" {
		if len(f.ops) > 0 {
			return nil, errs.New("bench", errs.Invalid, "--op and --suite exclude each other")
		}
		return Suite(f.suite)
	}
	var all, lists []Figure
	for _, s := range f.sizes {
		size, err := ParseSize(s)
		if err != nil {
			return nil, err
		}
		for _, o := range f.ops {
			op, err := ParseOp(o)
			if err != nil {
				return nil, err
			}
			fig := Figure{Op: op, SizeBytes: size, Concurrency: f.concurrency}
			if fig.listing() {
				fig.SizeBytes, fig.ListTotal = 0, f.listTotal
				lists = append(lists, fig)
				continue
			}
			all = append(all, fig)
		}
	}
	// Listings do not depend on the size: once is enough.
	return append(all, lists[:len(lists)/max(len(f.sizes), 1)]...), nil
}

func (f *flags) run(cmd *cobra.Command) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cfg, err := f.config(cmd)
	if err != nil {
		return err
	}
	report, runErr := Run(ctx, cfg)
	if report != nil {
		if err := f.write(cmd.OutOrStdout(), report); err != nil && runErr == nil {
			return err
		}
	}
	if runErr != nil {
		return runErr
	}
	if n := report.Failed(); n > 0 {
		return errs.New("bench", errs.Other, "%d operations failed", n)
	}
	return nil
}

// write writes the report in every form that was asked for.
func (f *flags) write(out io.Writer, r *Report) error {
	toStdout := false
	for _, form := range []struct {
		path  string
		write func(io.Writer) error
	}{{f.jsonPath, r.WriteJSON}, {f.benchPath, r.WriteBench}} {
		switch form.path {
		case "":
		case "-":
			toStdout = true
			if err := form.write(out); err != nil {
				return err
			}
		default:
			if err := writeFile(form.path, form.write); err != nil {
				return err
			}
		}
	}
	if toStdout {
		return nil
	}
	return r.WriteText(out)
}

func writeFile(path string, write func(io.Writer) error) error {
	file, err := os.Create(path)
	if err != nil {
		return errs.Wrap("bench", errs.Invalid, err)
	}
	if err := write(file); err != nil {
		_ = file.Close()
		return err
	}
	return file.Close()
}

const nullCommandName = "null-server"

func newNullCommand() *cobra.Command {
	return &cobra.Command{
		Use:    nullCommandName,
		Short:  "serve S3 out of nothing, to be measured",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := nullContext(cmd.Context())
			defer stop()
			return ServeNull(ctx, cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
}

// nullContext ignores the terminal's Ctrl-C, which reaches the whole process
// group: the parent ends the null server when it has finished with it.
func nullContext(ctx context.Context) (context.Context, context.CancelFunc) {
	signal.Ignore(os.Interrupt)
	return signal.NotifyContext(ctx, syscall.SIGTERM)
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
