package ring

import (
	"encoding/binary"
	"iter"
	"math/bits"

	"github.com/cespare/xxhash/v2"

	"ringfort/ring/internal/topology"
)

// Handoffs returns the devices that stand in for p's primaries, in ring order:
// each one is from the region, then the zone, then the node that holds the
// fewest of the primaries and handoffs before it. Among equals the order is a
// hash of the partition, weighted by the devices' shares, so that the load of a
// failed device spreads over the cluster by weight. It yields every device that
// has a weight and is not a primary.
//
// The order is a function of p and of the devices with their weights and
// domains. A change of the ring keeps most of it, so a hint stays findable. It is
// integer arithmetic throughout: gateways of different processors agree. It is part
// of the ring file's format (see the package's comment).
//
// The sequence can be walked many times; a walk allocates two counters a tier and
// costs a few hashes for each device yielded.
func (r *Ring) Handoffs(p Partition) iter.Seq[DeviceID] {
	return func(yield func(DeviceID) bool) {
		taken := make([]int32, len(r.tierLive)) // of the partition, below each tier
		left := append([]int32(nil), r.tierLive...)
		take := func(d int32, live bool) {
			taken[0]++
			if live {
				left[0]--
			}
			for _, t := range r.tree.Paths[d] {
				taken[t]++
				if live {
					left[t]--
				}
			}
		}
		for _, id := range r.Primaries(p) {
			d := r.index[id]
			take(d, r.devices[d].Weight > 0)
		}
		for left[0] > 0 {
			t := int32(0)
			for r.tree.Tiers[t].Device < 0 {
				t = r.nextHandoff(p, t, taken, left)
			}
			d := r.tree.Tiers[t].Device
			if !yield(r.devices[d].ID) {
				return
			}
			take(d, true)
		}
	}
}

// nextHandoff chooses among t's children that have devices left.
func (r *Ring) nextHandoff(p Partition, t int32, taken, left []int32) int32 {
	best, bestScore := int32(-1), uint64(0)
	for _, c := range r.tree.Tiers[t].Children {
		if left[c] == 0 || (best >= 0 && taken[c] > taken[best]) {
			continue
		}
		score := r.rendezvous(p, c)
		if best < 0 || taken[c] < taken[best] || score < bestScore {
			best, bestScore = c, score
		}
	}
	return best
}

// rendezvous is the score of a tier for a partition; the lowest wins. It is
// -log(u)/share for a u that is uniform in (0,1], which makes a tier win as often
// as its share says ("weighted rendezvous hashing", Schindelhauer and Schomaker
// 2005).
func (r *Ring) rendezvous(p Partition, tier int32) uint64 {
	u := mix(uint64(p)*0x9e3779b97f4a7c15 ^ r.tierHash[tier])
	return negLog2(u) << 40 / r.tierQuot[tier]
}

// mix is the finalizer of SplitMix64.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// negLog2 returns -log2(u/2^64) in units of 2^-16, between 0 and 64<<16.
func negLog2(u uint64) uint64 {
	u |= 1
	lz := bits.LeadingZeros64(u)
	m := u << lz >> 32 // in [2^31, 2^32), standing for [1,2)
	frac := uint64(0)
	for range 16 { // squaring doubles the logarithm: its next bit comes out on top
		m = m * m >> 31
		frac <<= 1
		if m >= 1<<32 {
			m >>= 1
			frac |= 1
		}
	}
	return uint64(lz+1)<<16 - frac
}

// hashTier names a tier by its labels and not by its index, which shifts when
// devices come and go.
func (r *Ring) hashTier(t *topology.Tier) uint64 {
	var b []byte
	if t.Device >= 0 {
		b = binary.BigEndian.AppendUint32(b, uint32(r.devices[t.Device].ID))
	} else {
		for u := t; u.Parent >= 0; u = &r.tree.Tiers[u.Parent] {
			b = append(b, u.Name...)
			b = append(b, 0) // not printable, so no label holds it
		}
	}
	return xxhash.Sum64(append(b, byte(t.Level)))
}
