package fragfile

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"ringfort/internal/errs"
)

// BlockError is a check block whose data does not match its checksum. It stands
// in the chain of an error of kind Corrupt, and names the range to repair.
type BlockError struct {
	Name  Name
	Block int64 // from 0, over the whole fragment
	Off   int64 // of the block in the fragment's data
	Len   int64
}

// Error says which block it is.
func (e *BlockError) Error() string {
	return fmt.Sprintf("block %d (data %d+%d) of fragment %v does not match its checksum", e.Block, e.Off, e.Len, e.Name)
}

// diskErr gives a file system's error its kind: Full for a disk without room,
// NotFound for a missing file, and Unavailable for everything else, which is
// the device's failure. The cause stays in the chain, for the caller that
// decides whether the device is to be taken out of service.
func diskErr(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return errs.Wrap(op, errs.Full, err)
	case errors.Is(err, fs.ErrNotExist):
		return errs.Wrap(op, errs.NotFound, err)
	}
	return errs.Wrap(op, errs.Unavailable, err)
}
