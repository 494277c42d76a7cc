package builder

import (
	"math/rand/v2"
	"time"

	"ringfort/internal/errs"
	"ringfort/ring"
	"ringfort/ring/internal/topology"
)

// Result tells what a rebalance did.
type Result struct {
	Epoch   ring.Epoch `json:"epoch"`   // of the ring now
	Changed bool       `json:"changed"` // the ring has a new epoch to publish
	First   bool       `json:"first"`   // the table was filled for the first time
	Moved   int64      `json:"moved"`   // replicas that now lie elsewhere
	// Least is how many replicas must move, in this rebalance and later ones, to
	// give every device what it should have.
	Least int64 `json:"least"`
	// Leftover is how many of them are still to move, because their partitions
	// have moved too recently or a replica of theirs just did.
	Leftover int64 `json:"leftover"`
	// Stranded is how many replicas still lie on devices removed or of weight 0.
	Stranded int64 `json:"stranded"`
	// Crowded is how many partitions still hold more replicas in some tier than
	// the tier should have.
	Crowded int64 `json:"crowded"`
	// Locked is how many partitions were kept from moving by MinPartHours.
	Locked int64 `json:"locked"`
}

// Settled reports whether another rebalance would have nothing to do.
func (r *Result) Settled() bool { return r.Leftover == 0 && r.Stranded == 0 && r.Crowded == 0 }

// Rebalance takes up all changes made since the last one: it computes what each
// device should hold and moves replicas towards that, by the rules in the package
// comment. now is noted as the time of the moves. The first one fills the table.
//
// Fewer devices with a weight than replicas are refused as Invalid, and change
// nothing. If nothing has to change the epoch stays.
func (b *Builder) Rebalance(now time.Time) (Result, error) {
	const op = "rebalance"
	live := 0
	for i := range b.devices {
		if b.devices[i].Weight > 0 {
			live++
		}
	}
	if live < b.replicas {
		return Result{}, errs.New(op, errs.Invalid,
			"%d devices with a weight cannot hold %d replicas: each replica of a partition needs a device of its own", live, b.replicas)
	}
	minute := now.Unix() / 60
	if minute < 1 || minute > 1<<32-1 {
		return Result{}, errs.New(op, errs.Invalid, "the time %v is out of range", now)
	}
	tree := b.tree()
	t := b.targets(tree)
	// The epoch is part of the seed, so that two rebalances draw differently.
	rnd := rand.New(rand.NewPCG(b.seed, uint64(b.epoch)+1))
	res := Result{First: b.table == nil}
	if res.First {
		b.table = firstPlacement(tree, t, b.replicas, 1<<b.power, rnd)
		b.movedAt = make([]uint32, 1<<b.power)
		b.dropEmpty(b.loads())
	} else {
		m := newMover(b, tree, t, rnd, uint32(minute))
		m.run()
		res.Moved, res.Least, res.Locked = m.moved, m.least, m.locked
		res.Leftover, res.Stranded, res.Crowded = m.remaining()
		b.dropEmpty(m.load)
	}
	if res.Changed = res.First || res.Moved > 0 || b.changed; res.Changed {
		b.epoch++
		b.changed = false
	}
	res.Epoch = b.epoch
	return res, nil
}

// targets computes what every tier should hold.
func (b *Builder) targets(tree *topology.Tree) *targets {
	load := b.loads()
	return newTargets(tree, func(d int32) float64 { return b.devices[d].Weight }, b.replicas, 1<<b.power, b.overload,
		topology.SumUp(tree, func(d int32) int64 { return load[d] }))
}

// dropEmpty forgets removed devices that hold nothing any more.
func (b *Builder) dropEmpty(load []int64) {
	to := make([]uint16, len(b.devices))
	kept := b.devices[:0]
	for i, m := range b.devices {
		to[i] = uint16(len(kept))
		if m.removed && load[i] == 0 {
			b.changed = true
			continue
		}
		kept = append(kept, m)
	}
	if len(kept) == len(b.devices) {
		return
	}
	b.devices = kept
	for i, d := range b.table {
		b.table[i] = to[d]
	}
}

