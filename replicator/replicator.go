// Package replicator does in the background what a gateway that died, or a device
// that was away, has left undone.
//
// Read [Replicator] first. Two jobs are here:
//
//   - Notes. A record is written together with a note that its row has still to
//     be delivered; the gateway takes the note away when that is done. A note
//     that has grown old is settled here: the record is finished, its row
//     delivered, the note removed. So no crash loses a listing's row.
//   - Sweeping. Fragments that no record names are found, by the suspects that
//     devices list and by going through the fragments that are old enough. A
//     group is given up only behind a promise of its key's devices that no record
//     may name it any more.
//
// It holds no state: everything that it works on is on the devices. What fails is
// tried again in the next round.
package replicator

import (
	"context"
	"log/slog"
	"time"

	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/peer"
	"ringfort/internal/register"
	"ringfort/internal/timestamp"
)

// Group is a set of blobs of one key.
type Group struct {
	Owner  keyhash.Hash
	Group  timestamp.T
	Policy uint32
}

// Device is what the replicator needs of one device's services.
type Device interface {
	// Notes calls fn with the notes older than before (µs), from the key after
	// start, until fn answers false.
	Notes(s peer.Service, start keyhash.Hash, before int64, fn func(keyhash.Hash, register.Note) bool) error
	// Value returns what the device's record of a key says, nil if it has none, and
	// under which policy the key lies.
	Value(s peer.Service, key keyhash.Hash) (policy uint32, value []byte, err error)
	// Suspects calls fn with the groups that may be dead, until fn answers false.
	Suspects(fn func(Group) bool) error
	// Acquit removes a group from the suspects.
	Acquit(Group)
	// Groups calls fn with the groups of the fragments on the device that were
	// begun before a time and that no record on the device names, from the
	// position start on, until fn answers false.
	Groups(start []byte, before time.Time, fn func(at []byte, g Group) bool) error
	// Reconcile deletes files that a crash left without an index entry and that
	// were begun before a time, and returns how many.
	Reconcile(ctx context.Context, before time.Time) (int, error)
}

// Gateway is what the replicator needs of the operations.
type Gateway interface {
	// Deliver finishes a key's record, delivers its row and settles it. value is
	// what one device's record says, policy where it lies.
	Deliver(ctx context.Context, s peer.Service, policy uint32, key keyhash.Hash, value []byte) error
	// Sweep gives up a group unless a record or an unfinished upload names it.
	// It reports whether the group was given up.
	Sweep(ctx context.Context, policy uint32, owner keyhash.Hash, group timestamp.T) (bool, error)
}

// Config tunes a Replicator.
type Config struct {
	Gateway Gateway
	Log     *slog.Logger
	// Every is the pause between rounds. Default 10 s.
	Every time.Duration
	// NoteAge is how old a note has to be: a gateway mostly settles it within
	// milliseconds. Default 20 s.
	NoteAge time.Duration
	// OrphanEvery is the pause between two searches for orphans, and OrphanAge
	// how old one has to be. Defaults 1 h and 24 h; an upload in one piece that
	// takes longer than OrphanAge fails.
	OrphanEvery time.Duration
	OrphanAge   time.Duration
	// PerSecond bounds the keys that are asked about. Default 200.
	PerSecond int
	// Now is the wall clock; nil: time.Now.
	Now func() time.Time
}

// Replicator looks after devices. Make one with New and call Run.
type Replicator struct {
	cfg     Config
	devices []Device
	orphans time.Time // when they were last looked for
	// started is when this process began: a note from before it is old, whatever
	// its age, for the gateway that wrote it has mostly ended with it.
	started time.Time
}

// New returns a replicator for devices.
func New(cfg Config, devices []Device) *Replicator {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&cfg.Every, 10*time.Second)
	def(&cfg.NoteAge, 20*time.Second)
	def(&cfg.OrphanEvery, time.Hour)
	def(&cfg.OrphanAge, 24*time.Hour)
	if cfg.PerSecond == 0 {
		cfg.PerSecond = 200
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Replicator{cfg: cfg, devices: devices, started: cfg.Now()}
}

