package s3api

import (
	"sort"
	"strconv"
	"strings"

	"ringfort/gateway/s3api/chunked"
	"ringfort/internal/catalog"
)

// group is a set of kinds of operations, by the headers that they understand.
type group uint32

const (
	onPut          group = 1 << iota // PutObject
	onCopy                           // CopyObject
	onCreateUpload                   // CreateMultipartUpload
	onPart                           // UploadPart
	onPartCopy                       // UploadPartCopy
	onComplete                       // CompleteMultipartUpload
	onGet                            // GetObject, HeadObject
	onAttributes                     // GetObjectAttributes
	onDelete                         // DeleteObject, DeleteObjects
	onCreateBucket                   // CreateBucket
	onList                           // listings
	onACL                            // PutBucketAcl, PutObjectAcl
	onConfig                         // everything else with an XML body
	onOther                          // everything else
)

const (
	onAll    = ^group(0)
	onObject = onPut | onCopy | onCreateUpload // those that give an object its metadata
	onCopies = onCopy | onPartCopy
	onBodies = onPut | onPart | onComplete | onDelete | onConfig | onCreateBucket | onACL | onCreateUpload
)

// headerRule says which operations understand a header and which values ask for
// nothing that we do not have; check nil means any.
type headerRule struct {
	on    group
	check func(op *operation, value string) *Error
}

// headerRules are all x-amz-* headers that may come, but for user metadata and
// checksum values. All others are refused.
//
// Read only: it is a table, not state.
var headerRules = map[string]headerRule{
	// Parts of the signature and of the body's framing.
	"X-Amz-Date":                   {on: onAll},
	"X-Amz-Content-Sha256":         {on: onAll},
	"X-Amz-Security-Token":         {on: onAll},
	"X-Amz-Decoded-Content-Length": {on: onAll},
	"X-Amz-Trailer":                {on: onAll},
	"X-Amz-User-Agent":             {on: onAll},
	"X-Amz-Api-Version":            {on: onAll},
	// Checksums: values are checked where bodies are read.
	"X-Amz-Sdk-Checksum-Algorithm": {on: onAll},
	"X-Amz-Checksum-Algorithm":     {on: onObject | onPart | onPartCopy | onComplete | onConfig | onDelete},
	"X-Amz-Checksum-Type":          {on: onObject | onPart | onComplete},
	"X-Amz-Checksum-Mode":          {on: onGet, check: oneOf("ENABLED", "DISABLED")},

	"X-Amz-Expected-Bucket-Owner":        {on: onAll},
	"X-Amz-Source-Expected-Bucket-Owner": {on: onCopies},
	"X-Amz-Request-Payer":                {on: onAll, check: oneOf("requester")}, // an owner pays anyway

	"X-Amz-Copy-Source":                     {on: onCopies},
	"X-Amz-Copy-Source-Range":               {on: onPartCopy},
	"X-Amz-Copy-Source-If-Match":            {on: onCopies},
	"X-Amz-Copy-Source-If-None-Match":       {on: onCopies},
	"X-Amz-Copy-Source-If-Modified-Since":   {on: onCopies},
	"X-Amz-Copy-Source-If-Unmodified-Since": {on: onCopies},
	"X-Amz-Metadata-Directive":              {on: onCopy},
	"X-Amz-Tagging-Directive":               {on: onCopy},
	"X-Amz-Tagging":                         {on: onObject},
	"X-Amz-Mp-Object-Size":                  {on: onComplete},
	"X-Amz-Object-Attributes":               {on: onAttributes},
	"X-Amz-Max-Parts":                       {on: onAttributes},
	"X-Amz-Part-Number-Marker":              {on: onAttributes},

	// Requests for what is so anyway.
	"X-Amz-Acl":                                       {on: onObject | onCreateBucket | onACL, check: privateACL},
	"X-Amz-Storage-Class":                             {on: onObject, check: storageClass},
	"X-Amz-Object-Ownership":                          {on: onCreateBucket, check: oneOf("BucketOwnerEnforced")},
	"X-Amz-Bucket-Object-Lock-Enabled":                {on: onCreateBucket, check: oneOf("false")},
	"X-Amz-Bypass-Governance-Retention":               {on: onDelete, check: oneOf("true", "false")}, // nothing is retained
	"X-Amz-Object-Lock-Legal-Hold":                    {on: onObject, check: oneOf("OFF")},
	"X-Amz-Optional-Object-Attributes":                {on: onList, check: oneOf("RestoreStatus")}, // nothing is archived
	"X-Amz-Server-Side-Encryption-Bucket-Key-Enabled": {on: onObject, check: oneOf("false")},
}

