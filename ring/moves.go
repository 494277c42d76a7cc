package ring

import (
	"iter"

	"ringfort/internal/errs"
)

// Move is one replica that another device takes over from one epoch to another.
type Move struct {
	Partition Partition
	Position  int
	From, To  DeviceID
}

// Moves returns the replicas that lie elsewhere in next than in old, ascending by
// partition. It refuses, as Invalid, a next that is not a later epoch of the same
// ring, or that moves more than one replica of a partition: the quorums of two
// such sets need not meet, so a write acknowledged by one could be missed by the
// other.
func Moves(old, next *Ring) (iter.Seq[Move], error) {
	const op = "compare rings"
	switch {
	case old.id != next.id:
		return nil, errs.New(op, errs.Invalid, "ring %s is not ring %s", next.id, old.id)
	case old.power != next.power || old.replicas != next.replicas:
		return nil, errs.New(op, errs.Invalid, "2^%d partitions of %d replicas cannot follow 2^%d of %d",
			next.power, next.replicas, old.power, old.replicas)
	case next.epoch < old.epoch:
		return nil, errs.New(op, errs.Invalid, "epoch %d is older than %d", next.epoch, old.epoch)
	}
	for p := range Partition(old.Partitions()) {
		moved := 0
		a, b := old.Primaries(p), next.Primaries(p)
		for i := range a {
			if a[i] != b[i] {
				moved++
			}
		}
		if moved > 0 && next.epoch == old.epoch {
			return nil, errs.New(op, errs.Invalid, "two different rings both have epoch %d", old.epoch)
		}
		if moved > 1 {
			return nil, errs.New(op, errs.Invalid, "%d replicas of partition %d move from epoch %d to %d: at most one may",
				moved, p, old.epoch, next.epoch)
		}
	}
	return func(yield func(Move) bool) {
		for i, from := range old.table {
			if to := next.table[i]; from != to {
				m := Move{Partition(i / old.replicas), i % old.replicas, from, to}
				if !yield(m) {
					return
				}
			}
		}
	}, nil
}
