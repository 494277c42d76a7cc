package s3api

import (
	"net/http"
	"slices"
	"strings"
)

// operation is one operation of the protocol.
type operation struct {
	name    string // as S3 calls it
	accepts group  // the headers that it understands
	serve   func(q *request) error
}

// level is what a request's path names.
type level uint8

const (
	onService level = iota
	onBucket
	onKey
)

// endpoint is what an operation is found by: sub is the parameter that names a
// subresource, "" if there is none.
type endpoint struct {
	level  level
	method string
	sub    string
}

// subresources are the parameters that choose an operation, those included that
// we have no operation for.
//
// Read only: it is a table, not state.
var subresources = map[string]bool{
	"abac": true, "accelerate": true, "acl": true, "analytics": true, "annotation": true, "attributes": true,
	"cors": true, "delete": true, "encryption": true, "intelligent-tiering": true, "inventory": true,
	"legal-hold": true, "lifecycle": true, "location": true, "logging": true, "metadataConfiguration": true,
	"metadataInventoryTable": true, "metadataJournalTable": true, "metadataTable": true, "metrics": true,
	"notification": true, "object-lock": true, "ownershipControls": true, "policy": true, "policyStatus": true,
	"publicAccessBlock": true, "renameObject": true, "replication": true, "requestPayment": true, "restore": true,
	"retention": true, "select": true, "session": true, "tagging": true, "torrent": true, "uploadId": true,
	"uploads": true, "versioning": true, "versions": true, "website": true,
}

// bareParameters choose nothing by themselves, and may come without a value.
//
// Read only: it is a table, not state.
var bareParameters = map[string]bool{
	"continuation-token": true, "delimiter": true, "encoding-type": true, "fetch-owner": true,
	"id": true, "key-marker": true, "list-type": true, "marker": true, "max-keys": true, "max-uploads": true,
	"max-parts": true, "part-number-marker": true, "partNumber": true, "prefix": true, "start-after": true,
	"upload-id-marker": true, "version-id-marker": true, "versionId": true, "bucket-region": true,
	"max-buckets": true, "quiet": true,
}

// route finds the operation of a request.
func (h *Handler) route(q *request) (*operation, error) {
	at := endpoint{level: onBucket, method: q.r.Method}
	switch {
	case q.key != "":
		at.level = onKey
	case q.bucket == "":
		at.level = onService
	}
	var err error
	if at.sub, err = q.query.subresource(); err != nil {
		return nil, err
	}
	if at.level == onKey {
		if v, ok := q.query.lookup("versionId"); ok && v != "null" {
			return nil, invalidArgument("versionId", v, "Invalid version id specified")
		}
	}
	if at.level == onKey && at.method == http.MethodPut && q.header("X-Amz-Copy-Source") != "" && (at.sub == "" || at.sub == "uploadId") {
		at.sub += "copy"
	}
	if at.level == onBucket && at.method == http.MethodGet && at.sub == "" && q.query.get("list-type") == "2" {
		at.sub = "list-type"
	}
	if op := h.table[at]; op != nil {
		return op, nil
	}
	if at.sub == "" && !strings.Contains(" GET HEAD PUT POST DELETE ", " "+at.method+" ") || at.level == onService {
		return nil, refuse("MethodNotAllowed", "", "ResourceType", "SERVICE")
	}
	return nil, refuse("NotImplemented", "This operation is not implemented.", "Method", q.r.Method, "Subresource", at.sub)
}

// subresource returns the parameter that chooses an operation. Two of them are
// refused, and so is a bare parameter that nobody knows: it may well be one.
func (q query) subresource() (string, error) {
	sub := ""
	for i := range q {
		p := &q[i]
		if !subresources[p.name] {
			if p.bare && !bareParameters[p.name] && !strings.HasPrefix(strings.ToLower(p.name), "x-") {
				return "", refuse("NotImplemented", "This operation is not implemented.", "Subresource", p.name)
			}
			continue
		}
		if sub != "" && sub != p.name {
			names := []string{sub, p.name}
			slices.Sort(names)
			return "", refuse("InvalidArgument", "Conflicting query string parameters: "+strings.Join(names, ", "))
		}
		sub = p.name
	}
	return sub, nil
}

