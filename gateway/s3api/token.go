package s3api

import (
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"

	"ringfort/gateway/ops"
)

// A continuation token is base64url, without padding, of:
//
//	0  1  version, 1
//	1  4  CRC-32 of the name, big-endian: tells a token from anything else
//	5  -  the last name of the page
//
// Clients must not look into it; the checksum guards against mistakes, not
// against forgery, as a name is all that there is to forge.
const tokenVersion = 1

func encodeToken(name string) string {
	b := make([]byte, 5, 5+len(name))
	b[0] = tokenVersion
	binary.BigEndian.PutUint32(b[1:], crc32.ChecksumIEEE([]byte(name)))
	return base64.RawURLEncoding.EncodeToString(append(b, name...))
}

func decodeToken(token string) (string, error) {
	bad := refuse("InvalidArgument", "The continuation token provided is incorrect")
	if len(token) > base64.RawURLEncoding.EncodedLen(5+ops.MaxNameBytes) {
		return "", bad
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(b) < 5 || b[0] != tokenVersion || crc32.ChecksumIEEE(b[5:]) != binary.BigEndian.Uint32(b[1:]) {
		return "", bad
	}
	return string(b[5:]), nil
}
