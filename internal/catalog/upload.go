package catalog

import "ringfort/internal/timestamp"

// UploadState is where a multipart upload is in its life. The numbers are on disk.
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

// Encode returns u's encoding.
func (u *Upload) Encode() ([]byte, error) {
	e := newEncoder(tagUpload)
	e.enum("state", byte(u.State), byte(UploadOpen), byte(UploadAborted))
	e.timestamp("id", u.ID)
	e.text(u.Account)
	e.text(u.Container)
	e.incarnation(u.Incarnation)
	e.text(u.Name)
	e.number("initiated", u.Initiated)
	e.text(u.ContentType)
	e.pairs(u.Meta)
	e.timestamp("prior", u.Prior)
	e.etag(u.ETag)
	e.number("size", u.Size)
	return e.done("catalog.Upload.Encode")
}

// DecodeUpload reads what Encode wrote.
func DecodeUpload(b []byte) (*Upload, error) {
	const op = "catalog.DecodeUpload"
	d, err := newDecoder(b, tagUpload, op)
	if err != nil {
		return nil, err
	}
	u := &Upload{State: UploadState(d.enum(byte(UploadOpen), byte(UploadAborted))), ID: d.Timestamp()}
	u.Account, u.Container, u.Incarnation = d.String(), d.String(), d.incarnation()
	u.Name = d.String()
	u.Initiated = d.Int64()
	u.ContentType = d.String()
	u.Meta = d.pairs()
	u.Prior = d.Timestamp()
	u.ETag = d.etag()
	u.Size = d.Int64()
	if err := d.done(op); err != nil {
		return nil, err
	}
	return u, nil
}
