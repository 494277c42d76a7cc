package volume

import (
	"github.com/cockroachdb/pebble/v2"

	"ringfort/internal/errs"
)

// The spaces that a volume has are an entry of its own space, in the log as well as
// in the index: for each, in the order of their numbers, space(1) and flags(1), of
// which 1 says that it is Kept. What is Kept decides what compaction and Rebuild
// leave out, so it never changes, and holds for spaces that an opener does not name.

const spaceKept = 1 << 0

var spacesKey = []byte{'d'}

// lostKey is the mark that Rebuild sets on a space that it could not fill. It is in
// the index alone: another Rebuild sets it again.
func lostKey(id SpaceID) []byte { return []byte{byte(ownSpace), 'l', byte(id)} }

// encodeSpaces returns the entry for all spaces that are named or stored.
func (v *Volume) encodeSpaces() []byte {
	var b []byte
	for id := range v.known {
		if !v.known[id] && !v.stored[id] {
			continue
		}
		flags := byte(0)
		if v.kept[id] {
			flags = spaceKept
		}
		b = append(b, byte(id), flags)
	}
	return b
}

// decodeSpaces calls f for each space of the entry.
func decodeSpaces(b []byte, f func(id SpaceID, kept bool) error) error {
	if len(b)%2 != 0 {
		return errs.New("volume.Open", errs.Corrupt, "the list of spaces has %d bytes", len(b))
	}
	for i := 0; i < len(b); i += 2 {
		if b[i] == byte(ownSpace) || i > 0 && b[i] <= b[i-2] {
			return errs.New("volume.Open", errs.Corrupt, "the list of spaces is out of order")
		}
		if b[i+1]&^spaceKept != 0 {
			return newer("flags %#x of space %d", b[i+1], b[i])
		}
		if err := f(SpaceID(b[i]), b[i+1]&spaceKept != 0); err != nil {
			return err
		}
	}
	return nil
}

// adoptSpaces compares the stored spaces with those that the opener names. Of those
// that it does not name, it takes over what is Kept: compaction must not lose them.
func (v *Volume) adoptSpaces(b []byte) error {
	return decodeSpaces(b, func(id SpaceID, kept bool) error {
		if v.known[id] && v.kept[id] != kept {
			return errs.New("volume.Open", errs.Invalid,
				"%s: space %d was made with Kept %v, which cannot change, and is now said to be Kept %v", v.cfg.Dir, id, kept, v.kept[id])
		}
		v.stored[id], v.kept[id] = true, kept
		return nil
	})
}

// loadSpaces reads what the index says of spaces.
func (v *Volume) loadSpaces() error {
	e, found, err := v.entry(ownSpace, spacesKey)
	if err == nil && found {
		err = v.adoptSpaces(e.head)
	}
	if err != nil {
		return err
	}
	return v.eachOwn('l', func(key, _ []byte) error {
		if len(key) != 3 {
			return errs.New("volume.Open", errs.Corrupt, "a mark of a lost space: %x", key)
		}
		v.lost[key[2]] = true
		return nil
	})
}

// markLost marks the spaces that Rebuild cannot fill from the log. It refuses to go
// on without the name of one that it could have filled.
func (v *Volume) markLost() error {
	for id := range v.known {
		switch {
		case SpaceID(id) == ownSpace:
		case v.stored[id] && !v.known[id] && v.kept[id]:
			return errs.New("volume.Rebuild", errs.Invalid, "%s: space %d can be rebuilt and was not named", v.cfg.Dir, id)
		case (v.stored[id] || v.known[id]) && !v.kept[id]:
			if err := v.db.Set(lostKey(SpaceID(id)), nil, pebble.NoSync); err != nil {
				return err
			}
		}
	}
	return nil
}

// Lost reports whether a Rebuild has emptied a space: what was in it is not in the
// log. Whoever uses the space must not take the absence of an entry for the answer.
func (v *Volume) Lost(space SpaceID) bool { return v.lost[space] }
