package volume

import (
	"context"

	"ringfort/internal/vfs"
)

// Rebuild makes the index of a closed volume again from its log alone: the entries
// of all Kept spaces, and nothing of the others, which are marked as lost. It is for a
// device whose index is damaged or gone. The old index stays until the new one is
// complete; if Rebuild is cut short, run it again. All Kept spaces must be named.
//
// What of the log cannot be read is stored as findings, as Open does.
func Rebuild(ctx context.Context, cfg Config) error {
	cfg.Existing = true
	v, _, err := prepare(cfg)
	if err != nil {
		return err
	}
	defer v.releaseAll()
	fs := v.cfg.FS
	for _, d := range []string{"index.new", "index.old"} {
		if err := fs.RemoveAll(v.path(d)); err != nil {
			return ioError("volume.Rebuild", err)
		}
	}
	if err := v.openIndex("index.new", false); err != nil {
		return err
	}
	err = v.rebuild(ctx)
	if err2 := v.db.Close(); err == nil {
		err = ioError("volume.Rebuild", err2)
	}
	if err != nil {
		return err
	}
	// From here on a crash leaves a complete index under one of the two names, and
	// never an incomplete one as "index".
	return ioError("volume.Rebuild", v.swapIndex())
}

func (v *Volume) swapIndex() error {
	fs := v.cfg.FS
	if err := fs.Rename(v.path("index"), v.path("index.old")); err != nil && !vfs.IsNotExist(err) {
		return err
	}
	if err := vfs.SyncDir(fs, v.cfg.Dir); err != nil {
		return err
	}
	if err := fs.Rename(v.path("index.new"), v.path("index")); err != nil {
		return err
	}
	if err := vfs.SyncDir(fs, v.cfg.Dir); err != nil {
		return err
	}
	return fs.RemoveAll(v.path("index.old"))
}

func (v *Volume) rebuild(ctx context.Context) error {
	if err := v.listSegments(); err != nil {
		return err
	}
	var rs [lanes]*replay
	for l := range Lane(lanes) {
		rs[l] = &replay{v: v, l: v.lanes[l], rebuild: true}
	}
	if err := replayAll(ctx, rs); err != nil {
		return err
	}
	if err := v.markLost(); err != nil {
		return err
	}
	return ioError("volume.Rebuild", v.db.Flush())
}
