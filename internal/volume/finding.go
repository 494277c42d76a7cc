package volume

import (
	"encoding/json"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"ringfort/internal/errs"
)

// FindingKind is a sort of damage.
type FindingKind string

const (
	// RangeLost is a part of the log that was durable and cannot be read any more:
	// what was committed there is lost unless the index had it already.
	RangeLost FindingKind = "range lost"
	// EntryCorrupt is an entry whose bytes fail their checksum.
	EntryCorrupt FindingKind = "entry corrupt"
	// FrameCorrupt is a frame of a sealed segment that fails its checksums; what of
	// it lives is known to the index, but for the entries reported on their own.
	FrameCorrupt FindingKind = "frame corrupt"
	// SegmentMissing is a file of the log that is not there.
	SegmentMissing FindingKind = "segment missing"
	// SegmentHeader is a segment whose first block is damaged; its frames can be read.
	SegmentHeader FindingKind = "segment header"
	// IndexCorrupt is a damaged table of the index.
	IndexCorrupt FindingKind = "index corrupt"
)

// Finding is one piece of damage. From and To are offsets in the segment's file.
type Finding struct {
	Kind    FindingKind `json:"kind"`
	Lane    Lane        `json:"lane"`
	Segment SegmentID   `json:"segment,omitempty"`
	From    int64       `json:"from,omitempty"`
	To      int64       `json:"to,omitempty"`
	// FirstSeq and LastSeq are the frames concerned, when known.
	FirstSeq uint64 `json:"first_seq,omitempty"`
	LastSeq  uint64 `json:"last_seq,omitempty"`
	// Space and Key are the entry's, when one is concerned.
	Space SpaceID `json:"space,omitempty"`
	Key   []byte  `json:"key,omitempty"`
	Path  string  `json:"path,omitempty"`
	What  string  `json:"what,omitempty"`
}

// String describes the finding for people.
func (f Finding) String() string {
	return fmt.Sprintf("%s: %s segment %d [%d, %d) frames %d-%d %s %s",
		f.Kind, f.Lane, f.Segment, f.From, f.To, f.FirstSeq, f.LastSeq, f.Path, f.What)
}

// findings are those of this opening and those stored before.
type findings struct {
	mu     sync.Mutex // guards what follows; taken last
	next   uint64     // number of the next stored finding
	stored []Finding
	count  int64 // reported since the volume was opened
}

// maxStoredFindings bounds what the index keeps; a rotting disk has more than
// anyone reads.
const maxStoredFindings = 1000

// report tells of damage. It does not touch the index, since pebble calls it too.
func (v *Volume) report(f Finding) {
	v.finds.mu.Lock()
	v.finds.count++
	v.finds.mu.Unlock()
	v.cfg.Logger.Error("corruption", "volume", v.cfg.Dir, "finding", f.String())
	if v.cfg.OnFinding != nil {
		v.cfg.OnFinding(f)
	}
}

// storeFinding reports a finding and adds it to pb, so that it survives restarts.
func (v *Volume) storeFinding(pb *pebble.Batch, f Finding) error {
	v.report(f)
	v.finds.mu.Lock()
	defer v.finds.mu.Unlock()
	if len(v.finds.stored) >= maxStoredFindings {
		return nil
	}
	b, err := json.Marshal(f)
	if err != nil {
		return errs.Wrap("volume.finding", errs.Other, err)
	}
	n := v.finds.next
	v.finds.next++
	v.finds.stored = append(v.finds.stored, f)
	return pb.Set(findingKey(n), b, nil)
}

// Findings returns what recovery has ever found lost in this volume, oldest
// first, until ClearFindings.
func (v *Volume) Findings() []Finding {
	v.finds.mu.Lock()
	defer v.finds.mu.Unlock()
	return append([]Finding(nil), v.finds.stored...)
}

// ClearFindings forgets the stored findings, once what was lost has been healed
// from elsewhere. It is durable when it returns.
func (v *Volume) ClearFindings() error {
	v.applyMu.Lock()
	err := v.db.DeleteRange(findingKey(0), []byte{byte(ownSpace), 'f' + 1}, pebble.NoSync)
	v.finds.mu.Lock()
	v.finds.stored = nil
	v.finds.mu.Unlock()
	v.applyMu.Unlock()
	if err == nil {
		err = v.db.Flush()
	}
	return ioError("volume.ClearFindings", err)
}

// loadFindings reads the stored findings.
func (v *Volume) loadFindings() error {
	return v.eachOwn('f', func(key, val []byte) error {
		var f Finding
		if err := json.Unmarshal(val, &f); err != nil {
			return errs.Wrap("volume.finding", errs.Corrupt, err)
		}
		v.finds.stored = append(v.finds.stored, f)
		v.finds.next = beUint64(key[2:]) + 1
		return nil
	})
}

// ioError wraps what the file system or the index answered: Unavailable, unless
// the error already has a kind.
func ioError(op string, err error) error {
	if errs.KindOf(err) != errs.Other {
		return errs.Wrap(op, errs.Other, err)
	}
	return errs.Wrap(op, errs.Unavailable, err)
}
