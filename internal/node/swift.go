package node

import "net/http"

// swift returns the handler of the Swift protocol.
func (n *Node) swift([]byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "Swift is not served by this version", http.StatusNotImplemented)
	})
}
