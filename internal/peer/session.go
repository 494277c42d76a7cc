package peer

import (
	"encoding/hex"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

type sessionID [16]byte

// session is the right to send fragment requests, held by both sides of an
// upgraded connection while it lasts.
type session struct {
	id   sessionID
	key  [32]byte
	last atomic.Uint64 // client: the counter used last
	seen replayWindow  // server
}

// authorize returns the Authorization value of a new request and its counter.
func (s *session) authorize(method, uri string) (value string, counter uint64) {
	counter = s.last.Add(1)
	n := strconv.FormatUint(counter, 10)
	sum := s.requestMAC(method, uri, n)
	return authScheme + " " + hex.EncodeToString(s.id[:]) + " " + n + " " + hex.EncodeToString(sum[:]), counter
}

func (s *session) requestMAC(method, uri, counter string) [macSize]byte {
	return mac(&s.key, "request", []byte(method), []byte(uri), []byte(counter))
}

// proof is what shows that an answer comes from the session's server.
func (s *session) proof(counter uint64, status int) string {
	sum := mac(&s.key, "answer", strconv.AppendUint(nil, counter, 10), strconv.AppendInt(nil, int64(status), 10))
	return hex.EncodeToString(sum[:])
}

// credentials are a parsed Authorization value.
type credentials struct {
	id      sessionID
	counter uint64
	digits  string // counter as it was written
	sum     [macSize]byte
}

func parseCredentials(v string) (c credentials, ok bool) {
	f := strings.Split(v, " ")
	if len(f) != 4 || f[0] != authScheme || len(f[1]) != 2*len(c.id) || len(f[3]) != 2*macSize {
		return c, false
	}
	if _, err := hex.Decode(c.id[:], []byte(f[1])); err != nil {
		return c, false
	}
	if _, err := hex.Decode(c.sum[:], []byte(f[3])); err != nil {
		return c, false
	}
	var err error
	c.digits = f[2]
	c.counter, err = strconv.ParseUint(f[2], 10, 64)
	return c, err == nil
}

// accept reports whether c authorizes this request, once.
func (s *session) accept(c *credentials, method, uri string) bool {
	sum := s.requestMAC(method, uri, c.digits)
	return equalMAC(sum, c.sum[:]) && s.seen.take(c.counter)
}

// replayWindowSize is how far behind the newest counter a request may arrive.
// Requests of one session overtake one another by no more than the streams that
// a client may have open.
const replayWindowSize = 1024

// replayWindow remembers which of the last counters were used.
type replayWindow struct {
	mu     sync.Mutex // guards the rest
	newest uint64
	used   [replayWindowSize / 64]uint64 // bit n%size: counter n was used
}

// take reports whether n has not been taken before, and takes it.
func (w *replayWindow) take(n uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n > w.newest {
		if n-w.newest >= replayWindowSize {
			clear(w.used[:])
		} else {
			for i := w.newest + 1; i < n; i++ {
				w.used[i%replayWindowSize/64] &^= 1 << (i % 64)
			}
		}
		w.newest = n
		w.used[n%replayWindowSize/64] |= 1 << (n % 64)
		return true
	}
	word, bit := n%replayWindowSize/64, uint64(1)<<(n%64)
	if n == 0 || w.newest-n >= replayWindowSize || w.used[word]&bit != 0 {
		return false
	}
	w.used[word] |= bit
	return true
}