// oneOf accepts values that ask for nothing we do not have, in either case.
func oneOf(values ...string) func(*operation, string) *Error {
	return func(_ *operation, v string) *Error {
		for _, x := range values {
			if strings.EqualFold(v, x) {
				return nil
			}
		}
		return notImplemented("")
	}
}

// privateACL accepts the canned lists that grant an owner's own objects to no one
// but the owner.
func privateACL(op *operation, v string) *Error {
	switch v {
	case "private":
		return nil
	case "bucket-owner-full-control", "bucket-owner-read":
		if op.accepts&onCreateBucket == 0 {
			return nil
		}
	case "public-read", "public-read-write", "authenticated-read", "aws-exec-read", "log-delivery-write":
	default:
		return invalidArgument("x-amz-acl", v, "")
	}
	return notImplemented("")
}

func storageClass(_ *operation, v string) *Error {
	switch v {
	case "STANDARD":
		return nil
	case "REDUCED_REDUNDANCY", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER",
		"DEEP_ARCHIVE", "OUTPOSTS", "GLACIER_IR", "SNOW", "EXPRESS_ONEZONE", "FSX_OPENZFS", "FSX_ONTAP":
		return notImplemented("")
	}
	return refuse("InvalidStorageClass", "", "StorageClassRequested", v)
}

const (
	amzPrefix  = "X-Amz-"
	metaPrefix = "X-Amz-Meta-"
)

// checkHeaders refuses headers that are too long, and those that ask for what the
// operation does not have.
func (q *request) checkHeaders() error {
	size := len(q.r.URL.RawQuery)
	for name, values := range q.r.Header {
		for _, v := range values {
			size += len(name) + len(v)
		}
		if len(name) < len(amzPrefix) || name[:len(amzPrefix)] != amzPrefix {
			continue
		}
		rule, ok := headerRules[name]
		if !ok && unlistedHeader(name, q.op) {
			continue
		}
		if !ok || rule.on&q.op.accepts == 0 {
			return notImplemented(strings.ToLower(name))
		}
		if rule.check == nil {
			continue
		}
		for _, v := range values {
			if e := rule.check(q.op, v); e != nil {
				if e.Code == "NotImplemented" {
					e = notImplemented(strings.ToLower(name))
				}
				return e
			}
		}
	}
	if size > q.h.cfg.MaxHeaderBytes {
		return refuse("RequestHeaderSectionTooLarge", "", "MaxSizeAllowed", strconv.Itoa(q.h.cfg.MaxHeaderBytes))
	}
	return nil
}

// unlistedHeader reports whether an x-amz-* header is one of those whose names
// are not fixed. Metadata on an operation that stores none is S3's to ignore, and
// some clients send it with every part.
func unlistedHeader(name string, op *operation) bool {
	if strings.HasPrefix(name, metaPrefix) {
		return true
	}
	return strings.HasPrefix(name, "X-Amz-Checksum-") && op.accepts&onBodies != 0
}

// systemHeaders are the headers that are kept and given back as they are, with
// their names in an object's metadata and as a response-* parameter.
var systemHeaders = [...]struct{ header, meta, override string }{
	{"Cache-Control", "cache-control", "response-cache-control"},
	{"Content-Disposition", "content-disposition", "response-content-disposition"},
	{"Content-Encoding", "content-encoding", "response-content-encoding"},
	{"Content-Language", "content-language", "response-content-language"},
	{"Expires", "expires", "response-expires"},
}

