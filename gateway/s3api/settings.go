package s3api

import (
	"encoding/xml"
	"net/http"
	"strings"

	"ringfort/internal/catalog"
)

// setting is a subresource that cannot be set: reading it answers as S3 does when
// it is not set, writing it is accepted where that changes nothing.
type setting struct {
	level   level
	sub     string
	name    string // of the operations, without Get, Put, Delete
	get     func(*request) error
	put     func(*request) error // nil: 501
	deletes bool                 // deleting what is not set is a success
}

// unsetSettings are all of them.
//
// Read only: it is a table, not state.
var unsetSettings = []setting{
	{onBucket, "policy", "BucketPolicy", unset("NoSuchBucketPolicy"), nil, true},
	{onBucket, "policyStatus", "BucketPolicyStatus", unset("NoSuchBucketPolicy"), nil, false},
	{onBucket, "lifecycle", "BucketLifecycleConfiguration", unset("NoSuchLifecycleConfiguration"), nil, true},
	{onBucket, "cors", "BucketCors", unset("NoSuchCORSConfiguration"), nil, true},
	{onBucket, "website", "BucketWebsite", unset("NoSuchWebsiteConfiguration"), nil, true},
	{onBucket, "encryption", "BucketEncryption", unset("ServerSideEncryptionConfigurationNotFoundError"), nil, true},
	{onBucket, "replication", "BucketReplication", unset("ReplicationConfigurationNotFoundError"), nil, true},
	{onBucket, "object-lock", "ObjectLockConfiguration", unset("ObjectLockConfigurationNotFoundError"), nil, false},
	{onBucket, "publicAccessBlock", "PublicAccessBlock", unset("NoSuchPublicAccessBlockConfiguration"), nil, true},
	{onBucket, "versioning", "BucketVersioning", document("VersioningConfiguration", ""), nil, false},
	{onBucket, "accelerate", "BucketAccelerateConfiguration", document("AccelerateConfiguration", ""), nil, false},
	{onBucket, "logging", "BucketLogging", document("BucketLoggingStatus", ""), putEmpty("BucketLoggingStatus"), false},
	{onBucket, "notification", "BucketNotificationConfiguration", document("NotificationConfiguration", ""), putEmpty("NotificationConfiguration"), false},
	{onBucket, "requestPayment", "BucketRequestPayment", document("RequestPaymentConfiguration", "<Payer>BucketOwner</Payer>"), putRequestPayment, false},
	{onBucket, "ownershipControls", "BucketOwnershipControls", document("OwnershipControls", "<Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule>"), putOwnership, false},
	{onBucket, "analytics", "BucketAnalyticsConfiguration", configurations("ListBucketAnalyticsConfigurationResult"), nil, false},
	{onBucket, "inventory", "BucketInventoryConfiguration", configurations("ListInventoryConfigurationsResult"), nil, false},
	{onBucket, "metrics", "BucketMetricsConfiguration", configurations("ListMetricsConfigurationsResult"), nil, false},
	{onBucket, "intelligent-tiering", "BucketIntelligentTieringConfiguration", configurations("ListBucketIntelligentTieringConfigurationsOutput"), nil, false},
	{onKey, "legal-hold", "ObjectLegalHold", unsetOnObject("NoSuchObjectLockConfiguration"), nil, false},
	{onKey, "retention", "ObjectRetention", unsetOnObject("NoSuchObjectLockConfiguration"), nil, false},
}

func unset(code string) func(*request) error {
	return func(q *request) error {
		if _, err := q.container(); err != nil {
			return err
		}
		return refuse(code, "", "BucketName", q.bucket)
	}
}

func unsetOnObject(code string) func(*request) error {
	return func(q *request) error {
		if _, _, err := q.object(); err != nil {
			return err
		}
		return refuse(code, "")
	}
}

// document answers with a fixed document.
func document(root, content string) func(*request) error {
	body := []byte(xmlHeader + "<" + root + " " + namespace + ">" + content + "</" + root + ">")
	return func(q *request) error {
		if _, err := q.container(); err != nil {
			return err
		}
		q.sendXML(http.StatusOK, body)
		return nil
	}
}

