package node

import (
	"log/slog"
	"sync"
	"sync/atomic"

	"ringfort/internal/peer"
	"ringfort/ring"
)

// deviceMemory remembers how far the devices of other nodes have come, by what their
// answers tell, and notices one that has gone back: its disk was restored from an
// older copy, or emptied. It is kept in memory, so a node notices what happens while
// it runs; a device that goes back has mostly more than one peer.
type deviceMemory struct {
	log    *slog.Logger
	behind atomic.Int64 // devices that have gone back, each opening of a device once

	mu    sync.RWMutex // guards the rest
	known map[ring.DeviceID]peer.DeviceState
	told  map[ring.DeviceID]uint64 // generation in which going back was reported last, and 1
}

var _ peer.DeviceWatcher = (*deviceMemory)(nil)

func newDeviceMemory(log *slog.Logger) *deviceMemory {
	return &deviceMemory{log: log, known: map[ring.DeviceID]peer.DeviceState{}, told: map[ring.DeviceID]uint64{}}
}

// Known implements peer.DeviceWatcher.
func (m *deviceMemory) Known(d ring.DeviceID) peer.DeviceState {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.known[d]
}

// Told implements peer.DeviceWatcher.
func (m *deviceMemory) Told(d ring.DeviceID, before, now peer.DeviceState) {
	if known := m.Known(d); known.Max(now) == known && !now.Behind(before) {
		return // mostly by far: answers overtake one another
	}
	m.mu.Lock()
	known := m.known[d]
	m.known[d] = known.Max(now) // what it had is not forgotten because it forgot it
	again := m.told[d] == now.Generation+1
	if now.Behind(before) {
		m.told[d] = now.Generation + 1
	}
	m.mu.Unlock()
	if now.Behind(before) && !again {
		m.behind.Add(1)
		m.log.Error("a device has gone back: it has lost what it promised and acknowledged since, and must not serve until it is refilled",
			"device", d, "generation", now.Generation, "position", now.Position,
			"had_generation", before.Generation, "had_position", before.Position)
	}
}

// DeviceState implements peer.DeviceStates.
func (l *Local) DeviceState(id ring.DeviceID) (peer.DeviceState, bool) {
	d := l.devices[id]
	if d == nil {
		return peer.DeviceState{}, false
	}
	d.mu.Lock()
	s, why := d.running, d.why
	d.mu.Unlock()
	if s == nil || why != "" {
		return peer.DeviceState{}, false
	}
	_, generation, durable := s.volume.Identity()
	return peer.DeviceState{Generation: generation, Position: durable}, true
}
