package node

import (
	"net/http"

	"ringfort/gateway/swiftapi"
)

// swift returns the handler of the Swift protocol.
func (n *Node) swift(tokens []byte) (http.Handler, error) {
	return swiftapi.New(swiftapi.Config{
		Store: swiftapi.For(n.Ops), Identities: n.Users, TokenKey: tokens,
		Log: n.log, Version: n.cfg.Version, Observe: n.metrics.observeSwift,
	})
}
