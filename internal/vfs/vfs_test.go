package vfs

import (
	"path/filepath"
	"testing"
)

// Pebble's file system wraps its errors.
func TestIsNotExist(t *testing.T) {
	_, err := Default().Open(filepath.Join(t.TempDir(), "missing"))
	if !IsNotExist(err) {
		t.Errorf("%v does not count as a missing file", err)
	}
}
