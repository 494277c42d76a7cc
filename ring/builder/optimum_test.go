package builder

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"ringfort/ring/internal/topology"
)

// network is a flow network with costs, for finding the fewest moves that exist.
type network struct {
	edges []edge
	out   [][]int32
}

type edge struct {
	to        int32
	room      int32
	cost      int32
	back, own int32 // index of the reverse edge, and of this one
}

func (n *network) node() int32 {
	n.out = append(n.out, nil)
	return int32(len(n.out) - 1)
}

func (n *network) link(from, to, room, cost int32) {
	if room <= 0 {
		return
	}
	e := int32(len(n.edges))
	n.edges = append(n.edges, edge{to, room, cost, e + 1, e}, edge{from, 0, -cost, e, e + 1})
	n.out[from] = append(n.out[from], e)
	n.out[to] = append(n.out[to], e+1)
}

// cheapest sends as much as possible from s to t at the least cost, by shortest
// augmenting paths (Bellman-Ford with a queue).
func (n *network) cheapest(s, t int32) (flow, cost int) {
	dist, via, queued := make([]int32, len(n.out)), make([]int32, len(n.out)), make([]bool, len(n.out))
	for {
		for i := range dist {
			dist[i], via[i] = 1<<30, -1
		}
		dist[s] = 0
		for queue := []int32{s}; len(queue) > 0; {
			u := queue[0]
			queue = queue[1:]
			queued[u] = false
			for _, i := range n.out[u] {
				e := &n.edges[i]
				if e.room > 0 && dist[u]+e.cost < dist[e.to] {
					dist[e.to], via[e.to] = dist[u]+e.cost, i
					if !queued[e.to] {
						queued[e.to] = true
						queue = append(queue, e.to)
					}
				}
			}
		}
		if via[t] < 0 {
			return flow, cost
		}
		for v := t; v != s; {
			e := &n.edges[via[v]]
			e.room--
			n.edges[e.back].room++
			v = n.edges[e.back].to
		}
		flow++
		cost += int(dist[t])
	}
}

// fewestMoves computes how many replicas of before's table must move at least,
// for every device to hold what it should and every partition to stand within
// the bounds of t. Replicas flow from each partition down a tree of its own to
// the devices, which all partitions share; a device that has the partition is
// free, another costs one move.
func fewestMoves(t *testing.T, before *Builder, tree *topology.Tree, want *targets) int {
	t.Helper()
	const must = 1000 // reward for each replica that a lower bound asks for
	n := &network{}
	source, sink := n.node(), n.node()
	device := make([]int32, len(before.devices))
	for d := range device {
		device[d] = n.node()
		n.link(device[d], sink, int32(want.want[tree.Paths[d].At(topology.Device)]), 0)
	}
	rewards := 0
	for p := 0; p < len(before.table); p += before.replicas {
		row := before.table[p : p+before.replicas]
		at := make([]int32, len(tree.Tiers))
		at[0] = n.node()
		n.link(source, at[0], int32(before.replicas), 0)
		for i := 1; i < len(tree.Tiers); i++ {
			tier := &tree.Tiers[i]
			if d := tier.Device; d >= 0 {
				cost := int32(1)
				if holds(row, uint16(d)) {
					cost = 0
				}
				n.link(at[tier.Parent], device[d], 1, cost)
				continue
			}
			at[i] = n.node()
			n.link(at[tier.Parent], at[i], want.lo[i], -must)
			n.link(at[tier.Parent], at[i], want.hi[i]-want.lo[i], 0)
			rewards += int(want.lo[i])
		}
	}
	flow, cost := n.cheapest(source, sink)
	if flow != len(before.table) {
		t.Fatalf("only %d of %d replicas can be placed", flow, len(before.table))
	}
	return cost + must*rewards
}

// TestFewestMoves compares the moves of changes to small, tight rings, where
// loads alone do not tell how many are needed, with the least that exists.
func TestFewestMoves(t *testing.T) {
	sumMoved, sumLeast := 0, 0
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 5))
		ds := cluster(r, 1+r.IntN(3), 1+r.IntN(3), 1+r.IntN(3), 1+r.IntN(3), 1, 10)
		if len(ds) < 5 {
			continue
		}
		replicas := 2 + r.IntN(3)
		b := newBuilder(t, Config{Power: 7, Replicas: replicas, Overload: Unlimited, Seed: seed}, ds)
		rebalance(t, b, start)
		what := randomChange(t, b, r)
		before := b.Clone()
		tree := b.tree()
		want := b.targets(tree)
		moved := 0
		for now := start; ; {
			now = now.Add(time.Minute)
			res := rebalance(t, b, now)
			moved += int(res.Moved)
			if res.Settled() {
				break
			}
		}
		least := fewestMoves(t, before, tree, want)
		sumMoved, sumLeast = sumMoved+moved, sumLeast+least
		msg := fmt.Sprintf("seed %d: %s in %d devices x %d replicas moved %d, least is %d", seed, what, len(ds), replicas, moved, least)
		if float64(moved) > 1.05*float64(least)+2 {
			t.Error(msg)
		} else if moved != least {
			t.Log(msg)
		}
	}
	t.Logf("moved %d in all, least is %d", sumMoved, sumLeast)
	if float64(sumMoved) > 1.02*float64(sumLeast) {
		t.Error("that is too many")
	}
}
