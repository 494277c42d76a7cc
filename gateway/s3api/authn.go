package s3api

import (
	"errors"

	"ringfort/gateway/auth"
	"ringfort/gateway/auth/sigv2"
	"ringfort/gateway/auth/sigv4"
	"ringfort/internal/catalog"
	"ringfort/internal/errs"
)

// signed is what a request's signature says about its body.
type signed struct {
	// v4 is nil for a Version 2 signature, which does not cover bodies.
	v4 *sigv4.Verified
}

// authenticate finds out who asks. A request without a signature is refused.
func (q *request) authenticate() error {
	switch {
	case sigv4.Present(q.r):
		return q.authenticateV4()
	case sigv2.Present(q.r):
		return q.authenticateV2()
	}
	return refuse("AccessDenied", "")
}

func (q *request) authenticateV4() error {
	claim, err := q.h.v4.Parse(q.r)
	if err != nil {
		return err
	}
	if claim.SecurityToken != "" {
		return refuse("InvalidToken", "") // there are no temporary credentials
	}
	if err := q.lookup(claim.AccessKey); err != nil {
		return err
	}
	v, err := q.h.v4.Verify(&claim, q.r, q.who.Secret, q.h.cfg.Now())
	if err != nil {
		q.who = auth.Identity{}
		return err
	}
	q.signed.v4 = &v
	return nil
}

func (q *request) authenticateV2() error {
	claim, err := sigv2.Parse(q.r)
	if err != nil {
		return err
	}
	if err := q.lookup(claim.AccessKey); err != nil {
		return err
	}
	bucket := ""
	if q.hosted {
		bucket = q.bucket
	}
	if err := sigv2.Verify(&claim, q.r, bucket, q.who.Secret, q.h.cfg.Now()); err != nil {
		q.who = auth.Identity{}
		return err
	}
	return nil
}

// lookup finds the identity of an access key.
func (q *request) lookup(accessKey string) error {
	who, err := q.h.cfg.Identities.Lookup(q.ctx, accessKey)
	switch {
	case errs.Is(err, errs.Unauthenticated), errs.Is(err, errs.NotFound):
		return refuse("InvalidAccessKeyId", "", "AWSAccessKeyId", accessKey)
	case err != nil:
		return err
	case !who.Enabled:
		return refuse("AccessDenied", "This access key is disabled.")
	}
	q.who = who
	return nil
}

// container finds the request's bucket and checks that the requester may use it.
func (q *request) container() (*catalog.Container, error) {
	return q.containerNamed(q.bucket, "X-Amz-Expected-Bucket-Owner")
}

// containerNamed finds a bucket; ownerHeader names the header that may say whose
// it must be.
func (q *request) containerNamed(bucket, ownerHeader string) (*catalog.Container, error) {
	c, err := q.h.store.Resolve(q.ctx, q.who.Account, bucket)
	if err != nil {
		if errs.Is(err, errs.NoBucket) && !validBucketName(bucket) {
			return nil, refuse("InvalidBucketName", "")
		}
		return nil, err
	}
	if c.Account != q.who.Account {
		return nil, refuse("AccessDenied", "")
	}
	if want := q.header(ownerHeader); want != "" && want != c.Account && want != auth.CanonicalID(c.Account) {
		return nil, refuse("AccessDenied", "")
	}
	return c, nil
}

// header returns a header by its canonical name.
func (q *request) header(name string) string {
	if v := q.r.Header[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// owner is the requester as listings show it.
func (q *request) owner() *owner { return ownerOf(q.who.Account) }

func ownerOf(account string) *owner {
	return &owner{id: auth.CanonicalID(account), name: account}
}

// isTimeout reports whether err is a deadline of the connection.
func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}