const (
	metaUser           = "meta-" // before the name of user metadata, which is in lower case
	metaTagging        = "s3-tagging"
	maxUserMetaBytes   = 2 << 10
	defaultContentType = "binary/octet-stream"
)

// objectMeta reads what a request says of an object beside its bytes: content
// type and metadata, tags included.
func (q *request) objectMeta() (contentType string, meta catalog.Pairs, err error) {
	h := q.r.Header
	if contentType = q.header("Content-Type"); contentType == "" {
		contentType = defaultContentType
	}
	for i := range systemHeaders {
		v := h[systemHeaders[i].header]
		if len(v) == 0 {
			continue
		}
		text := strings.Join(v, ",")
		if systemHeaders[i].header == "Content-Encoding" {
			text = chunked.StoredEncoding(v)
		}
		if text != "" {
			meta = append(meta, catalog.Pair{Name: systemHeaders[i].meta, Value: text})
		}
	}
	size := 0
	for name, values := range h {
		if !strings.HasPrefix(name, metaPrefix) {
			continue
		}
		p := catalog.Pair{Name: metaUser + strings.ToLower(name[len(metaPrefix):]), Value: strings.Join(values, ",")}
		size += len(p.Name) - len(metaUser) + len(p.Value)
		meta = append(meta, p)
	}
	if size > maxUserMetaBytes {
		return "", nil, refuse("MetadataTooLarge", "", "Size", strconv.Itoa(size), "MaxSizeAllowed", strconv.Itoa(maxUserMetaBytes))
	}
	if v := q.header("X-Amz-Tagging"); v != "" {
		tags, err := parseTagHeader(v)
		if err != nil {
			return "", nil, err
		}
		if len(tags) > 0 {
			meta = append(meta, catalog.Pair{Name: metaTagging, Value: tags.encode()})
		}
	}
	sort.Slice(meta, func(i, j int) bool { return meta[i].Name < meta[j].Name })
	return contentType, meta, nil
}

// headerSlots is room for the values of an object's usual headers, so that they
// cost one allocation together.
const headerSlots = 12

// setObjectHeaders puts an object's description into the answer's headers.
func (q *request) setObjectHeaders(o *catalog.Object) {
	h := q.w.Header()
	vals := make([]string, 0, headerSlots)
	set := func(name, value string) {
		vals = append(vals, value)
		h[name] = vals[len(vals)-1 : len(vals) : len(vals)]
	}
	contentType := o.ContentType
	if contentType == "" {
		contentType = defaultContentType
	}
	h["Accept-Ranges"] = acceptRanges
	set("Content-Type", contentType)
	set("Etag", quoteETag(o.ETag))
	set("Last-Modified", httpTime(o.Modified))
	for i := range o.Meta {
		p := &o.Meta[i]
		switch {
		case strings.HasPrefix(p.Name, metaUser):
			// In lower case, as S3 sends it: some clients show the name as it came.
			set("x-amz-"+p.Name, p.Value)
		case p.Name == metaTagging:
			set("X-Amz-Tagging-Count", strconv.Itoa(countTags(p.Value)))
		default:
			for j := range systemHeaders {
				if p.Name == systemHeaders[j].meta {
					set(systemHeaders[j].header, p.Value)
				}
			}
		}
	}
}

var acceptRanges = []string{"bytes"}

// overrides applies the response-* parameters.
func (q *request) overrides() {
	if len(q.query) == 0 {
		return
	}
	h := q.w.Header()
	if v, ok := q.query.lookup("response-content-type"); ok {
		h.Set("Content-Type", v)
	}
	for i := range systemHeaders {
		if v, ok := q.query.lookup(systemHeaders[i].override); ok {
			h.Set(systemHeaders[i].header, v)
		}
	}
}

func quoteETag(etag string) string { return `"` + etag + `"` }
