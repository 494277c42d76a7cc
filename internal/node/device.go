package node

import (
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"ringfort/account"
	"ringfort/container"
	"ringfort/internal/errs"
	"ringfort/internal/peer"
	"ringfort/internal/vfs"
	"ringfort/internal/volume"
	"ringfort/objectserver"
	"ringfort/ring"
)

// maxDeviceCalls bounds the calls that one device works on at a time, so that a
// device that hangs takes the node's memory for so many and no more.
const maxDeviceCalls = 4096

// device is one disk and the services on it. A device that cannot be opened, or
// fails, stays in the list, out of service.
type device struct {
	id   ring.DeviceID
	uuid ring.UUID
	dir  string

	calls atomic.Int64

	mu      sync.Mutex // guards what follows
	why     string     // it is out of service; "" if it is not
	running *services
}

// services are what runs on a device that is in service.
type services struct {
	volume    *volume.Volume
	objects   *objectserver.Server
	container *container.Server
	account   *account.Server
	stop      context.CancelFunc
	done      sync.WaitGroup

	// lost are the services whose rows a rebuild of the index has emptied. Their
	// registers are complete, since those never leave the log.
	lost map[peer.Service]bool
}

// spaces are the key spaces of a device, by service.
func spaces() map[peer.Service][]volume.Space {
	return map[peer.Service][]volume.Space{
		peer.Objects: objectserver.Spaces(), peer.Containers: container.Spaces(), peer.Accounts: account.Spaces(),
	}
}

// VolumeConfig describes the volume of a device to those who look at it while no
// node runs on it: the one that its claim names, which must be there.
func VolumeConfig(dir string) (volume.Config, error) {
	c, err := readClaim(dir)
	if err == nil && c == nil {
		err = errs.New("node.VolumeConfig", errs.Invalid, "%s is not a ringfort device", dir)
	}
	if err != nil {
		return volume.Config{}, err
	}
	cfg := volume.Config{FS: vfs.Default()}
	c.volume(dir, &cfg)
	cfg.Existing = true
	return cfg, nil
}

// volume fills in what a device's volume is.
func (c *claim) volume(dir string, cfg *volume.Config) {
	cfg.Dir = filepath.Join(dir, "volume")
	cfg.Existing = c.Volume != ""
	hex.Decode(cfg.ID[:], []byte(c.Volume)) // parseClaim has seen that it can be
	cfg.Spaces = nil
	for _, list := range spaces() {
		cfg.Spaces = append(cfg.Spaces, list...)
	}
}

// openVolume opens the device's volume: the one that the claim names, or a new one,
// which the claim then names before anything is promised.
func (d *device) openVolume(ctx context.Context, cfg volume.Config) (*volume.Volume, error) {
	const op = "node.openDevice"
	c, err := readClaim(d.dir)
	if err == nil && (c == nil || c.UUID != d.uuid) {
		err = errs.New(op, errs.Unavailable, "%s is not device %v", d.dir, d.uuid)
	}
	if err != nil {
		return nil, err
	}
	c.volume(d.dir, &cfg)
	vol, err := volume.Open(ctx, cfg)
	if errs.Is(err, errs.NotFound) {
		return nil, errs.New(op, errs.Unavailable,
			"its volume is gone (%s): the device has lost what it promised, and has no vote until it has been refilled", cfg.Dir)
	}
	if err != nil || c.Volume != "" {
		return vol, err
	}
	id, _, _ := vol.Identity()
	c.Volume = hex.EncodeToString(id[:])
	if err := c.save(d.dir); err != nil {
		return nil, errors.Join(err, vol.Close())
	}
	return vol, nil
}

