package swiftapi

import (
	"context"
	"encoding/hex"
	"strconv"
	"strings"

	"ringfort/gateway/ops"
	"ringfort/internal/catalog"
	"ringfort/internal/errs"
)

// inParts reports whether an object was uploaded in parts over S3. To Swift it is a
// static large object, for its ETag is not the MD5 of its bytes: clients would
// compare them. It is read as it lies, its parts are no objects. A POST may have
// made it a dynamic large object, and then it is that.
func inParts(o *catalog.Object) bool {
	if o.PartCount == 0 {
		return false
	}
	_, dynamic := o.Meta.Lookup(metaManifest)
	return !dynamic
}

// partsContainer is the container in which the list of such an object's parts says
// that they are. Clients delete what the manifest that they overwrite lists, so it
// must not be the name of anything, ever: it is longer than a container's name can
// be, and the answer to any request about it is 404.
var partsContainer = "parts-are-not-objects" + strings.Repeat(".", maxContainerNameBytes)

// partsManifest describes an object's parts as the segments of a static large
// object. With their sizes and MD5s a client can see that it has the same bytes.
func partsManifest(ctx context.Context, o *catalog.Object, h Handle) ([]storedSegment, error) {
	parts, more, err := h.Parts(ctx, 0, ops.MaxParts)
	if err != nil {
		return nil, err
	}
	if more || len(parts) != o.PartCount {
		return nil, errs.New("swiftapi.partsManifest", errs.Corrupt, "%q has not the %d parts that it says", o.Name, o.PartCount)
	}
	modified := string(appendListTime(nil, o.Modified))
	list := make([]storedSegment, 0, len(parts))
	for i := range parts {
		p := &parts[i]
		if p.Size == 0 {
			continue // no segment is empty
		}
		list = append(list, storedSegment{
			Name: "/" + partsContainer + "/" + strconv.Itoa(int(p.Number)), Hash: hex.EncodeToString(p.MD5[:]),
			Bytes: p.Size, ContentType: defaultContentType, LastModified: modified,
		})
	}
	return list, nil
}