// Run works until ctx ends.
func (r *Replicator) Run(ctx context.Context) {
	t := time.NewTicker(r.cfg.Every)
	defer t.Stop()
	for {
		r.Round(ctx)
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// Round does what there is to do now.
func (r *Replicator) Round(ctx context.Context) {
	orphans := r.cfg.Now().Sub(r.orphans) >= r.cfg.OrphanEvery
	if orphans {
		r.orphans = r.cfg.Now()
	}
	for _, d := range r.devices {
		for _, s := range []peer.Service{peer.Objects, peer.Containers, peer.Accounts} {
			r.report(ctx, "rows were not delivered", r.notes(ctx, d, s))
		}
		r.report(ctx, "suspects were not swept", r.suspects(ctx, d))
		if orphans {
			r.report(ctx, "orphans were not swept", r.sweepOrphans(ctx, d))
			n, err := d.Reconcile(ctx, r.cfg.Now().Add(-r.cfg.OrphanAge))
			r.report(ctx, "files without an entry were not deleted", err)
			if n > 0 {
				r.cfg.Log.Info("files without an entry were deleted", "files", n)
			}
		}
	}
}

func (r *Replicator) report(ctx context.Context, what string, err error) {
	if err != nil && ctx.Err() == nil && !errs.Is(err, errs.Unavailable) {
		r.cfg.Log.Warn(what, "error", err)
	}
}

// pace holds a loop to the configured rate.
func (r *Replicator) pace(ctx context.Context) error {
	t := time.NewTimer(time.Second / time.Duration(r.cfg.PerSecond))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// page is how much is gathered under an iterator before it is worked on.
const page = 256

// notes settles the old notes of one service on a device.
func (r *Replicator) notes(ctx context.Context, d Device, s peer.Service) error {
	var start keyhash.Hash
	var failed error
	for {
		before := max(r.cfg.Now().Add(-r.cfg.NoteAge).UnixMicro(), r.started.UnixMicro())
		var keys []keyhash.Hash
		err := d.Notes(s, start, before, func(k keyhash.Hash, _ register.Note) bool {
			keys = append(keys, k)
			return len(keys) < page
		})
		if err != nil {
			return err
		}
		for _, k := range keys {
			start = k
			if err := r.pace(ctx); err != nil {
				return err
			}
			policy, value, err := d.Value(s, k)
			if err == nil {
				err = r.cfg.Gateway.Deliver(ctx, s, policy, k, value)
			}
			if err != nil {
				failed = err // one key must not stand in the way of the others
			}
		}
		if len(keys) < page {
			return failed
		}
	}
}

func (r *Replicator) suspects(ctx context.Context, d Device) error {
	var list []Group
	if err := d.Suspects(func(g Group) bool { list = append(list, g); return len(list) < page }); err != nil {
		return err
	}
	var failed error
	for _, g := range list {
		if err := r.pace(ctx); err != nil {
			return err
		}
		if _, err := r.cfg.Gateway.Sweep(ctx, g.Policy, g.Owner, g.Group); err != nil {
			failed = err
			continue
		}
		d.Acquit(g)
	}
	return failed
}

func (r *Replicator) sweepOrphans(ctx context.Context, d Device) error {
	var start []byte
	var failed error
	for {
		before := r.cfg.Now().Add(-r.cfg.OrphanAge)
		var list []Group
		err := d.Groups(start, before, func(at []byte, g Group) bool {
			start = append(start[:0], at...)
			if n := len(list); n == 0 || list[n-1] != g {
				list = append(list, g)
			}
			return len(list) < page
		})
		if err != nil {
			return err
		}
		for _, g := range list {
			if err := r.pace(ctx); err != nil {
				return err
			}
			swept, err := r.cfg.Gateway.Sweep(ctx, g.Policy, g.Owner, g.Group)
			if err != nil {
				failed = err
			}
			if swept {
				r.cfg.Log.Info("an upload that never became an object was swept", "key", g.Owner, "begun", g.Group.Time())
			}
		}
		if len(list) < page {
			return failed
		}
	}
}
