package peertest

import (
	"testing"

	"ringfort/internal/peer"
)

func TestFake(t *testing.T) {
	Run(t, func(*testing.T) peer.Node { return NewFake() })
}
