package register

import (
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/cespare/xxhash/v2"

	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/timestamp"
	"ringfort/internal/volume"
)

var (
	simSeeds = flag.Int("register.seeds", 400, "how many seeds TestSimulation tries")
	simSeed  = flag.Uint64("register.seed", 0, "the one seed that TestSimulation tries, 0: many")
)

// TestSimulation lets clients work on one key of devices that lose messages, stop
// and crash, and asks whether what they were told is linearizable. Proposers and
// acceptors are the real ones; the disk is a map that knows what was synced, the
// network and the clocks are below.
//
// Time is synctest's, and every delay is a function of the seed and of what is
// delayed, so that a seed repeats.
func TestSimulation(t *testing.T) {
	if *simSeed != 0 {
		s := runSim(t, *simSeed, simOptions{})
		t.Log(s.describe())
		return
	}
	n := *simSeeds
	if testing.Short() {
		n = min(n, 100)
	}
	var total simCounts
	var mu sync.Mutex
	eachSeed(t, n, func(t *testing.T, seed uint64) bool {
		s := runSim(t, seed, simOptions{})
		mu.Lock()
		defer mu.Unlock()
		total.add(&s.counts)
		if s.failure != "" {
			t.Errorf("seed %d: %s\nrepeat with: go test ./internal/register -run TestSimulation -register.seed=%d\n%s",
				seed, s.failure, seed, s.describe())
		}
		return s.failure == ""
	})
	t.Logf("%+v", total)
	if n >= 100 && !t.Failed() {
		total.wantAll(t)
	}
}

// A seed that failed is of use only if it fails again.
func TestSimulationRepeats(t *testing.T) {
	for seed := uint64(1000); seed < 1030; seed++ {
		a, b := runSim(t, seed, simOptions{}), runSim(t, seed, simOptions{})
		if a.describe() != b.describe() {
			t.Errorf("seed %d: two runs differ:\n%s\n\n%s", seed, a.describe(), b.describe())
		}
	}
}

// eachSeed calls fn for seeds from 1 to n on all cores until it answers false.
func eachSeed(t *testing.T, n int, fn func(t *testing.T, seed uint64) bool) {
	seeds := make(chan uint64, n)
	for i := range n {
		seeds <- uint64(i) + 1
	}
	close(seeds)
	t.Run("seeds", func(t *testing.T) {
		for w := range runtime.GOMAXPROCS(0) {
			t.Run(fmt.Sprint(w), func(t *testing.T) {
				t.Parallel()
				for seed := range seeds {
					if !fn(t, seed) {
						for range seeds {
						}
					}
				}
			})
		}
	})
}

// simOptions break things on purpose.
type simOptions struct {
	// wrap stands between a client and a device.
	wrap func(c *simClient, i int, r Replica) Replica
	// quorum changes a client's quorum.
	quorum func(q *Quorum)
	// load changes what a device finds on its disk.
	load func(d *simDevice, s *State)
	// commit changes what a device stores.
	commit func(d *simDevice, c *change)
	// crash does something to a device's disk while it is down.
	crash func(d *simDevice)
	// trustAbsence has deletes believe what Highest says of absence.
	trustAbsence bool
	// ops are the kinds of operations to choose from; nil: as the seed wants it.
	ops []simOp
	// noMonitors leaves it to the history to tell what is wrong.
	noMonitors bool
}

// simCounts tell whether the interesting things happen at all.
type simCounts struct {
	Runs, Ops, Unknown, Failed, Refused, Crashes, Swept, Alive, Chosen, Bare, Given int
}

func (c *simCounts) add(o *simCounts) {
	c.Runs += o.Runs
	c.Ops += o.Ops
	c.Unknown += o.Unknown
	c.Failed += o.Failed
	c.Refused += o.Refused
	c.Crashes += o.Crashes
	c.Swept += o.Swept
	c.Alive += o.Alive
	c.Chosen += o.Chosen
	c.Bare += o.Bare
	c.Given += o.Given
}

