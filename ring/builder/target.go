package builder

import (
	"cmp"
	"math"
	"slices"

	"ringfort/ring/internal/topology"
)

// targets says how the replicas are to be shared out. All slices are by tier.
type targets struct {
	fair  []float64 // replicas per partition by weight alone, no device above 1
	share []float64 // replicas per partition that the tier is to have
	want  []int64   // replicas of the whole ring that the tier is to have
	// lo and hi bound how many replicas of one partition the tier may hold. They
	// are want per partition, rounded down and up: a tier entitled to 1.3
	// replicas of a partition has 1 of some and 2 of the others.
	lo, hi []int32
	// apart is the most replicas of one partition that the tier would hold if
	// distance alone counted. It may be below hi when overload is limited.
	apart []int32
}

// sharing computes targets; see DESIGN.md.
type sharing struct {
	tree     *topology.Tree
	weight   func(d int32) float64
	replicas int
	slots    [][]uint64 // by tier; see rankSlots
	lo, hi   []int32    // what distance alone asks for
}

// newTargets shares replicas of parts partitions out over the tree. load is what
// each tier holds now: where a share is not a whole number of partitions, it is
// rounded to what moves less. At least replicas devices have a weight.
func newTargets(tree *topology.Tree, weight func(d int32) float64, replicas int, parts int64, overload float64, load []int64) *targets {
	s := &sharing{tree: tree, weight: weight, replicas: replicas}
	s.rankSlots()
	s.lo, s.hi = make([]int32, len(tree.Tiers)), make([]int32, len(tree.Tiers))
	s.boundTier(0, replicas, replicas)
	t := &targets{apart: s.hi, fair: s.solve(false)}
	t.share = s.limit(t.fair, s.solve(true), overload)
	t.want = s.round(t.share, parts, load)
	t.lo, t.hi = make([]int32, len(tree.Tiers)), make([]int32, len(tree.Tiers))
	for i, n := range t.want {
		t.lo[i] = int32(n / parts)
		t.hi[i] = int32((n + parts - 1) / parts)
	}
	return t
}

// rankSlots lists for each tier, in the order in which replicas of one partition
// should fill it, how crowded each next replica would stand. Each tier counts its
// children's slots 1, 2, 3, ...; a slot's rank is that count at region, zone, node
// and device level, 16 bits each, so that comparing ranks compares regions first.
// Only the first replicas+1 slots of a tier are kept: more are never filled.
func (s *sharing) rankSlots() {
	tiers := s.tree.Tiers
	s.slots = make([][]uint64, len(tiers))
	for i := len(tiers) - 1; i >= 0; i-- {
		t := &tiers[i]
		if t.Device >= 0 {
			if s.weight(t.Device) > 0 {
				s.slots[i] = []uint64{0}
			}
			continue
		}
		var all []uint64
		for _, c := range t.Children {
			for j := range s.slots[c] {
				all = append(all, s.rank(c, j))
			}
		}
		slices.Sort(all)
		s.slots[i] = all[:min(len(all), s.replicas+1)]
	}
}

// rank returns the rank of the j-th slot of tier c as its parent sees it.
func (s *sharing) rank(c int32, j int) uint64 {
	shift := 16 * (topology.Device - s.tree.Tiers[c].Level)
	return uint64(j+1)<<shift | s.slots[c][j]
}

// boundTier bounds the replicas of one partition that t and the tiers below may
// hold when t holds lo or hi of them, hi being lo or lo+1. Slots that rank below
// the last one filled are filled in every partition; those that rank equal to it
// take turns.
func (s *sharing) boundTier(t int32, lo, hi int) {
	s.lo[t], s.hi[t] = int32(lo), int32(hi)
	for _, c := range s.tree.Tiers[t].Children {
		cLo, _ := s.childRange(t, c, lo)
		_, cHi := s.childRange(t, c, hi)
		s.boundTier(c, cLo, cHi)
	}
}

// childRange returns the fewest and most replicas that c holds of a partition of
// which its parent t holds n.
func (s *sharing) childRange(t, c int32, n int) (lo, hi int) {
	if n == 0 {
		return 0, 0
	}
	slots := s.slots[t]
	last := slots[n-1]
	for j := range s.slots[c] {
		switch r := s.rank(c, j); {
		case r < last:
			lo++
			hi++
		case r == last:
			hi++
		}
	}
	if n == len(slots) || slots[n] != last {
		lo = hi // no turns: all that rank equal are filled
	}
	return lo, hi
}

