package peer

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"ringfort/internal/errs"
)

// MinSecretBytes is the length of the shortest secret that is taken.
const MinSecretBytes = 16

const (
	nonceSize = 32
	macSize   = sha256.Size
)

// Secret is what the nodes of a cluster know and others do not. It prints as
// "[secret]", whatever the verb, so that it cannot slip into a log. The zero
// Secret is none: a server with it refuses everyone.
type Secret struct {
	key [32]byte
	set bool
}

// NewSecret makes a Secret of an operator's bytes, at least MinSecretBytes.
func NewSecret(b []byte) (Secret, error) {
	if len(b) < MinSecretBytes {
		return Secret{}, errs.New("peer.NewSecret", errs.Invalid, "a cluster secret has at least %d bytes, not %d", MinSecretBytes, len(b))
	}
	h := sha256.New()
	io.WriteString(h, "ringfort peer secret\x00")
	h.Write(b)
	s := Secret{set: true}
	h.Sum(s.key[:0])
	return s, nil
}

// Format prints a placeholder.
func (Secret) Format(f fmt.State, _ rune) { io.WriteString(f, "[secret]") }

// LogValue gives slog a placeholder.
func (Secret) LogValue() slog.Value { return slog.StringValue("[secret]") }

// MarshalText gives encoders a placeholder.
func (Secret) MarshalText() ([]byte, error) { return []byte("[secret]"), nil }

func (s *Secret) mac(label string, parts ...[]byte) [macSize]byte {
	return mac(&s.key, label, parts...)
}

// mac is HMAC-SHA256 over a label and parts that cannot run into one another.
func mac(key *[32]byte, label string, parts ...[]byte) (sum [macSize]byte) {
	h := hmac.New(sha256.New, key[:])
	b := append(make([]byte, 0, 256), label...)
	b = append(b, 0)
	for _, p := range parts {
		b = binary.BigEndian.AppendUint32(b, uint32(len(p)))
		b = append(b, p...)
	}
	h.Write(b)
	h.Sum(sum[:0])
	return sum
}

func equalMAC(a [macSize]byte, b []byte) bool { return hmac.Equal(a[:], b) }

func newNonce() (n [nonceSize]byte) {
	rand.Read(n[:]) // never fails since Go 1.24
	return n
}

// hello is the value of the hello header: a nonce and a MAC.
func formatHello(nonce [nonceSize]byte, sum [macSize]byte) string {
	return hex.EncodeToString(nonce[:]) + " " + hex.EncodeToString(sum[:])
}

func parseHello(v string) (nonce [nonceSize]byte, sum [macSize]byte, ok bool) {
	a, b, found := strings.Cut(v, " ")
	if !found || len(a) != 2*nonceSize || len(b) != 2*macSize {
		return nonce, sum, false
	}
	if _, err := hex.Decode(nonce[:], []byte(a)); err != nil {
		return nonce, sum, false
	}
	_, err := hex.Decode(sum[:], []byte(b))
	return nonce, sum, err == nil
}

// transcript is what both sides of a handshake have seen.
type transcript struct {
	token  string
	client [nonceSize]byte
	server [nonceSize]byte
}

func (s *Secret) helloMAC(token string, client [nonceSize]byte) [macSize]byte {
	return s.mac("client hello", []byte(token), client[:])
}

func (s *Secret) over(label string, t *transcript) [macSize]byte {
	return s.mac(label, []byte(t.token), t.client[:], t.server[:])
}

// session opens the session that a finished handshake stands for.
func (s *Secret) session(t *transcript) *session {
	id := s.over("session id", t)
	return &session{id: sessionID(id[:16]), key: s.over("session key", t)}
}