func (c *simCounts) wantAll(t *testing.T) {
	for what, n := range map[string]int{
		"unknown outcomes": c.Unknown, "failures": c.Failed, "refusals": c.Refused, "crashes": c.Crashes,
		"swept groups": c.Swept, "suspects that lived": c.Alive, "bare records": c.Bare, "given up groups": c.Given,
	} {
		if n < c.Runs/20 {
			t.Errorf("only %d %s in %d runs: the simulation has become too tame", n, what, c.Runs)
		}
	}
}

// sim is one run.
type sim struct {
	seed    uint64
	opt     simOptions
	rng     *rand.Rand // for the set-up alone
	start   time.Time
	devices []*simDevice
	copies  int
	lossy   float64 // share of messages lost
	slow    float64 // share of messages that take long
	twice   float64 // share of messages that arrive twice
	ops     []simOp
	think   time.Duration // a client's longest pause between two operations
	key     keyhash.Hash

	mu       sync.Mutex // guards what follows
	history  []porcupine.Operation
	log      []string
	counts   simCounts
	votes    map[timestamp.T]map[int]bool
	records  map[timestamp.T]*Record
	chosen   map[timestamp.T]bool
	top      timestamp.T // newest chosen ballot
	dead     map[timestamp.T]bool
	suspects []timestamp.T
	groups   []timestamp.T
	failure  string
}

func (s *sim) fail(format string, args ...any) {
	if s.failure == "" {
		s.failure = fmt.Sprintf(format, args...)
	}
}

// dice is a random number that depends on what it is for, and not on when.
func (s *sim) dice(what ...uint64) *rand.Rand {
	h := xxhash.New()
	var b [8]byte
	for _, w := range what {
		binary.BigEndian.PutUint64(b[:], w)
		h.Write(b[:])
	}
	return rand.New(rand.NewPCG(s.seed, h.Sum64()))
}

func (s *sim) describe() string {
	return fmt.Sprintf("r=%d copies=%d lossy=%.2f slow=%.2f twice=%.2f\n%s", len(s.devices), s.copies, s.lossy, s.slow, s.twice, strings.Join(s.log, "\n"))
}

func (s *sim) now() time.Duration { return time.Since(s.start) }

func runSim(t *testing.T, seed uint64, opt simOptions) *sim {
	s := &sim{
		seed: seed, opt: opt, rng: rand.New(rand.NewPCG(seed, 7)),
		votes: map[timestamp.T]map[int]bool{}, records: map[timestamp.T]*Record{},
		chosen: map[timestamp.T]bool{}, dead: map[timestamp.T]bool{},
	}
	synctest.Test(t, func(*testing.T) { s.run() })
	if s.failure == "" {
		if r := porcupine.CheckOperationsTimeout(simModel, s.history, 20*time.Second); r == porcupine.Illegal {
			s.failure = "the history is not linearizable"
		} else if r == porcupine.Unknown {
			s.failure = "the history is too long to be checked"
		}
	}
	return s
}

func (s *sim) run() {
	s.counts.Runs++
	s.start = time.Now()
	r := 1 + s.rng.IntN(5)
	if s.rng.IntN(3) == 0 {
		r = 3
	}
	s.copies = r
	if s.rng.IntN(2) == 0 {
		s.copies = r/2 + 1
	}
	pick := func(of ...float64) float64 { return of[s.rng.IntN(len(of))] }
	s.lossy, s.slow, s.twice = pick(0, 0.02, 0.1, 0.25), pick(0, 0.05, 0.3), pick(0, 0.1)
	for op := range simOpsCount { // a few kinds of operations at a time meet each other more often
		if s.rng.IntN(2) == 0 {
			s.ops = append(s.ops, simOp(op))
		}
	}
	s.ops = append(s.ops, opRead, simOp(s.rng.IntN(simOpsCount)))
	if s.opt.ops != nil {
		s.ops = s.opt.ops
	}
	s.think = time.Duration(pick(2e6, 20e6, 60e6))
	for i := range r {
		s.devices = append(s.devices, newSimDevice(s, i))
	}
	var wg sync.WaitGroup
	clients := 2 + s.rng.IntN(4)
	for i := range clients {
		c := newSimClient(s, i)
		wg.Go(c.run)
	}
	sweeper := newSimClient(s, clients)
	wg.Go(sweeper.sweeps)
	for i := range s.rng.IntN(12) {
		wg.Go(func() { s.disturb(i) })
	}
	wg.Wait()
	// Then all is well for a while, and what is there must be found.
	for _, d := range s.devices {
		d.restart()
	}
	s.mu.Lock()
	s.lossy, s.slow = 0, 0
	s.mu.Unlock()
	time.Sleep(time.Minute)
	last := newSimClient(s, clients+1)
	for range 2 {
		last.once(opRead, time.Minute)
	}
	time.Sleep(time.Minute) // until the last message has arrived: time ends here
}

