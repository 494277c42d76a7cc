package container

import (
	"context"
	"sync"
	"time"

	"ringfort/internal/catalog"
	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/register"
)

// ReapEvent says that the rows of a dead incarnation were removed, or that Run
// failed to look (Key and Incarnation may then be zero) and will look again.
type ReapEvent struct {
	Key         keyhash.Hash
	Incarnation catalog.Incarnation
	Err         error
}

// suspects are containers whose register was settled lately, so that rows of an
// incarnation may have become dead.
type suspects struct {
	mu   sync.Mutex
	keys map[keyhash.Hash]struct{}
}

// maxSuspects bounds them. Others are found when all are looked at.
const maxSuspects = 4096

func (s *suspects) add(key keyhash.Hash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys == nil {
		s.keys = make(map[keyhash.Hash]struct{})
	}
	if len(s.keys) < maxSuspects {
		s.keys[key] = struct{}{}
	}
}

func (s *suspects) take() map[keyhash.Hash]struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys := s.keys
	s.keys = nil
	return keys
}

// Run removes the rows of dead incarnations until ctx ends, whose cause it
// returns. It looks at everything at its start and then from time to time.
func (s *Server) Run(ctx context.Context) error {
	soon := time.NewTicker(s.cfg.ReapSuspectsEvery)
	defer soon.Stop()
	all := time.NewTicker(s.cfg.ReapAllEvery)
	defer all.Stop()
	s.ReapAll(ctx)
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-soon.C:
			for key := range s.suspects.take() {
				s.reapKey(ctx, key)
			}
		case <-all.C:
			s.ReapAll(ctx)
		}
	}
}

// reapStep is how many incarnations are looked at with one iterator, which keeps
// the files that it saw from being removed.
const reapStep = 256

// ReapAll looks at every incarnation that has rows on this device and removes the
// dead ones.
func (s *Server) ReapAll(ctx context.Context) {
	var start keyhash.Hash
	for ctx.Err() == nil {
		var keys []keyhash.Hash
		err := s.store.Incarnations(start, func(key keyhash.Hash, _ catalog.Incarnation) bool {
			if n := len(keys); n == 0 || keys[n-1] != key {
				keys = append(keys, key)
			}
			return len(keys) < reapStep
		})
		if err != nil {
			s.reaped(ReapEvent{Err: err})
			return
		}
		for _, key := range keys {
			s.reapKey(ctx, key)
		}
		if len(keys) < reapStep {
			return
		}
		start = keys[len(keys)-1]
	}
}

// reapKey removes the dead incarnations of one container.
func (s *Server) reapKey(ctx context.Context, key keyhash.Hash) {
	incs, err := s.store.IncarnationsOf(key, reapStep)
	if err != nil {
		s.reaped(ReapEvent{Key: key, Err: err})
		return
	}
	state, err := s.service.Read(ctx, key, false)
	for _, inc := range incs {
		if ctx.Err() != nil {
			return
		}
		// Most incarnations live: looked at without holding up their rows.
		dead := false
		if err == nil {
			dead, err = ended(state, inc)
		}
		if err == nil && dead {
			dead, err = s.service.DropIncarnation(ctx, key, inc, func(st register.State) (bool, error) { return ended(st, inc) })
		}
		if err != nil || dead {
			s.reaped(ReapEvent{Key: key, Incarnation: inc, Err: err})
		}
	}
}

func (s *Server) reaped(e ReapEvent) {
	if s.cfg.OnReap != nil && !errs.Is(e.Err, errs.Canceled) {
		s.cfg.OnReap(e)
	}
}

// ended reports whether an incarnation can never live again: the register says
// that the container is deleted or another one, and is known chosen. A record that
// is not may yet lose to one that says Live, and then the rows would be missed.
func ended(st register.State, inc catalog.Incarnation) (bool, error) {
	if st.Record == nil || !st.Committed {
		return false, nil
	}
	if st.Record.Tombstone {
		return true, nil
	}
	c, err := catalog.DecodeContainer(st.Record.Value)
	if err != nil {
		return false, err
	}
	return c.State == catalog.Deleted || c.Incarnation != inc, nil
}