// open brings the device into service.
func (d *device) open(ctx context.Context, cfg *Config, cache *pebble.Cache, log *slog.Logger) error {
	vcfg := cfg.Volume
	vcfg.FS = cfg.FS
	vcfg.Cache = cache
	vcfg.Logger = log
	vcfg.OnFail = func(err error) { d.fail(err, log) }
	vol, err := d.openVolume(ctx, vcfg)
	if err != nil {
		return err
	}
	s := &services{volume: vol, lost: lostRows(vol)}
	if len(s.lost) > 0 {
		log.Error("a device has no vote on listings", "device", d.id, "dir", d.dir, "error", lostText)
	}
	if err := s.start(ctx, d, cfg, log); err != nil {
		return errors.Join(err, vol.Close())
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.running, d.why = s, ""
	return nil
}

func (s *services) start(ctx context.Context, d *device, cfg *Config, log *slog.Logger) (err error) {
	ocfg := cfg.Objects
	ocfg.Volume, ocfg.FS, ocfg.Dir, ocfg.Log = s.volume, cfg.FS, filepath.Join(d.dir, "fragments"), log
	if s.objects, err = objectserver.Open(ctx, ocfg); err != nil {
		return err
	}
	if s.container, err = container.New(container.Config{Volume: s.volume}); err != nil {
		return err
	}
	if s.account, err = account.New(account.Config{Volume: s.volume}); err != nil {
		return err
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.done.Go(func() {
		if err := s.container.Run(run); err != nil && run.Err() == nil {
			log.Error("the reaping of deleted containers has ended", "device", d.id, "error", err)
		}
	})
	s.done.Go(func() { s.clear(run, d, log) })
	return nil
}

// clearEvery is how often garbage that is due is deleted.
const clearEvery = 5 * time.Second

func (s *services) clear(ctx context.Context, d *device, log *slog.Logger) {
	t := time.NewTicker(clearEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		for {
			n, err := s.objects.Clear(ctx, 1000)
			if err != nil && ctx.Err() == nil {
				log.Error("garbage was not deleted", "device", d.id, "error", err)
			}
			if n < 1000 || err != nil {
				break
			}
		}
	}
}

// lostText is what there is to say about lost rows.
const lostText = "its listings were lost when its index was rebuilt: it has no vote on them until it has been refilled"

// lostRows returns the services whose rows are lost. Of the object service nothing
// that votes can be: what it has in spaces that are not Kept is work to be done.
func lostRows(v *volume.Volume) map[peer.Service]bool {
	lost := map[peer.Service]bool{}
	for svc, list := range spaces() {
		for _, s := range list {
			if svc != peer.Objects && v.Lost(s.ID) {
				lost[svc] = true
			}
		}
	}
	return lost
}

// inService reports whether the device works, be it without a vote on listings.
func (d *device) inService() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.why == "" && d.running != nil
}

// fail takes the device out of service. The node goes on.
func (d *device) fail(err error, log *slog.Logger) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.why == "" {
		d.why = err.Error()
		log.Error("a device is out of service", "device", d.id, "dir", d.dir, "error", err)
	}
}

// use returns the device's services for one call, which ends with done.
func (d *device) use() (s *services, done func(), err error) {
	// Counted before the look, so that who closes the device and finds no call
	// knows that every later one is refused.
	if d.calls.Add(1) > maxDeviceCalls {
		d.calls.Add(-1)
		return nil, nil, errs.New("node", errs.Busy, "device %v has %d calls under way", d.id, maxDeviceCalls)
	}
	d.mu.Lock()
	s, why := d.running, d.why
	d.mu.Unlock()
	if why != "" || s == nil {
		d.leave()
		return nil, nil, errs.New("node", errs.Unavailable, "device %v is out of service: %s", d.id, why)
	}
	return s, d.leave, nil
}

func (d *device) leave() { d.calls.Add(-1) }

func (d *device) close() error {
	d.mu.Lock()
	s, failed := d.running, d.why != ""
	d.running = nil
	if d.why == "" {
		d.why = "the node is stopping"
	}
	d.mu.Unlock()
	if s == nil {
		return nil
	}
	s.stop()
	s.done.Wait()
	d.waitForCalls()
	if err := s.volume.Close(); !failed {
		return err
	}
	return nil // it was told when it failed
}

// closeTime is how long closing a device waits for calls under way. What a hung
// disk holds up for longer is lost with the process.
const closeTime = 10 * time.Second

// waitForCalls waits until nobody uses the services; new calls are refused already.
func (d *device) waitForCalls() {
	t := time.NewTicker(time.Millisecond)
	defer t.Stop()
	for end := time.Now().Add(closeTime); d.calls.Load() > 0 && time.Now().Before(end); {
		<-t.C
	}
}

// status describes the device.
func (d *device) status() peer.DeviceStatus {
	d.mu.Lock()
	s, why := d.running, d.why
	d.mu.Unlock()
	st := peer.DeviceStatus{Device: d.id, UUID: d.uuid, Path: d.dir, State: "in service", Problem: why}
	if why != "" || s == nil {
		st.State = "out of service"
	}
	if st.Problem == "" && s != nil && len(s.lost) > 0 {
		st.State, st.Problem = "in service without listings", lostText
	}
	if u, err := vfs.Default().GetDiskUsage(d.dir); err == nil {
		st.TotalBytes, st.FreeBytes = u.TotalBytes, u.AvailBytes
	}
	if st.Problem == "" && s != nil {
		if n, err := s.container.Uploads(); err == nil {
			st.Uploads = n
		}
	}
	return st
}
