package register

import (
	"context"

	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/volume"
)

// store is what an acceptor needs of its device. It is narrow so that the
// protocol can be simulated over a map; volumeStore is the one that counts.
type store interface {
	// state returns a key's entry; found is false if there is none.
	state(key keyhash.Hash) (v volume.Value, found bool, err error)
	// note returns a key's note, nil if there is none.
	note(key keyhash.Hash) (*heldNote, error)
	// data returns the tail of a state, n bytes.
	data(v volume.Value, n int) ([]byte, error)
	// commit makes a change durable, all of it or nothing, before it returns.
	commit(c *change) error
	// forget removes a note and gives up what it lists, in the order of commits
	// but without waiting for the disk.
	forget(key keyhash.Hash, n *heldNote)
}

// heldNote is a note as the device has it.
type heldNote struct {
	Note
	ref volume.Ref
}

// change is what one call does to a key.
type change struct {
	key   keyhash.Hash
	state []byte
	data  []byte
	old   volume.Ref
	// oldNote is the note that the key had, nil if it had none.
	oldNote *heldNote
	// note is the key's note from now on, unless nil: then it stays as it is.
	note *Note
	// given is given up at once, and the key has no note from now on.
	given *Note
}

// volumeStore keeps keys in two spaces of a device's volume.
type volumeStore struct {
	cfg    *AcceptorConfig
	absent *absentKeys
}

func (s volumeStore) get(space volume.SpaceID, key keyhash.Hash) (volume.Value, bool, error) {
	v, err := s.cfg.Volume.Get(space, key[:])
	if errs.Is(err, errs.NotFound) {
		return v, false, nil
	}
	return v, err == nil, err
}

func (s volumeStore) state(key keyhash.Hash) (volume.Value, bool, error) {
	known, generation := s.absent.look(key)
	if known {
		return volume.Value{}, false, nil
	}
	v, found, err := s.get(s.cfg.States, key)
	if err == nil && !found {
		s.absent.note(key, generation)
	}
	return v, found, err
}

func (s volumeStore) note(key keyhash.Hash) (*heldNote, error) {
	v, found, err := s.get(s.cfg.Notes, key)
	if err != nil || !found {
		return nil, err
	}
	n, err := DecodeNote(v.Head)
	if err != nil {
		return nil, err
	}
	return &heldNote{n, v.Ref}, nil
}

func (s volumeStore) data(v volume.Value, n int) ([]byte, error) {
	return s.cfg.Volume.ReadTail(v, 0, n, make([]byte, 0, n))
}

func (s volumeStore) commit(c *change) error {
	b := s.cfg.Volume.NewBatch(volume.Meta)
	b.Put(s.cfg.States, c.key[:], c.state, c.data, c.old)
	switch {
	case c.given != nil:
		s.giveUp(b, c.key, c.given, c.oldNote)
	case c.note != nil:
		var old volume.Ref
		if c.oldNote != nil {
			old = c.oldNote.ref
		}
		b.Put(s.cfg.Notes, c.key[:], c.note.AppendTo(nil), nil, old)
	}
	defer s.absent.forget(c.key)
	// Not the caller's context: the outcome must be known before the key is unlocked.
	return s.cfg.Volume.Commit(context.Background(), b)
}

func (s volumeStore) forget(key keyhash.Hash, n *heldNote) {
	b := s.cfg.Volume.NewBatch(volume.Meta)
	s.giveUp(b, key, &n.Note, n)
	s.cfg.Volume.CommitLazy(b)
}

// giveUp gives up what n lists, and removes the key's note, if it has one. A note
// that was removed lazily may still be seen, and be removed again: its Ref is then
// an old one, which costs the volume's count of dead bytes a little accuracy.
func (s volumeStore) giveUp(b *volume.Batch, key keyhash.Hash, n *Note, old *heldNote) {
	if s.cfg.OnSettle != nil {
		s.cfg.OnSettle(b, key, n)
	}
	if old != nil {
		b.Delete(s.cfg.Notes, key[:], old.ref)
	}
}