// mover moves replicas of a filled table towards the targets. DESIGN.md explains
// the order of its passes.
type mover struct {
	tree     *topology.Tree
	t        *targets
	rand     *rand.Rand
	replicas int
	table    []uint16
	movedAt  []uint32
	now      uint32 // minutes since 1970
	lockSpan uint32 // minutes

	want, load []int64 // by device
	count      []int32 // by device and position: replicas held there
	must       []int32 // tiers above devices that every partition has to be in
	dead       []bool  // by device: weight 0, to be emptied
	anyDead    bool
	done       []uint8  // by partition: the position that this rebalance moved, plus 1; 0 for none
	origin     []uint16 // by partition that is done: the device that had the replica before

	// gained lists by device the places in the table that it got in this
	// rebalance. It may have passed them on since.
	gained [][]uint32

	// count of the replicas of one row by tier, set by stand, and the tiers that
	// are counted, each as often as it counts.
	inRow []int32
	stood []int32

	nodes  []int32 // all node tiers
	short  []int32 // node tiers below which some device has fewer than it should
	missed []int64 // by tier: how many replicas its devices have too few

	moved, least, locked int64
}

func newMover(b *Builder, tree *topology.Tree, t *targets, r *rand.Rand, now uint32) *mover {
	n := len(b.devices)
	m := &mover{
		tree: tree, t: t, rand: r, replicas: b.replicas, table: b.table, movedAt: b.movedAt,
		now: now, lockSpan: uint32(b.minPartHours) * 60,
		want: make([]int64, n), load: b.loads(), count: make([]int32, n*b.replicas),
		dead: make([]bool, n), done: make([]uint8, len(b.movedAt)), origin: make([]uint16, len(b.movedAt)),
		gained: make([][]uint32, n), nodes: nodeTiers(tree), inRow: make([]int32, len(tree.Tiers)),
	}
	for d := range b.devices {
		m.want[d] = t.want[tree.Paths[d].At(topology.Device)]
		m.dead[d] = b.devices[d].Weight == 0
		m.anyDead = m.anyDead || m.dead[d]
		m.least += max(0, m.load[d]-m.want[d])
	}
	for i, d := range b.table {
		m.count[int(d)*m.replicas+i%m.replicas]++
	}
	m.missed = topology.SumUp(tree, func(d int32) int64 { return max(0, m.want[d]-m.load[d]) })
	for _, node := range m.nodes {
		if m.missed[node] > 0 {
			m.short = append(m.short, node)
		}
	}
	for i := range tree.Tiers {
		if l := tree.Tiers[i].Level; l >= topology.Region && l <= topology.Node && t.lo[i] > 0 {
			m.must = append(m.must, int32(i))
		}
	}
	for p := range m.movedAt {
		if m.isLocked(p) {
			m.locked++
		}
	}
	return m
}

// isLocked reports whether p was moved too recently.
func (m *mover) isLocked(p int) bool {
	at := m.movedAt[p]
	// A time in the future is a clock that was set back; it locks as now does.
	return at != 0 && (at > m.now || m.now-at < m.lockSpan)
}

func (m *mover) row(p int) []uint16 { return m.table[p*m.replicas : (p+1)*m.replicas] }

// mayMove reports whether this rebalance may move the replica at position i of p.
// A partition with a replica on a dead device keeps its one move for that.
func (m *mover) mayMove(p, i int) bool {
	if m.done[p] != 0 {
		return false
	}
	row := m.row(p)
	if m.dead[row[i]] {
		return true
	}
	if m.isLocked(p) {
		return false
	}
	if m.anyDead {
		for _, d := range row {
			if m.dead[d] {
				return false
			}
		}
	}
	return true
}

// run does all passes.
func (m *mover) run() {
	m.pass(rules{dead: true, toFreePosition: true})
	m.pass(rules{dead: true})
	m.pass(rules{better: true, fromCrowdedPosition: true, toFreePosition: true})
	m.pass(rules{better: true, toFreePosition: true})
	m.pass(rules{better: true})
	m.pass(rules{fromCrowdedPosition: true, toFreePosition: true})
	m.pass(rules{toFreePosition: true})
	m.pass(rules{})
	m.spreadCrowded()
	m.chains()
	m.evacuate()
}

// remaining returns what is left to do: replicas that devices hold beyond their
// targets, replicas on dead devices, and crowded partitions.
func (m *mover) remaining() (over, stranded, crowded int64) {
	for d := range m.load {
		over += max(0, m.load[d]-m.want[d])
		if m.dead[d] {
			stranded += m.load[d]
		}
	}
	for p := range m.done {
		if m.crowding(p) > 0 {
			crowded++
		}
	}
	return over, stranded, crowded
}

