//go:build unix

package peer

import (
	"net"
	"syscall"
)

// quiet reports whether an idle connection is still open and nothing has arrived
// on it. A server that closed it meanwhile has said so already, and finding it
// out here saves a request that cannot be sent twice.
func quiet(c net.Conn) bool {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	open := false
	var b [1]byte
	err = raw.Read(func(fd uintptr) bool {
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK)
		open = err == syscall.EAGAIN || err == syscall.EWOULDBLOCK
		return true
	})
	return err == nil && open
}
