package builder

// chainBudget bounds the work of chains: how many replicas it may look at, and
// how many times ask whether a device can take one. That is some seconds.
const chainBudget = 1 << 26

// chains evens out what single moves could not: where no partition lets a
// replica go from a full device to a short one, it goes to a third device, which
// passes another replica on. Each search is breadth first from all full devices,
// so the shortest chain comes first, and each step is another partition.
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
	// when the search began. Those of partitions moved since are passed over, so
	// the list need not follow the moves.
	slots, first []uint32
	from         []step // by device: how it was reached in this search
}

// step is one link of a chain: the replica in slot goes on to the next device.
type step struct {
	device  int32 // that gives; -1 if not reached, -2 for a start
	slot    uint32
	visited bool
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
	var queue []int32
	for d := range c.load {
		if c.load[d] > c.want[d] {
			c.from[d] = step{device: -2, visited: true}
			queue = append(queue, int32(d))
		}
	}
	for len(queue) > 0 {
		d := queue[0]
		queue = queue[1:]
		if end := c.expand(d, true, nil); end >= 0 {
			c.follow(end)
			return true
		}
		if end := c.expand(d, false, &queue); end >= 0 || c.budget <= 0 {
			return false
		}
	}
	return false
}

// expand follows d's replicas. With toShort it looks for a device that has too
// few and returns it; else it appends every device it can reach to the queue.
func (c *chainer) expand(d int32, toShort bool, queue *[]int32) (end int32) {
	var targets []int32
	for v := range c.want {
		if c.from[v].visited || c.dead[v] || (c.load[v] < c.want[v]) != toShort {
			continue
		}
		targets = append(targets, int32(v))
	}
	for _, slot := range c.slots[c.first[d]:c.first[d+1]] {
		if len(targets) == 0 {
			return -1
		}
		if c.budget--; c.budget <= 0 {
			return -1
		}
		p, i := int(slot)/c.replicas, int(slot)%c.replicas
		if !c.mayMove(p, i) || c.onChain(d, p) {
			continue
		}
		row := c.row(p)
		kept := targets[:0]
		for _, v := range targets {
			c.budget--
			if holds(row, uint16(v)) || c.cost(row, i, &c.tree.Paths[v]) > 0 {
				kept = append(kept, v)
				continue
			}
			c.from[v] = step{device: d, slot: slot, visited: true}
			if toShort {
				return v
			}
			*queue = append(*queue, v)
		}
		targets = kept
	}
	return -1
}

// onChain reports whether a step before d uses partition p.
func (c *chainer) onChain(d int32, p int) bool {
	for c.from[d].device >= 0 {
		if int(c.from[d].slot)/c.replicas == p {
			return true
		}
		d = c.from[d].device
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
