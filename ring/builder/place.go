package builder

import (
	"math"
	"math/rand/v2"

	"ringfort/ring"
	"ringfort/ring/internal/topology"
)

// firstPlacement fills an empty table so that every device gets exactly the
// number of replicas it should have and every tier keeps to its bounds.
//
// It draws each partition's devices by systematic sampling, from what the
// devices still have to get. Lay the devices out in tree order on a line, each as
// long as it still needs replicas; with n partitions to go the line is
// replicas*n long. The points u, u+n, u+2n, ... for a random u choose the devices
// under them. An interval of length x*n holds x points, rounded up or down: so
// a device, at most n long, is not chosen twice and a tier keeps its share. What
// is left has the same shape with n-1 partitions to go, down to none. Siblings
// change places all the time, so that any devices meet that may meet.
func firstPlacement(tree *topology.Tree, t *targets, replicas, parts int, r *rand.Rand) []uint16 {
	s := &sampler{tree: tree, rand: r, need: append([]int64(nil), t.want...),
		order: make([][]int32, len(tree.Tiers))}
	for i := range tree.Tiers {
		s.order[i] = append([]int32(nil), tree.Tiers[i].Children...)
		r.Shuffle(len(s.order[i]), func(a, b int) {
			s.order[i][a], s.order[i][b] = s.order[i][b], s.order[i][a]
		})
	}
	s.table = make([]uint16, 0, replicas*parts)
	for s.step = int64(parts); s.step > 0; s.step-- {
		s.sample(0, r.Int64N(s.step))
	}
	spreadPositions(s.table, replicas, len(tree.Paths), r)
	return s.table
}

type sampler struct {
	tree  *topology.Tree
	rand  *rand.Rand
	need  []int64   // by tier: replicas still to be given
	order [][]int32 // by tier: its children, in changing order
	step  int64     // distance of the points: partitions still to be filled
	table []uint16
}

// sample chooses the devices of t that lie under a point, the first one being at
// offset from t's beginning, and returns how far beyond t's end the next one is.
func (s *sampler) sample(t int32, offset int64) int64 {
	length := s.need[t]
	if offset >= length {
		return offset - length
	}
	if d := s.tree.Tiers[t].Device; d >= 0 {
		s.table = append(s.table, uint16(d))
		s.need[t]--
		return offset + s.step - length
	}
	children := s.order[t]
	for range min(len(children)-1, 8) {
		i, j := s.rand.IntN(len(children)), s.rand.IntN(len(children))
		children[i], children[j] = children[j], children[i]
	}
	before := len(s.table)
	for _, c := range children {
		offset = s.sample(c, offset)
	}
	s.need[t] -= int64(len(s.table) - before)
	return offset
}

// spreadPositions orders the devices of each row so that every device holds its
// replicas evenly over the positions: the first ones of a row do more work.
// First each row is ordered greedily, then rows are improved by exchanges that
// bring the counts nearer to each other.
func spreadPositions(table []uint16, replicas, devices int, r *rand.Rand) {
	if replicas < 2 {
		return
	}
	count := make([]int32, devices*replicas)
	total := make([]int32, devices)
	order := r.Perm(replicas)
	for at := 0; at < len(table); at += replicas {
		row := table[at : at+replicas]
		r.Shuffle(replicas, func(i, j int) { row[i], row[j] = row[j], row[i] })
		// The position that chooses last gets what is left, so they take turns.
		order = append(order[1:], order[0])
		greedyRow(row, order, count, total)
	}
	for range 4 {
		for at := 0; at < len(table); at += replicas {
			improveRow(table[at:at+replicas], count)
		}
	}
}

// greedyRow gives each position, in the order given, the device of the row that
// lags most there. count is by device and position, total by device.
func greedyRow(row []uint16, order []int, count, total []int32) {
	n := len(row)
	var free, chosen [ring.MaxReplicas]uint16
	left := free[:copy(free[:], row)]
	for _, pos := range order {
		best, bestLag := 0, int32(math.MinInt32)
		for i, d := range left {
			if lag := total[d] - int32(n)*count[int(d)*n+pos]; lag > bestLag {
				best, bestLag = i, lag
			}
		}
		d := left[best]
		left[best] = left[len(left)-1]
		left = left[:len(left)-1]
		chosen[pos] = d
		count[int(d)*n+pos]++
	}
	for _, d := range row {
		total[d]++
	}
	copy(row, chosen[:n])
}

// improveRow exchanges two devices of a row while that makes the counts of both
// more even.
func improveRow(row []uint16, count []int32) {
	n := len(row)
	for i := range row {
		for j := i + 1; j < n; j++ {
			a, b := count[int(row[i])*n:], count[int(row[j])*n:]
			// The sum of the squares changes by twice this.
			if a[j]-a[i]+b[i]-b[j]+2 < 0 {
				a[i]--
				a[j]++
				b[j]--
				b[i]++
				row[i], row[j] = row[j], row[i]
			}
		}
	}
}
