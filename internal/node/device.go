package node

import (
	"context"
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
const maxDeviceCalls = 1024

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
}

// open brings the device into service.
func (d *device) open(ctx context.Context, cfg *Config, cache *pebble.Cache, log *slog.Logger) error {
	vcfg := cfg.Volume
	vcfg.Dir = filepath.Join(d.dir, "volume")
	vcfg.FS = cfg.FS
	vcfg.Cache = cache
	vcfg.Spaces = append(append(objectserver.Spaces(), container.Spaces()...), account.Spaces()...)
	vcfg.Logger = log
	vcfg.OnFail = func(err error) { d.fail(err, log) }
	vol, err := volume.Open(ctx, vcfg)
	if err != nil {
		return err
	}
	s := &services{volume: vol}
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