// configurations answers for a kind of setting of which a bucket may have many,
// by id: with an empty list, or that there is none of that id.
func configurations(root string) func(*request) error {
	list := document(root, "<IsTruncated>false</IsTruncated>")
	return func(q *request) error {
		if q.query.has("id") {
			return unset("NoSuchConfiguration")(q)
		}
		return list(q)
	}
}

func deleteUnset(q *request) error {
	if _, err := q.container(); err != nil {
		return err
	}
	q.send(http.StatusNoContent)
	return nil
}

// node is any XML element.
type node struct {
	XMLName  xml.Name
	Children []node `xml:",any"`
	Text     string `xml:",chardata"`
}

// putSetting reads the document of a setting that cannot be set and accepts it if
// so says that it asks for what is so.
func (q *request) putSetting(root string, so func(*node) bool) error {
	if _, err := q.container(); err != nil {
		return err
	}
	body, err := q.readBody(maxConfigBytes, false)
	if err != nil {
		return err
	}
	var n node
	if err := decodeXML(body, root, &n); err != nil {
		return err
	}
	if !so(&n) {
		return refuse("NotImplemented", "This setting is not implemented.")
	}
	q.send(http.StatusOK)
	return nil
}

func putEmpty(root string) func(*request) error {
	return func(q *request) error {
		return q.putSetting(root, func(n *node) bool { return len(n.Children) == 0 })
	}
}

func putRequestPayment(q *request) error {
	return q.putSetting("RequestPaymentConfiguration", func(n *node) bool {
		return len(n.Children) == 1 && strings.TrimSpace(n.Children[0].Text) == "BucketOwner"
	})
}

func putOwnership(q *request) error {
	return q.putSetting("OwnershipControls", func(n *node) bool {
		return len(n.Children) == 1 && len(n.Children[0].Children) == 1 &&
			strings.TrimSpace(n.Children[0].Children[0].Text) == "BucketOwnerEnforced"
	})
}

// Access control lists: everything is its owner's.

func getBucketACL(q *request) error {
	c, err := q.container()
	if err != nil {
		return err
	}
	q.sendACL(ownerOf(c.Account))
	return nil
}

func getObjectACL(q *request) error {
	c, _, err := q.object()
	if err != nil {
		return err
	}
	q.sendACL(ownerOf(c.Account))
	return nil
}

func (q *request) sendACL(o *owner) {
	b := q.h.buffer()
	defer q.h.release(b)
	x := append((*b)[:0], xmlHeader+"<AccessControlPolicy "+namespace+">"...)
	x = appendOwner(x, "Owner", o)
	x = append(x, `<AccessControlList><Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser">`...)
	x = appendElement(x, "ID", o.id)
	x = appendElement(x, "DisplayName", o.name)
	x = append(x, "</Grantee><Permission>FULL_CONTROL</Permission></Grant></AccessControlList></AccessControlPolicy>"...)
	*b = x
	q.sendXML(http.StatusOK, x)
}

func putBucketACL(q *request) error {
	c, err := q.container()
	if err != nil {
		return err
	}
	return q.putACL(c)
}

func putObjectACL(q *request) error {
	c, _, err := q.object()
	if err != nil {
		return err
	}
	return q.putACL(c)
}

// putACL accepts a list that grants the owner everything and others nothing.
func (q *request) putACL(c *catalog.Container) error {
	body, err := q.readBody(maxConfigBytes, false)
	if err != nil {
		return err
	}
	if canned := q.header("X-Amz-Acl"); canned != "" { // its value was checked
		if len(body) > 0 {
			return refuse("InvalidRequest", "Specifying both Canned ACLs and Header Grants is not allowed")
		}
		q.send(http.StatusOK)
		return nil
	}
	if len(body) == 0 {
		return refuse("MissingSecurityHeader", "Your request was missing a required header", "MissingHeaderName", "x-amz-acl")
	}
	var acl struct {
		Grants []struct {
			Grantee struct {
				ID string
			}
			Permission string
		} `xml:"AccessControlList>Grant"`
	}
	if err := decodeXML(body, "AccessControlPolicy", &acl); err != nil {
		return err
	}
	if len(acl.Grants) != 1 || acl.Grants[0].Grantee.ID != ownerOf(c.Account).id || acl.Grants[0].Permission != "FULL_CONTROL" {
		return refuse("NotImplemented", "Access control lists are not implemented.")
	}
	q.send(http.StatusOK)
	return nil
}