// disturb stops or crashes one device once.
func (s *sim) disturb(n int) {
	rng := s.dice('c', uint64(n))
	time.Sleep(time.Duration(rng.Int64N(int64(8 * s.think))))
	d := s.devices[rng.IntN(len(s.devices))]
	pause := time.Duration(rng.Int64N(int64(4 * s.think)))
	switch rng.IntN(3) {
	case 0:
		d.silence(pause)
	default:
		d.crash(rng)
		time.Sleep(pause)
		d.restart()
	}
}

// simDevice is a device: an acceptor over a disk that outlives it.
type simDevice struct {
	s *sim
	i int

	mu       sync.Mutex // guards what follows; never held while waiting
	acceptor *Acceptor  // nil while it is down
	life     int
	deafTo   time.Time
	commits  uint64
	queue    []*simWrite // not synced yet, in order

	state []byte // what is on the disk: one key's entries
	data  []byte
	note  []byte
}

type simWrite struct {
	apply func()
	done  bool
}

func newSimDevice(s *sim, i int) *simDevice {
	d := &simDevice{s: s, i: i}
	d.restart()
	return d
}

func (d *simDevice) restart() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.acceptor == nil {
		d.life++
		d.acceptor = newAcceptor(AcceptorConfig{}, &simDisk{d, d.life})
	}
}

func (d *simDevice) silence(for_ time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.deafTo = time.Now().Add(for_)
}

// crash ends the device's life. Of what was being written, a part may have come
// to the disk.
func (d *simDevice) crash(rng *rand.Rand) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.acceptor == nil {
		return
	}
	d.acceptor = nil
	d.life++
	for range rng.IntN(len(d.queue) + 1) {
		d.sync(d.queue[0])
	}
	d.queue = nil
	if d.s.opt.crash != nil {
		d.s.opt.crash(d)
	}
	d.s.mu.Lock()
	d.s.counts.Crashes++
	d.s.mu.Unlock()
}

// sync makes what is queued up to w durable.
func (d *simDevice) sync(w *simWrite) {
	for !w.done {
		first := d.queue[0]
		d.queue = d.queue[1:]
		first.done = true
		first.apply()
	}
}

// simDisk is the store of one life of a device.
type simDisk struct {
	d    *simDevice
	life int
}

var errCrashed = errs.New("sim", errs.Unavailable, "the device has crashed")

// enter locks the device for one life's access to the disk.
func (k *simDisk) enter() (*simDevice, error) {
	k.d.mu.Lock()
	if k.d.life != k.life {
		k.d.mu.Unlock()
		return nil, errCrashed
	}
	return k.d, nil
}

func (k *simDisk) state(keyhash.Hash) (volume.Value, bool, error) {
	d, err := k.enter()
	if err != nil {
		return volume.Value{}, false, err
	}
	defer d.mu.Unlock()
	head := d.state
	if d.s.opt.load != nil && head != nil {
		s, err := DecodeState(head)
		if err != nil {
			return volume.Value{}, false, err
		}
		d.s.opt.load(d, &s)
		head = s.AppendTo(nil)
	}
	return volume.Value{Head: head, TailLen: len(d.data)}, head != nil, nil
}