// solve shares the replicas of one partition out by weight, no device taking
// more than 1, and with apart each tier taking between lo and hi. Among all
// shares that keep to the bounds it is the fairest: no device could have less per
// weight without another one, which already has no less, having more.
func (s *sharing) solve(apart bool) []float64 {
	share := make([]float64, len(s.tree.Tiers))
	share[0] = float64(s.replicas)
	// At level λ a device takes λ times its weight, within its bounds, and a tier
	// what its children take, within its own: monotone in λ, so bisection finds
	// the level at which a tier's children take what the tier has.
	minWeight := math.Inf(1)
	for i := range s.tree.Paths {
		if w := s.weight(int32(i)); w > 0 {
			minWeight = min(minWeight, w)
		}
	}
	for i := range s.tree.Tiers { // parents before children
		t := int32(i)
		if len(s.slots[t]) == 0 || s.tree.Tiers[t].Device >= 0 {
			continue
		}
		low, high := 0.0, 2/minWeight
		for range 200 {
			mid := (low + high) / 2
			if mid == low || mid == high {
				break
			}
			sum := 0.0
			for _, c := range s.tree.Tiers[t].Children {
				sum += s.take(c, mid, apart)
			}
			if sum < share[t] {
				low = mid
			} else {
				high = mid
			}
		}
		for _, c := range s.tree.Tiers[t].Children {
			share[c] = s.take(c, high, apart)
		}
	}
	return share
}

// take returns what tier t takes at a level.
func (s *sharing) take(t int32, level float64, apart bool) float64 {
	var n float64
	if d := s.tree.Tiers[t].Device; d >= 0 {
		n = min(1, level*s.weight(d))
	} else {
		for _, c := range s.tree.Tiers[t].Children {
			n += s.take(c, level, apart)
		}
	}
	if apart {
		n = min(max(n, float64(s.lo[t])), float64(s.hi[t]))
	}
	return n
}

// limit goes from the fair shares towards those that keep replicas apart, as far
// as no device gets more than 1+overload of its fair share.
func (s *sharing) limit(fair, apart []float64, overload float64) []float64 {
	if math.IsInf(overload, 1) {
		return apart
	}
	step := 1.0
	for i := range s.tree.Tiers {
		if s.tree.Tiers[i].Device < 0 || apart[i] <= fair[i]*(1+overload) {
			continue
		}
		step = min(step, overload*fair[i]/(apart[i]-fair[i]))
	}
	if step == 1 {
		return apart
	}
	share := make([]float64, len(fair))
	for i := range share {
		share[i] = fair[i] + step*(apart[i]-fair[i])
	}
	return share
}

// round turns shares into whole numbers of replicas: each tier's share times
// parts, rounded up or down so that children add up to their parent. Those that
// hold the larger number already are rounded up first, then those nearest to it.
func (s *sharing) round(share []float64, parts int64, load []int64) []int64 {
	want := make([]int64, len(share))
	frac := make([]float64, len(share))
	want[0] = int64(s.replicas) * parts
	for i := range s.tree.Tiers {
		children := slices.Clone(s.tree.Tiers[i].Children)
		rest := want[i]
		for _, c := range children {
			x := snap(share[c]*float64(parts), parts)
			want[c] = int64(math.Floor(x))
			frac[c] = x - math.Floor(x)
			rest -= want[c]
		}
		held := func(c int32) int64 { return min(max(load[c]-want[c], 0), 1) }
		slices.SortStableFunc(children, func(a, b int32) int {
			return cmp.Or(cmp.Compare(held(b), held(a)), cmp.Compare(frac[b], frac[a]))
		})
		for _, c := range children {
			if rest > 0 && frac[c] > 0 {
				want[c]++
				rest--
			}
		}
		s.settle(want, children, rest, parts)
	}
	return want
}

// settle hands out what rounding left over. Shares add up, so nothing is, unless
// the last bits of the arithmetic say otherwise; then one partition more or less
// here or there keeps the sum right.
func (s *sharing) settle(want []int64, children []int32, rest, parts int64) {
	for _, c := range children {
		room := int64(len(s.slots[c]))*parts - want[c]
		n := max(min(rest, room), -want[c])
		want[c] += n
		rest -= n
	}
}

// snap removes what bisection leaves of a whole number. Around a bound, which is
// a multiple of parts, it takes more: one replica too many there would make two
// replicas of some partition stand together.
func snap(x float64, parts int64) float64 {
	if p := float64(parts); math.Abs(x-math.Round(x/p)*p) < 1e-3 {
		return math.Round(x/p) * p
	}
	if math.Abs(x-math.Round(x)) < 1e-6 {
		return math.Round(x)
	}
	return x
}