// operations is the table of all operations.
func operations() map[endpoint]*operation {
	t := map[endpoint]*operation{
		{onService, "GET", ""}: {"ListBuckets", onList, listBuckets},

		{onBucket, "PUT", ""}:           {"CreateBucket", onCreateBucket, createBucket},
		{onBucket, "HEAD", ""}:          {"HeadBucket", onOther, headBucket},
		{onBucket, "DELETE", ""}:        {"DeleteBucket", onOther, deleteBucket},
		{onBucket, "GET", ""}:           {"ListObjects", onList, listObjectsV1},
		{onBucket, "GET", "list-type"}:  {"ListObjectsV2", onList, listObjectsV2},
		{onBucket, "GET", "versions"}:   {"ListObjectVersions", onList, listVersions},
		{onBucket, "GET", "location"}:   {"GetBucketLocation", onOther, getBucketLocation},
		{onBucket, "GET", "uploads"}:    {"ListMultipartUploads", onList, listUploads},
		{onBucket, "GET", "tagging"}:    {"GetBucketTagging", onOther, getBucketTagging},
		{onBucket, "PUT", "tagging"}:    {"PutBucketTagging", onConfig, putBucketTagging},
		{onBucket, "DELETE", "tagging"}: {"DeleteBucketTagging", onOther, deleteBucketTagging},
		{onBucket, "POST", "delete"}:    {"DeleteObjects", onDelete, deleteObjects},
		{onBucket, "PUT", "acl"}:        {"PutBucketAcl", onACL | onCreateBucket, putBucketACL},
		{onBucket, "GET", "acl"}:        {"GetBucketAcl", onOther, getBucketACL},

		{onKey, "GET", ""}:             {"GetObject", onGet, getObject},
		{onKey, "HEAD", ""}:            {"HeadObject", onGet, headObject},
		{onKey, "PUT", ""}:             {"PutObject", onPut, putObject},
		{onKey, "PUT", "copy"}:         {"CopyObject", onCopy, copyObject},
		{onKey, "DELETE", ""}:          {"DeleteObject", onDelete, deleteObject},
		{onKey, "GET", "attributes"}:   {"GetObjectAttributes", onAttributes, getAttributes},
		{onKey, "GET", "tagging"}:      {"GetObjectTagging", onOther, getObjectTagging},
		{onKey, "PUT", "tagging"}:      {"PutObjectTagging", onConfig, putObjectTagging},
		{onKey, "DELETE", "tagging"}:   {"DeleteObjectTagging", onOther, deleteObjectTagging},
		{onKey, "GET", "acl"}:          {"GetObjectAcl", onOther, getObjectACL},
		{onKey, "PUT", "acl"}:          {"PutObjectAcl", onACL, putObjectACL},
		{onKey, "POST", "uploads"}:     {"CreateMultipartUpload", onCreateUpload, createUpload},
		{onKey, "PUT", "uploadId"}:     {"UploadPart", onPart, uploadPart},
		{onKey, "PUT", "uploadIdcopy"}: {"UploadPartCopy", onPartCopy, uploadPartCopy},
		{onKey, "POST", "uploadId"}:    {"CompleteMultipartUpload", onComplete, completeUpload},
		{onKey, "DELETE", "uploadId"}:  {"AbortMultipartUpload", onOther, abortUpload},
		{onKey, "GET", "uploadId"}:     {"ListParts", onList, listParts},
	}
	for _, u := range unsetSettings {
		t[endpoint{u.level, "GET", u.sub}] = &operation{"Get" + u.name, onOther, u.get}
		if u.put != nil {
			t[endpoint{u.level, "PUT", u.sub}] = &operation{"Put" + u.name, onConfig, u.put}
		}
		if u.deletes {
			t[endpoint{u.level, "DELETE", u.sub}] = &operation{"Delete" + u.name, onOther, deleteUnset}
		}
	}
	return t
}
