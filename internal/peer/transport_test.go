package peer_test

import (
	"net/http/httptest"
	"testing"
	"time"

	"ringfort/internal/peer"
	"ringfort/internal/peer/peertest"
)

func secret(t testing.TB, text string) peer.Secret {
	s, err := peer.NewSecret([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const testSecret = "the secret of the cluster of the tests"

// served is a node behind HTTP on the loopback.
type served struct {
	node   peer.Node
	peer   *peer.Server
	http   *httptest.Server
	addr   string
	client *peer.Client
}

// serve puts node behind a server and makes a client of it.
func serve(t testing.TB, node peer.Node, sc peer.ServerConfig, cc peer.ClientConfig) *served {
	sc.Secret, cc.Secret = secret(t, testSecret), secret(t, testSecret)
	s := &served{node: node, peer: peer.NewServer(node, sc)}
	s.http = httptest.NewServer(s.peer)
	s.addr = s.http.Listener.Addr().String()
	s.client = peer.NewClient(s.addr, cc)
	t.Cleanup(func() {
		s.client.Close()
		s.stop()
	})
	return s
}

// stop ends the server as a crash would: connections first.
func (s *served) stop() {
	s.http.Listener.Close()
	s.http.CloseClientConnections()
	s.peer.Close()
	s.http.Close()
}

func TestNodeOverHTTP(t *testing.T) {
	peertest.Run(t, func(t *testing.T) peer.Node {
		return serve(t, peertest.NewFake(), peer.ServerConfig{}, peer.ClientConfig{}).client
	})
}

// One connection, tiny buffers and small frames: the same rules.
func TestNodeOverNarrowHTTP(t *testing.T) {
	peertest.Run(t, func(t *testing.T) peer.Node {
		return serve(t, peertest.NewFake(),
			peer.ServerConfig{ReadBufferBytes: 64, QueueBytes: 100, MaxCalls: 40, MaxFrameBytes: 1 << 20},
			peer.ClientConfig{Connections: 1, ReadBufferBytes: 64, QueueBytes: 100, MaxIdleStreams: 1, MaxFrameBytes: 1 << 20},
		).client
	})
}

func TestRemoteOverHTTP(t *testing.T) {
	peertest.Remote{
		Connect: func(t *testing.T, node peer.Node, timeout time.Duration) peertest.Connection {
			s := serve(t, node, peer.ServerConfig{}, peer.ClientConfig{CallTimeout: timeout, CommitTimeout: timeout, StallTimeout: timeout})
			return peertest.Connection{Node: s.client, Stop: s.stop}
		},
	}.Run(t)
}
