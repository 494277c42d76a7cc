// Package catalogtest encodes catalog values in tests, where a value that cannot be
// encoded is the test's own mistake.
//
// Read [Bytes]; there is no more.
package catalogtest

// Value is a value of package catalog.
type Value interface{ Encode() ([]byte, error) }

// Bytes returns the encoding of v. It panics if v has none.
func Bytes(v Value) []byte {
	b, err := v.Encode()
	if err != nil {
		panic(err)
	}
	return b
}
