package node

import (
	"testing"

	"ringfort/internal/peer"
	"ringfort/internal/volume"
)

// The services' key spaces stay in their ranges: the numbers are on disk.
func TestSpaceNumbers(t *testing.T) {
	first := map[peer.Service]volume.SpaceID{peer.Objects: 1, peer.Containers: 16, peer.Accounts: 32}
	last := map[peer.Service]volume.SpaceID{peer.Objects: 15, peer.Containers: 31, peer.Accounts: 47}
	seen := map[volume.SpaceID]bool{}
	for svc, list := range spaces() {
		for _, s := range list {
			if s.ID < first[svc] || s.ID > last[svc] || seen[s.ID] {
				t.Errorf("service %v: space %d (%s)", svc, s.ID, s.Name)
			}
			seen[s.ID] = true
		}
	}
	want := map[volume.SpaceID]bool{1: true, 2: true, 3: true, 4: false, 5: false, 16: true, 17: true, 18: false,
		19: false, 20: false, 21: false, 32: true, 33: true, 34: false, 36: false, 37: false}
	for _, list := range spaces() {
		for _, s := range list {
			if kept, known := want[s.ID]; !known || kept != s.Kept {
				t.Errorf("space %d (%s), kept %v, is not as it is written on disks", s.ID, s.Name, s.Kept)
			}
		}
	}
	if len(seen) != len(want) {
		t.Errorf("%d spaces, want %d", len(seen), len(want))
	}
}
