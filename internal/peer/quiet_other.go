//go:build !unix

package peer

import "net"

// quiet cannot be known here: a request that meets a closed connection is sent
// again over a new one.
func quiet(net.Conn) bool { return true }
