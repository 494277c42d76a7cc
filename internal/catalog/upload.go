package catalog

import (
	"encoding/binary"

	"ringfort/internal/timestamp"
	"ringfort/internal/wire"
)

// UploadState is where a multipart upload is in its life.
type UploadState byte

const (
	// UploadOpen takes parts.
	UploadOpen UploadState = 1
	// UploadCompleting has begun to become an object, and will.
	UploadCompleting UploadState = 2
	// UploadDone has become an object.
	UploadDone UploadState = 3
	// UploadAborted was given up.
	UploadAborted UploadState = 4
)

// Upload is the value of a multipart upload's register.
type Upload struct {
	State       UploadState
	ID          timestamp.T // the group of its parts' blobs; its hexadecimal form is the upload's id
	Account     string      // owner of the container
	Container   string
	Incarnation Incarnation
	Name        string
	Initiated   int64 // µs since 1970
	ContentType string
	Meta        Pairs // what the object will have
	// Prior is the operation that had made the object's record when the upload
	// began to complete; zero: there was no record. A record by any other than
	// this and the upload itself came later, and stands.
	Prior timestamp.T
	// ETag and Size are the object's, once done.
	ETag string
	Size int64
}

// AppendTo appends u's encoding.
func (u *Upload) AppendTo(b []byte) []byte {
	b = append(b, byte(tagUpload), byte(u.State))
	b = u.ID.AppendTo(b)
	b = wire.AppendString(b, u.Account)
	b = wire.AppendString(b, u.Container)
	b = append(b, u.Incarnation[:]...)
	b = wire.AppendString(b, u.Name)
	b = binary.AppendUvarint(b, uint64(u.Initiated))
	b = wire.AppendString(b, u.ContentType)
	b = u.Meta.appendTo(b)
	b = u.Prior.AppendTo(b)
	b = wire.AppendString(b, u.ETag)
	return binary.AppendUvarint(b, uint64(u.Size))
}

// DecodeUpload reads what AppendTo wrote.
func DecodeUpload(b []byte) (*Upload, error) {
	const op = "catalog.DecodeUpload"
	r := wire.NewReader(b)
	if err := checkTag(&r, tagUpload, op); err != nil {
		return nil, err
	}
	u := &Upload{State: UploadState(r.Byte()), ID: r.Timestamp(), Account: r.String(), Container: r.String()}
	copy(u.Incarnation[:], r.Fixed(16))
	u.Name = r.String()
	u.Initiated = int64(r.Uvarint())
	u.ContentType = r.String()
	u.Meta = readPairs(&r)
	u.Prior = r.Timestamp()
	u.ETag = r.String()
	u.Size = int64(r.Uvarint())
	return u, done(&r, op)
}
