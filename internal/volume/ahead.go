package volume

import (
	"ringfort/internal/vfs"
)

// A sync after a write to disk space that was never written before takes half as
// long again as one after overwriting: the file system must also journal that the
// space now holds data. Measured on ext4 over NVMe: 150 µs against 95 µs for 4 KiB,
// 190 µs against 113 µs for 64 KiB, 570 µs against 300 µs for 1 MiB. Former segments
// are therefore used again; and in a fresh one a helper goroutine writes zeros ahead
// of the writer while its frames are small, so that this is paid once for megabytes.

// zeroAhead is how far ahead zeros are written; zeroMaxFrame the average size of
// frames up to which that is worth its bytes.
const (
	zeroAhead    = 4 * mib
	zeroMaxFrame = 16 * kib
)

// aheadState is a lane's writing of zeros. It is the writer goroutine's.
type aheadState struct {
	running bool
	done    chan error // of capacity 1
	from    int64      // the lane's claim before
	to      int64      // and after
	frames  int64      // since the last look
	bytes   int64
}

// wantAhead reports whether zeros should be written now.
func (l *lane) wantAhead() bool {
	a := &l.ahead
	if l.v.cfg.DisableZeroAhead || a.running || l.id != Meta || l.off+zeroAhead/2 < l.claimed {
		return false
	}
	small := a.frames > 0 && a.bytes/a.frames <= zeroMaxFrame
	a.frames, a.bytes = 0, 0
	return small
}

// startAhead begins to write zeros behind what is claimed.
func (l *lane) startAhead() {
	a := &l.ahead
	a.from = alignUp(l.claimed, vfs.BlockSize)
	a.to = min(a.from+min(zeroAhead, l.v.cfg.PreallocateBytes), l.v.cfg.segmentBytes(l.id))
	if a.to <= a.from {
		return
	}
	if a.done == nil {
		a.done = make(chan error, 1)
	}
	a.running = true
	path, from, to := l.seg.path, a.from, a.to
	l.v.bg.wg.Go(func() { a.done <- l.v.writeZeros(path, from, to) })
}

// joinAhead takes the result of writing zeros. Unless wait is set it does not wait
// for it. INVARIANT: nothing at or behind ahead.from is written while zeros are
// being written.
func (l *lane) joinAhead(wait bool) error {
	a := &l.ahead
	if !a.running {
		return nil
	}
	var err error
	if wait {
		err = <-a.done
	} else {
		select {
		case err = <-a.done:
		default:
			return nil
		}
	}
	a.running = false
	switch {
	case err == nil:
		l.claimed = a.to
		l.v.stats.zeros.Add(a.to - a.from)
	case isNoSpace(err): // room will find out, if it matters
	default:
		return l.v.fail(err)
	}
	return nil
}

// writeZeros fills [from, to) of a file and syncs it.
func (v *Volume) writeZeros(path string, from, to int64) error {
	f, err := v.cfg.FS.OpenReadWrite(path, pebbleWrite)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Preallocate(from, to-from); err != nil && !isUnsupported(err) {
		return err
	}
	vfs.SetDirect(f, true)
	zeros := vfs.AlignedBuffer(int(min(to-from, mib)))
	for off := from; off < to; off += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros[:min(int64(len(zeros)), to-off)], off); err != nil {
			return err
		}
	}
	return f.SyncData()
}
