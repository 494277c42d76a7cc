package peer

import (
	"encoding/binary"

	"ringfort/internal/errs"
	"ringfort/internal/wire"
	"ringfort/ring"
)

// DeviceState says how far a device has come. Both numbers only ever grow. A device
// that tells less than it told before has lost something, mostly because its disk was
// set back to an older state, and with it what it promised and acknowledged: its vote
// is worth nothing until it has been refilled.
type DeviceState struct {
	Generation uint64 // how often its volume has been opened
	Position   uint64 // how much of its log is durable, in frames
}

// Behind reports whether s is less than an earlier state.
func (s DeviceState) Behind(earlier DeviceState) bool {
	return s.Generation < earlier.Generation || s.Position < earlier.Position
}

// Max returns the larger of each number.
func (s DeviceState) Max(o DeviceState) DeviceState {
	return DeviceState{max(s.Generation, o.Generation), max(s.Position, o.Position)}
}

// DeviceStates is what a Node has besides its calls if its devices tell how far they
// have come. A Server of such a node lets every answer of a device carry it.
type DeviceStates interface {
	// DeviceState returns where a device is now; ok is false if the node does not
	// have the device, or it is out of service. It does not wait.
	DeviceState(d ring.DeviceID) (s DeviceState, ok bool)
}

// DeviceWatcher remembers what devices of other nodes have told.
type DeviceWatcher interface {
	// Known returns the most that a device has told so far. It is asked before a
	// request is sent.
	Known(d ring.DeviceID) DeviceState
	// Told passes on what an answer said. before is what Known had returned for its
	// request: the device must not be behind that. It may be behind what Known
	// returns by now, for answers overtake one another.
	Told(d ring.DeviceID, before, now DeviceState)
}

// maxDeviceTrailer is the most that a device's state takes in an answer.
const maxDeviceTrailer = 2*binary.MaxVarintLen64 + 1

// appendDeviceState ends an answer's payload with its device's state. It stands last
// because it is known last: a write's answer is to count the write.
func appendDeviceState(b []byte, s DeviceState) []byte {
	n := len(b)
	b = binary.AppendUvarint(b, s.Generation)
	b = binary.AppendUvarint(b, s.Position)
	return append(b, byte(len(b)-n))
}

// cutDeviceState takes a device's state off the end of an answer's payload.
func cutDeviceState(p []byte) (rest []byte, s DeviceState, err error) {
	const op = "peer.cutDeviceState"
	if len(p) == 0 || int(p[len(p)-1]) >= len(p) {
		return nil, s, errs.New(op, errs.Corrupt, "an answer of %d bytes without the device's state that it announces", len(p))
	}
	at := len(p) - 1 - int(p[len(p)-1])
	r := wire.NewReader(p[at : len(p)-1])
	s = DeviceState{r.Uvarint(), r.Uvarint()}
	if err := r.Done(); err != nil {
		return nil, s, badPayload(op, err)
	}
	return p[:at:at], s, nil
}

// asked is what a client knows of a request when its answer comes.
type asked struct {
	kind   messageType
	device ring.DeviceID // if the kind has a target
	known  DeviceState   // of the device, before the request was sent
}

// told passes a device's state on to the client's watcher.
func (c *Client) told(q *asked, s DeviceState) {
	if c.cfg.Devices != nil && hasTarget(q.kind) {
		c.cfg.Devices.Told(q.device, q.known, s)
	}
}
