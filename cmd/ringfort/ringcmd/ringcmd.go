// Package ringcmd is the command "ringfort ring": it makes and changes ring
// builder files and writes the ring files that servers read. All arithmetic is in
// package ring/builder; this package parses, calls and prints.
//
// Start with [New]. Commands that change a file lock it against each other and
// replace it atomically.
//
// A command ends well (exit status 0), with a warning (1: it did what was asked,
// or could not do all of it yet, and someone should look), or with an error (2:
// nothing was changed). The caller gets the status from [ExitStatus].
package ringcmd

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"ringfort/internal/errs"
	"ringfort/internal/vfs"
	"ringfort/ring"
	"ringfort/ring/builder"
)

// Exit statuses of the commands.
const (
	StatusOK      = 0
	StatusWarning = 1
	StatusError   = 2
)

// Warning is the error of a command that did its work, but found something that
// an operator should look at.
type Warning struct{ What string }

// Error returns the warning.
func (w *Warning) Error() string { return "warning: " + w.What }

// ExitStatus returns the exit status that belongs to a command's error.
func ExitStatus(err error) int {
	var w *Warning
	switch {
	case err == nil:
		return StatusOK
	case errors.As(err, &w):
		return StatusWarning
	}
	return StatusError
}

// env is what the commands take from outside.
type env struct {
	fs     vfs.FS
	now    func() time.Time
	random io.Reader
}

// New returns the command with its subcommands. It prints results on the
// command's output and returns errors without printing them.
func New() *cobra.Command {
	return newCommand(&env{fs: vfs.Default(), now: time.Now, random: rand.Reader})
}

func newCommand(e *env) *cobra.Command {
	c := &cobra.Command{
		Use:   "ring",
		Short: "make and change rings: which device keeps which partition",
		Long: `A ring says which devices keep which part of the data. Its builder file holds
the devices with their weights and the history needed to change the ring with few
moves; keep it, and a copy of it. The ring file made from it goes to the servers.

    ringfort ring create object.builder --power 16 --replicas 3
    ringfort ring add object.builder --node n1 --zone z1 --address 10.0.0.1:7000 --weight 4000
    ...
    ringfort ring rebalance object.builder        # writes object.ring
    ringfort ring show object.builder

Exit status: 0 all is well, 1 someone should look, 2 nothing was changed.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	c.AddCommand(e.create(), e.add(), e.setWeight(), e.remove(), e.rebalance(), e.show(), e.validate())
	return c
}

// open loads a builder for reading.
func (e *env) open(path string) (*builder.Builder, error) {
	b, err := builder.Load(e.fs, path)
	if errs.Is(err, errs.NotFound) {
		return nil, errs.New("ring", errs.NotFound, "there is no builder file %s: make one with \"ringfort ring create %s\"", path, path)
	}
	return b, err
}

// lock keeps other commands from changing the builder at path.
func (e *env) lock(path string) (io.Closer, error) {
	l, err := builder.Lock(e.fs, path)
	if errs.Is(err, errs.Busy) {
		return nil, errs.New("ring", errs.Busy, "another command is changing %s: try again when it has ended", path)
	}
	return l, err
}

// change loads the builder at path, lets f change it, and saves it unless f
// fails.
func (e *env) change(path string, f func(b *builder.Builder) error) (err error) {
	lock, err := e.lock(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	b, err := e.open(path)
	if err != nil {
		return err
	}
	if err := f(b); err != nil {
		return err
	}
	return builder.Save(e.fs, path, b)
}

func (e *env) newUUID() (u ring.UUID, err error) {
	_, err = io.ReadFull(e.random, u[:])
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80 // version 4, as other programs expect of a random one
	return u, errs.Wrap("draw uuid", errs.Other, err)
}

// parseID reads a device id: 7 or d7.
func parseID(s string) (ring.DeviceID, error) {
	var n uint32
	var rest string
	t := s
	if len(t) > 1 && t[0] == 'd' {
		t = t[1:]
	}
	if k, _ := fmt.Sscanf(t, "%d%s", &n, &rest); k != 1 || n == 0 {
		return 0, errs.New("ring", errs.Invalid, "%q is not a device id: ids are numbers as in the list of \"ringfort ring show\", like d7", s)
	}
	return ring.DeviceID(n), nil
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// oneFile accepts exactly the builder file as argument.
func oneFile(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return errs.New("ring", errs.Invalid, "name one builder file; %d arguments were given", len(args))
	}
	return nil
}

// atLeast accepts n arguments or more, described by what.
func atLeast(n int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < n {
			return errs.New("ring", errs.Invalid, "name %s; %d arguments were given", what, len(args))
		}
		return nil
	}
}
