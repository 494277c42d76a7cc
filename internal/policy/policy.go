// Package policy is how object bytes are kept: replica(n) or ec(k,m), and what
// follows from it: how many devices hold a key's record, how many fragments an
// acknowledged write has, and how many device failures reads and writes survive.
package policy

import (
	"fmt"
	"strconv"
	"strings"

	"ringfort/internal/errs"
)

// Limits of a policy.
const (
	MaxReplicas  = 7
	MaxFragments = 16 // k+m: the most replicas that a ring has
)

// Spec is a policy. K data and M parity fragments; K = 1 means M+1 whole copies,
// which is how replica(n) is written.
type Spec struct{ K, M int }

// Replica returns replica(n).
func Replica(n int) Spec { return Spec{1, n - 1} }

// EC returns ec(k,m).
func EC(k, m int) Spec { return Spec{k, m} }

// Parse reads "replica(n)" or "ec(k,m)", spaces allowed.
func Parse(s string) (Spec, error) {
	bad := func() (Spec, error) {
		return Spec{}, errs.New("policy.Parse", errs.Invalid,
			"%q is not a policy: write replica(n) with n from 1 to %d, or ec(k,m) with k from 2, m from 1, and k+m up to %d",
			s, MaxReplicas, MaxFragments)
	}
	name, rest, ok := strings.Cut(strings.ReplaceAll(s, " ", ""), "(")
	args, after, ok2 := strings.Cut(rest, ")")
	if !ok || !ok2 || after != "" {
		return bad()
	}
	var n []int
	for _, a := range strings.Split(args, ",") {
		v, err := strconv.Atoi(a)
		if err != nil || strconv.Itoa(v) != a { // neither "+3" nor "03"
			return bad()
		}
		n = append(n, v)
	}
	var p Spec
	switch {
	case name == "replica" && len(n) == 1:
		p = Replica(n[0])
	case name == "ec" && len(n) == 2 && n[0] >= 2:
		p = EC(n[0], n[1])
	default:
		return bad()
	}
	if p.Validate() != nil {
		return bad()
	}
	return p, nil
}

// Validate reports whether p is within the limits.
func (p Spec) Validate() error {
	ok := p.K == 1 && p.M >= 0 && p.M < MaxReplicas || p.K >= 2 && p.K < MaxFragments && p.M >= 1 && p.M <= MaxFragments-p.K
	if !ok {
		return errs.New("policy.Validate", errs.Invalid, "k=%d, m=%d is not a policy", p.K, p.M)
	}
	return nil
}

// Default returns the policy of a node with the given number of devices.
func Default(devices int) Spec {
	switch {
	case devices < 4:
		return Replica(max(devices, 1))
	case devices == 4:
		return EC(2, 2)
	case devices < 8:
		return EC(devices-2, 2)
	case devices < 12:
		return EC(devices-3, 3)
	}
	return EC(8, 4)
}

// String returns the form that Parse reads.
func (p Spec) String() string {
	if p.K == 1 {
		return fmt.Sprintf("replica(%d)", p.M+1)
	}
	return fmt.Sprintf("ec(%d,%d)", p.K, p.M)
}

// Fragments is how many fragments a blob has: the devices that the policy needs.
func (p Spec) Fragments() int { return p.K + p.M }

// RecordDevices is how many devices hold a key's record, r.
func (p Spec) RecordDevices() int {
	if p.K == 1 {
		return p.M + 1
	}
	return min(p.K+p.M, 2*p.M+1)
}

// W is the write quorum of a record, R its read quorum.
func (p Spec) W() int { return p.RecordDevices()/2 + 1 }

// R is the read quorum of a record: any R devices include one of any W.
func (p Spec) R() int { return p.RecordDevices() - p.W() + 1 }

// Copies is how many record devices are sent the bytes of a small object: enough
// that as many may be lost as the policy promises for large ones.
func (p Spec) Copies() int {
	if p.K == 1 {
		return p.M + 1
	}
	return max(p.W(), p.M+1)
}

// MinFragments is how many fragments are synced before a write is acknowledged:
// k+⌈m/2⌉, and k+1 at least where there is any parity.
func (p Spec) MinFragments() int {
	if p.M == 0 {
		return p.K
	}
	return p.K + max(1, (p.M+1)/2)
}

// SurvivesReads is how many devices may fail, whichever, while objects that had
// their full redundancy stay readable and listable, given that listings are kept
// on the number of devices that listingDevices says.
func (p Spec) SurvivesReads(listingDevices int) int {
	records := p.RecordDevices() - p.R()
	return min(p.M, records, ListingSurvives(listingDevices))
}

// SurvivesWrites is how many devices may fail while writes are acknowledged.
func (p Spec) SurvivesWrites(listingDevices int) int {
	return min(p.Fragments()-p.MinFragments(), p.RecordDevices()-p.W(), listingDevices-(listingDevices/2+1))
}

// ListingSurvives is how many of a listing's devices may fail while it can be read.
func ListingSurvives(devices int) int {
	w := devices/2 + 1
	r := devices - w + 1
	return devices - r
}