func (k *simDisk) note(keyhash.Hash) (*heldNote, error) {
	d, err := k.enter()
	if err != nil {
		return nil, err
	}
	defer d.mu.Unlock()
	if d.note == nil {
		return nil, nil
	}
	n, err := DecodeNote(d.note)
	if err != nil {
		return nil, err
	}
	return &heldNote{Note: n}, nil
}

func (k *simDisk) data(_ volume.Value, n int) ([]byte, error) {
	d, err := k.enter()
	if err != nil {
		return nil, err
	}
	defer d.mu.Unlock()
	if n != len(d.data) {
		return nil, errs.New("sim", errs.Corrupt, "%d bytes wanted, %d there", n, len(d.data))
	}
	return slices.Clone(d.data), nil
}

// write queues a change and returns after it was synced.
func (k *simDisk) write(apply func(d *simDevice)) error {
	d, err := k.enter()
	if err != nil {
		return err
	}
	w := &simWrite{apply: func() { apply(d) }}
	d.queue = append(d.queue, w)
	d.commits++
	rng := d.s.dice('d', uint64(d.i), d.commits)
	d.mu.Unlock()
	wait := 20*time.Microsecond + time.Duration(rng.Int64N(int64(time.Millisecond)))
	if rng.IntN(20) == 0 {
		wait *= 50
	}
	time.Sleep(wait)
	if d, err = k.enter(); err != nil {
		return err
	}
	defer d.mu.Unlock()
	d.sync(w)
	return nil
}

func (k *simDisk) commit(c *change) error {
	if f := k.d.s.opt.commit; f != nil {
		f(k.d, c)
	}
	return k.write(func(d *simDevice) {
		d.state, d.data = slices.Clone(c.state), slices.Clone(c.data)
		switch {
		case c.given != nil:
			d.note = nil
			d.s.given(c.given)
		case c.note != nil:
			d.note = c.note.AppendTo(nil)
		}
		d.s.stored(d)
	})
}

func (k *simDisk) forget(_ keyhash.Hash, n *heldNote) {
	go k.write(func(d *simDevice) {
		d.note = nil
		d.s.given(&n.Note)
		d.s.stored(d)
	})
}

// given is what the object server's OnSettle does: drops are deleted, suspects
// are left to the sweeper.
func (s *sim) given(n *Note) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range n.Drops {
		s.dead[g] = true
		s.counts.Given++
	}
	s.suspects = append(s.suspects, n.Suspects...)
}

// stored looks at a device's disk after it has changed, and checks what must hold
// whatever happens.
func (s *sim) stored(d *simDevice) {
	if s.opt.noMonitors {
		return
	}
	st, err := DecodeState(d.state)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.fail("device %d: %v", d.i, err)
		return
	}
	r := st.Record
	if r == nil {
		return
	}
	b := r.Ballot
	if old := s.records[b]; old != nil && (old.TS != r.TS || string(old.Value) != string(r.Value) || old.Group != r.Group) {
		s.fail("two records under the ballot %v", b)
	}
	s.records[b] = r
	if s.votes[b] == nil {
		s.votes[b] = map[int]bool{}
	}
	if st.Held {
		s.votes[b][d.i] = true
	} else {
		s.counts.Bare++
	}
	if !s.chosen[b] && len(s.votes[b]) > len(s.devices)/2 {
		s.chosen[b] = true
		s.counts.Chosen++
		s.top = timestamp.Max(s.top, b)
	}
	switch {
	case !st.Held && !s.chosen[b]:
		s.fail("device %d has a bare record that was not chosen: %v", d.i, b)
	case d.note == nil && !s.chosen[b]:
		s.fail("device %d takes a record for chosen that was not: %v", d.i, b)
	case s.chosen[s.top] && s.dead[s.records[s.top].Group]:
		s.fail("the chosen record %v names the group %v, whose blobs were deleted", s.top, s.records[s.top].Group)
	}
}
