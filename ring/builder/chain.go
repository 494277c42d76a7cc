package builder

// chainBudget bounds the work of chains: how many replicas it may look at, and
// how many times ask whether a device can take one. That is some seconds.
const chainBudget = 1 << 26

// chains evens out what single moves could not: where no partition lets a
// replica go from a full device to a short one, it goes to a third device, which
// passes another replica on, and so forth; each step is another partition. A step
// is free if the replica had been moved by this rebalance already and now only
// goes elsewhere instead. The search takes the chain with the fewest steps that
// are not free. (It is the augmenting path of a flow with 0-1 costs.)
func (m *mover) chains() {
	if m.missed[0] == 0 {
		return
	}
	c := &chainer{mover: m, budget: chainBudget}
	c.listSlots()
	for m.missed[0] > 0 && c.one() {
	}
}

type chainer struct {
	*mover
	budget int
	// slots[first[d]:first[d+1]] are the places in the table that device d held
	// when the search began. The list does not follow the moves: places that d
	// has lost since are passed over, those it gained are not found.
	slots, first []uint32
	from         []step // by device: how it was reached in this search
}

// step is one link of a chain: how a device gets one replica more.
type step struct {
	device  int32  // that gives it; -1 at the start of a chain
	slot    uint32 // the place in the table
	reached bool
}

func (c *chainer) listSlots() {
	c.first = make([]uint32, len(c.load)+1)
	for _, d := range c.table {
		c.first[d+1]++
	}
	for d := range c.load {
		c.first[d+1] += c.first[d]
	}
	next := append([]uint32(nil), c.first...)
	c.slots = make([]uint32, len(c.table))
	for i, d := range c.table {
		c.slots[next[d]] = uint32(i)
		next[d]++
	}
	c.from = make([]step, len(c.load))
}

// one finds one chain and moves along it; false means that there is none, or
// that the budget is spent.
func (c *chainer) one() bool {
	clear(c.from)
	var level []int32 // devices that as many steps lead to that are not free
	for d := range c.load {
		if c.load[d] > c.want[d] {
			c.from[d] = step{device: -1, reached: true}
			level = append(level, int32(d))
		}
	}
	for len(level) > 0 {
		for i := 0; i < len(level); i++ { // grows
			more, end := c.expand(level[i], true)
			if end >= 0 {
				c.follow(end)
				return true
			}
			level = append(level, more...)
		}
		var next []int32
		for _, d := range level {
			more, end := c.expand(d, false)
			if end >= 0 {
				c.follow(end)
				return true
			}
			next = append(next, more...)
		}
		level = next
	}
	return false
}

// expand finds the devices that d can pass a replica to, by free steps or by the
// others: end is one that has too few, else -1, and more are those newly reached.
func (c *chainer) expand(d int32, free bool) (more []int32, end int32) {
	var targets []int32
	for v := range c.want {
		if !c.from[v].reached && !c.dead[v] {
			targets = append(targets, int32(v))
		}
	}
	for _, slot := range c.slots[c.first[d]:c.first[d+1]] {
		if c.budget--; c.budget <= 0 || len(targets) == 0 {
			break
		}
		p, i := int(slot)/c.replicas, int(slot)%c.replicas
		row := c.row(p)
		if int32(row[i]) != d || c.onChain(d, p) {
			continue
		}
		if free != (c.done[p] == uint8(i+1)) || (!free && !c.mayMove(p, i)) {
			continue
		}
		kept := targets[:0]
		for _, v := range targets {
			c.budget--
			if !c.takes(p, i, uint16(v)) {
				kept = append(kept, v)
				continue
			}
			c.from[v] = step{device: d, slot: slot, reached: true}
			if c.load[v] < c.want[v] {
				return nil, v
			}
			more = append(more, v)
		}
		targets = kept
	}
	return more, -1
}

// takes reports whether v may have the replica at position i of p without p
// standing closer together than now.
func (c *chainer) takes(p, i int, v uint16) bool {
	row := c.row(p)
	if c.done[p] != 0 && v == c.origin[p] {
		return false // it would not have moved at all
	}
	return !holds(row, v) && c.cost(row, i, &c.tree.Paths[v]) <= 0
}

// onChain reports whether a step that leads to d uses partition p.
func (c *chainer) onChain(d int32, p int) bool {
	for s := c.from[d]; s.device >= 0; s = c.from[s.device] {
		if int(s.slot)/c.replicas == p {
			return true
		}
	}
	return false
}

// follow makes the moves of the chain that ends at v.
func (c *chainer) follow(v int32) {
	for s := c.from[v]; s.device >= 0; s = c.from[v] {
		c.move(int(s.slot)/c.replicas, int(s.slot)%c.replicas, uint16(v))
		v = s.device
	}
}
