package builder

import "ringfort/ring/internal/topology"

// chainBudget bounds the work of chains: how many times they may ask what a
// replica costs on a node. That is a few seconds. What is not done then, later
// rebalances do.
const chainBudget = 1 << 26

// patience is how many replicas of a device in a row may lead to no new device
// before a search looks elsewhere. In a large ring they are many, and alike.
const patience = 64

// chains evens out what single moves could not: where no partition lets a
// replica go from a full device to a short one, it goes to a third device, which
// passes another replica on, and so forth; each step is another partition. A step
// is free if the replica had been moved by this rebalance already and now only
// goes elsewhere instead; the other steps are one move more.
//
// This is the flow of replicas from full to short devices with costs of 0 and 1,
// by phases as Dinic finds flows: a breadth-first search tells how many steps
// that are not free lead to each device, then a depth-first one moves along as
// many chains of the fewest steps as there are.
func (m *mover) chains() {
	if m.missed[0] == 0 {
		return
	}
	c := &chainer{mover: m, budget: chainBudget, level: make([]int32, len(m.load)),
		onPath: make([]bool, len(m.load)), freeNext: make([]int, len(m.load)), next: make([]uint32, len(m.load))}
	c.listSlots()
	for m.missed[0] > 0 && c.budget > 0 {
		if c.phase(patience) == 0 && c.phase(1<<30) == 0 {
			return
		}
	}
}

type chainer struct {
	*mover
	budget int
	// slots[first[d]:first[d+1]] are the places in the table that device d held
	// when the chains began. Those it has lost since, and those of partitions
	// moved before, are passed over.
	slots, first []uint32

	// Of one phase:
	level    []int32 // by device: the steps that lead to it; -1 for none, or none that help
	next     []uint32
	freeNext []int // by device: where to go on in slots, and in gained
	onPath   []bool
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
}

// phase moves along the shortest chains and returns how many there were.
func (c *chainer) phase(patience int) (chains int) {
	if !c.search(patience) {
		return 0
	}
	copy(c.next, c.first)
	clear(c.freeNext)
	for d := range c.load {
		for c.load[d] > c.want[d] && c.push(int32(d)) {
			chains++
		}
	}
	return chains
}

// search sets the levels, up to the first one with a short device; false means
// that none can be reached.
func (c *chainer) search(patience int) (found bool) {
	var at []int32 // the devices of the level
	for d := range c.level {
		c.level[d] = -1
		if c.load[d] > c.want[d] {
			c.level[d] = 0
			at = append(at, int32(d))
		}
	}
	for n := int32(0); len(at) > 0; n++ {
		for i := 0; i < len(at); i++ { // grows
			at = c.reach(at, c.gained[at[i]], at[i], n, patience)
		}
		for _, d := range at {
			found = found || c.load[d] < c.want[d]
		}
		if found {
			return true
		}
		var above []int32
		for _, d := range at {
			above = c.reach(above, c.slots[c.first[d]:c.first[d+1]], d, n+1, patience)
		}
		at = above
	}
	return false
}

// reach appends the devices that can take one of d's replicas in the slots and
// that had no level, and gives them one.
func (c *chainer) reach(devices []int32, slots []uint32, d, level int32, patience int) []int32 {
	free := level == c.level[d]
	for idle := 0; len(slots) > 0 && idle < patience && c.budget > 0; slots = slots[1:] {
		if !c.usable(slots[0], d, free) {
			continue
		}
		before := len(devices)
		c.eachTaker(slots[0], -1, func(v int32) bool {
			c.level[v] = level
			devices = append(devices, v)
			return false
		})
		if idle++; len(devices) > before {
			idle = 0
		}
	}
	return devices
}

// usable reports whether device d still has the replica at slot and may pass it
// on, by a free step or by another.
func (c *chainer) usable(slot uint32, d int32, free bool) bool {
	p, i := int(slot)/c.replicas, int(slot)%c.replicas
	if int32(c.table[slot]) != d {
		return false
	}
	if free {
		return c.done[p] == uint8(i+1)
	}
	return c.mayMove(p, i)
}

// eachTaker calls f for the devices of a level that can take the replica at slot,
// without its partition standing closer together than now, until f returns true.
func (c *chainer) eachTaker(slot uint32, level int32, f func(v int32) bool) bool {
	p, i := int(slot)/c.replicas, int(slot)%c.replicas
	row := c.row(p)
	c.stand(row)
	for _, node := range c.nodes {
		children := c.tree.Tiers[node].Children
		known, fits := false, false // what the node costs is asked when it matters
		for _, leaf := range children {
			v := c.tree.Tiers[leaf].Device
			if c.level[v] != level || c.dead[v] || c.onPath[v] || holds(row, uint16(v)) {
				continue
			}
			if c.done[p] != 0 && uint16(v) == c.origin[p] {
				continue // it would not have moved at all
			}
			if !known {
				c.budget--
				known, fits = true, c.cost(row[i], &c.tree.Paths[v]) <= 0
			}
			if !fits {
				break
			}
			if f(v) {
				return true
			}
			c.stand(row) // f may have looked at others
		}
	}
	return false
}

// push passes one replica on from d, along a chain to a short device. It reports
// whether there was one; if not, d is not tried again in this phase.
func (c *chainer) push(d int32) bool {
	c.onPath[d] = true
	defer func() { c.onPath[d] = false }()
	for ; c.freeNext[d] < len(c.gained[d]); c.freeNext[d]++ {
		if c.passOn(c.gained[d][c.freeNext[d]], d, true) {
			return true
		}
	}
	for ; c.next[d] < c.first[d+1]; c.next[d]++ {
		if c.passOn(c.slots[c.next[d]], d, false) {
			return true
		}
	}
	c.level[d] = -1
	return false
}

// passOn passes the replica at slot on from d, if a chain goes on from there.
func (c *chainer) passOn(slot uint32, d int32, free bool) bool {
	if c.budget <= 0 || !c.usable(slot, d, free) {
		return false
	}
	level := c.level[d]
	if !free {
		level++
	}
	p, i := int(slot)/c.replicas, int(slot)%c.replicas
	return c.eachTaker(slot, level, func(v int32) bool {
		if c.load[v] >= c.want[v] && !c.push(v) {
			return false
		}
		// The steps beyond v have been made; one of them may have used p. Then v
		// has room now, which another replica will fill.
		row := c.row(p)
		c.stand(row)
		if !c.usable(slot, d, free) || holds(row, uint16(v)) || c.cost(row[i], &c.tree.Paths[v]) > 0 {
			return false
		}
		c.move(p, i, uint16(v))
		return true
	})
}

// nodeTiers lists the tiers of the nodes.
func nodeTiers(tree *topology.Tree) (nodes []int32) {
	for i := range tree.Tiers {
		if tree.Tiers[i].Level == topology.Node {
			nodes = append(nodes, int32(i))
		}
	}
	return nodes
}