// move gives the replica at position i of p to device v. The caller has made
// sure that v holds none, and that p may move or that this is the replica of p
// that has moved and now goes elsewhere instead.
func (m *mover) move(p, i int, v uint16) {
	u := m.table[p*m.replicas+i]
	m.table[p*m.replicas+i] = v
	m.count[int(u)*m.replicas+i]--
	m.count[int(v)*m.replicas+i]++
	if m.done[p] == 0 {
		m.done[p], m.origin[p] = uint8(i+1), u
		m.movedAt[p] = m.now
		m.moved++
	}
	m.gained[v] = append(m.gained[v], uint32(p*m.replicas+i))
	m.addLoad(u, -1)
	m.addLoad(v, 1)
}

// addLoad changes the load of d by one and keeps missed and short true.
func (m *mover) addLoad(d uint16, by int64) {
	before := max(0, m.want[d]-m.load[d])
	m.load[d] += by
	diff := max(0, m.want[d]-m.load[d]) - before
	if diff == 0 {
		return
	}
	m.missed[0] += diff
	for _, t := range m.tree.Paths[d] {
		m.missed[t] += diff
	}
	node := m.tree.Paths[d].At(topology.Node)
	switch m.missed[node] {
	case 0: // keep the order: it decides ties, and so must not depend on history
		for i, t := range m.short {
			if t == node {
				m.short = append(m.short[:i], m.short[i+1:]...)
				break
			}
		}
	case diff: // it missed nothing before
		m.short = append(m.short, node)
	}
}

// Penalties for one replica too many or too few in a tier. A move changes the sum
// at one level by 2 at most either way, so a gain at one level outweighs any loss
// below it.
var penalty = [...]int{topology.Region: 25, topology.Zone: 5, topology.Node: 1}

// outside is how far n replicas of a partition are outside a tier's bounds.
func (m *mover) outside(tier int32, n int32) int {
	return int(max(0, n-m.t.hi[tier]) + max(0, m.t.lo[tier]-n))
}

// stand counts the replicas of a row by tier. What cost says holds for the row
// that was counted last, as it was then.
func (m *mover) stand(row []uint16) {
	for _, t := range m.stood {
		m.inRow[t] = 0
	}
	m.stood = m.stood[:0]
	for _, d := range row {
		path := m.tree.Paths[d]
		for l := topology.Region; l <= topology.Node; l++ {
			t := path.At(l)
			m.inRow[t]++
			m.stood = append(m.stood, t)
		}
	}
}

// cost returns by how much the penalties of the row that stands rise when its
// replica on device u goes to a device of the given path, down to the node.
func (m *mover) cost(u uint16, to *topology.Path) int {
	from := &m.tree.Paths[u]
	cost := 0
	for l := topology.Node; l >= topology.Region; l-- {
		u, v := from.At(l), to.At(l)
		if u == v {
			break // and so above
		}
		nu, nv := m.inRow[u], m.inRow[v]
		cost += penalty[l] * (m.outside(u, nu-1) - m.outside(u, nu) + m.outside(v, nv+1) - m.outside(v, nv))
	}
	return cost
}

// crowding returns the penalties of partition p: 0 if each tier is within its
// bounds.
func (m *mover) crowding(p int) (sum int) {
	m.stand(m.row(p))
	for _, t := range m.must {
		if n := m.inRow[t]; n < m.t.lo[t] {
			sum += penalty[m.tree.Tiers[t].Level] * int(m.t.lo[t]-n)
		}
	}
	for _, t := range m.stood {
		if n := m.inRow[t]; n > m.t.hi[t] {
			sum += penalty[m.tree.Tiers[t].Level] * int(n-m.t.hi[t])
		}
		m.inRow[t] = 0 // the same tier comes again
	}
	m.stood = m.stood[:0]
	return sum
}

// rules says which moves a pass makes, all of them from a device that has more
// than it should to one that has less.
type rules struct {
	dead   bool // only from dead devices
	better bool // only moves that spread the partition better; else none that spread it worse
	// only from a position where the device holds more than its even part
	fromCrowdedPosition bool
	// only to a position where the device holds less than its even part
	toFreePosition bool
}

// pass looks at each partition once, in an order of its own, and makes the best
// move that the rules allow.
func (m *mover) pass(r rules) {
	if r.dead && !m.anyDead {
		return
	}
	n := len(m.done)
	// An odd factor and any offset permute the numbers below a power of two.
	factor, offset := int(m.rand.Uint32()|1), int(m.rand.Uint32())
	for k := range n {
		if m.missed[0] == 0 {
			return
		}
		p := (k*factor + offset) & (n - 1)
		if m.done[p] != 0 || (!r.dead && m.isLocked(p)) {
			continue
		}
		m.bestMove(p, r)
	}
}

