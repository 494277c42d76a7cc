//go:build race

package sigv4

// The race detector makes sync.Pool forget at random.
const raceEnabled = true