// bestMove makes the move of p that spreads it best, and among equals takes the
// replica from the device that has most too many for its size.
func (m *mover) bestMove(p int, r rules) {
	row := m.row(p)
	standing := false // it seldom comes to it
	bestPos, bestDev, bestCost, bestExcess := -1, uint16(0), 1, 0.0
	if r.better {
		bestCost = 0
	}
	for i, u := range row {
		if m.load[u] <= m.want[u] || (r.dead && !m.dead[u]) || !m.mayMove(p, i) {
			continue
		}
		if r.fromCrowdedPosition && int64(m.count[int(u)*m.replicas+i])*int64(m.replicas) <= m.want[u] {
			continue
		}
		if !standing {
			m.stand(row)
			standing = true
		}
		excess := float64(m.load[u]-m.want[u]) / float64(m.want[u]+1)
		limit := bestCost // only better ones, or as good and from a fuller device
		if bestPos >= 0 && excess > bestExcess {
			limit++
		}
		if v, cost, ok := m.bestTaker(row, i, limit, r); ok {
			bestPos, bestDev, bestCost, bestExcess = i, v, cost, excess
		}
	}
	if bestPos >= 0 {
		m.move(p, bestPos, bestDev)
	}
}

// bestTaker draws the device to take the replica at position i of the row that
// stands: one that
// has too few, at the lowest cost below limit, by chance weighted with how many
// it misses.
func (m *mover) bestTaker(row []uint16, i, limit int, r rules) (taker uint16, cost int, ok bool) {
	total := int64(0)
	for _, node := range m.short {
		children := m.tree.Tiers[node].Children
		first := m.tree.Tiers[children[0]].Device
		c := m.cost(row[i], &m.tree.Paths[first])
		if c >= limit && !(ok && c == cost) {
			continue
		}
		for _, leaf := range children {
			missed := m.missed[leaf]
			if missed == 0 {
				continue
			}
			v := uint16(m.tree.Tiers[leaf].Device)
			if r.toFreePosition && int64(m.count[int(v)*m.replicas+i])*int64(m.replicas) >= m.want[v] {
				continue
			}
			if holds(row, v) {
				continue
			}
			if !ok || c < cost {
				total, cost, ok, limit = 0, c, true, c
			}
			total += missed
			if m.rand.Int64N(total) < missed {
				taker = v
			}
		}
	}
	return taker, cost, ok
}

func holds(row []uint16, v uint16) bool {
	for _, d := range row {
		if d == v {
			return true
		}
	}
	return false
}

// evacuate moves what is left on dead devices to any device that takes it best,
// whether it should have more or not: a device that is gone serves nobody.
func (m *mover) evacuate() {
	if !m.anyDead {
		return
	}
	for p := range m.done {
		row := m.row(p)
		for i := range row {
			if m.dead[row[i]] && m.done[p] == 0 {
				if v, _, ok := m.leastLoaded(row, i, 1<<30); ok {
					m.move(p, i, v)
				}
			}
		}
	}
}

// leastLoaded finds the device to take the replica at position i of row at the
// lowest cost below limit, and among equals the one that is least loaded for its
// size.
func (m *mover) leastLoaded(row []uint16, i, limit int) (taker uint16, cost int, ok bool) {
	m.stand(row)
	bestLoad := 0.0
	for _, node := range m.nodes {
		children := m.tree.Tiers[node].Children
		c := m.cost(row[i], &m.tree.Paths[m.tree.Tiers[children[0]].Device])
		if c >= limit && !(ok && c == cost) {
			continue
		}
		for _, leaf := range children {
			v := uint16(m.tree.Tiers[leaf].Device)
			if m.dead[v] || holds(row, v) {
				continue
			}
			load := float64(m.load[v]+1) / float64(m.want[v]+1)
			if !ok || c < cost || load < bestLoad {
				taker, cost, ok, bestLoad, limit = v, c, true, load, c
			}
		}
	}
	return taker, cost, ok
}

// spreadCrowded moves a replica of each partition that still stands too close
// together, to the device with most room. What that does to the loads, chains
// puts right.
func (m *mover) spreadCrowded() {
	for p := range m.done {
		if m.done[p] != 0 || m.isLocked(p) || m.crowding(p) == 0 {
			continue
		}
		row := m.row(p)
		bestPos, bestDev, bestCost := -1, uint16(0), 0
		for i := range row {
			if !m.mayMove(p, i) {
				continue
			}
			if v, cost, ok := m.leastLoaded(row, i, bestCost); ok {
				bestPos, bestDev, bestCost = i, v, cost
			}
		}
		if bestPos >= 0 {
			m.move(p, bestPos, bestDev)
		}
	}
}
