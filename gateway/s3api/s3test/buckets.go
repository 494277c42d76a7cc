package s3test

import (
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"ringfort/gateway/auth"
)

func testBuckets(e *env) {
	name := e.withBucket()
	head, err := e.s3.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &name})
	e.must("HeadBucket", err)
	equal(e, "region", value(head.BucketRegion), e.Region)
	loc, err := e.s3.GetBucketLocation(ctx, &s3.GetBucketLocationInput{Bucket: &name})
	e.must("GetBucketLocation", err)
	if e.Region == "us-east-1" {
		equal(e, "location", loc.LocationConstraint, "")
	}
	_, err = e.s3.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &name})
	e.wantCode("CreateBucket again", err, "BucketAlreadyOwnedByYou")

	e.put("k", []byte("x"))
	_, err = e.s3.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: &name})
	e.wantCode("DeleteBucket with an object", err, "BucketNotEmpty")
	_, err = e.s3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &name, Key: aws.String("k")})
	e.must("DeleteObject", err)
	_, err = e.s3.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: &name})
	e.must("DeleteBucket", err)

	_, err = e.s3.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &name})
	e.wantCode("HeadBucket of a deleted one", err, "NotFound")
	_, err = e.s3.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: &name})
	e.wantCode("DeleteBucket of a deleted one", err, "NoSuchBucket")
	_, err = e.s3.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &name})
	e.wantCode("ListObjectsV2 of a deleted one", err, "NoSuchBucket")
	_, err = e.s3.PutObject(ctx, &s3.PutObjectInput{Bucket: &name, Key: aws.String("k"), Body: strings.NewReader("x")})
	e.wantCode("PutObject into a deleted one", err, "NoSuchBucket")

	// A name is free again, and nothing of the old bucket shows.
	_, err = e.s3.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &name, CreateBucketConfiguration: &types.CreateBucketConfiguration{
		LocationConstraint: types.BucketLocationConstraint(e.Region),
	}})
	e.must("CreateBucket of a deleted name", err)
	list, err := e.s3.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &name})
	e.must("ListObjectsV2", err)
	equal(e, "objects in a new bucket", len(list.Contents), 0)
}

func testBucketNames(e *env) {
	long := strings.Repeat("a", 64)
	for _, name := range []string{
		"ab", long, "Upper", "under_score", "-front", "back-", ".front", "two..dots", "192.168.5.4", "xn--a", "a-s3alias", "with%20space", "a!b",
	} {
		a := e.do(call{method: "PUT", path: "/" + name})
		if a.status != http.StatusBadRequest || a.code != "InvalidBucketName" {
			e.t.Errorf("CreateBucket %s: %d %s, want 400 InvalidBucketName", name, a.status, a.code)
			e.do(call{method: "DELETE", path: "/" + name})
		}
	}
	e.wantAnswer("GET of a bad name", call{method: "GET", path: "/Bad_Name"}, 400, "InvalidBucketName")
	for _, name := range []string{newName()[:3] + newName()[20:], "a.b-c." + newName(), "1" + newName()} {
		if _, err := e.s3.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &name}); err != nil {
			e.t.Errorf("CreateBucket %s: %v", name, err)
			continue
		}
		_, err := e.s3.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: &name})
		e.must("DeleteBucket "+name, err)
	}
}

func testListBuckets(e *env) {
	prefix := newName()
	names := []string{prefix + "-a", prefix + "-b", prefix + "-c"}
	for _, n := range names {
		_, err := e.s3.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &n})
		e.must("CreateBucket", err)
		e.t.Cleanup(func() { e.remove(n) })
	}
	all, err := e.s3.ListBuckets(ctx, &s3.ListBucketsInput{})
	e.must("ListBuckets", err)
	seen := 0
	for i, b := range all.Buckets {
		if i > 0 && *all.Buckets[i-1].Name >= *b.Name {
			e.t.Errorf("%s is listed behind %s", *b.Name, *all.Buckets[i-1].Name)
		}
		if strings.HasPrefix(*b.Name, prefix) {
			seen++
			if b.CreationDate == nil || b.CreationDate.IsZero() {
				e.t.Errorf("%s has no creation date", *b.Name)
			}
		}
	}
	equal(e, "buckets listed", seen, len(names))
	if value(all.Owner).ID == nil || len(*all.Owner.ID) != 64 {
		e.t.Errorf("owner %+v", all.Owner)
	}
	var got []string
	var token *string
	for range 5 {
		page, err := e.s3.ListBuckets(ctx, &s3.ListBucketsInput{Prefix: &prefix, MaxBuckets: ptr[int32](2), ContinuationToken: token})
		e.must("ListBuckets, a page", err)
		if len(page.Buckets) > 2 {
			e.t.Fatalf("%d buckets on a page of 2", len(page.Buckets))
		}
		for _, b := range page.Buckets {
			got = append(got, *b.Name)
		}
		if token = page.ContinuationToken; token == nil {
			break
		}
	}
	equal(e, "buckets by pages", strings.Join(got, " "), strings.Join(names, " "))
	e.wantAnswer("max-buckets=0", call{method: "GET", path: "/?max-buckets=0"}, 400, "InvalidArgument")
	e.wantAnswer("a bad token", call{method: "GET", path: "/?continuation-token=xyz"}, 400, "InvalidArgument")
}

func testOtherAccount(e *env) {
	if e.OtherAccessKey == "" {
		e.t.Skip("no second account")
	}
	other := e.client(e.OtherAccessKey, e.OtherSecretKey)
	name := e.withBucket()
	e.put("k", []byte("secret"))
	_, err := other.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &name})
	e.wantCode("CreateBucket of another's", err, "BucketAlreadyExists")
	_, err = other.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &name})
	e.wantCode("HeadBucket of another's", err, "Forbidden")
	_, err = other.GetObject(ctx, &s3.GetObjectInput{Bucket: &name, Key: aws.String("k")})
	e.wantCode("GetObject of another's", err, "AccessDenied")
	_, err = other.PutObject(ctx, &s3.PutObjectInput{Bucket: &name, Key: aws.String("k"), Body: strings.NewReader("x")})
	e.wantCode("PutObject to another's", err, "AccessDenied")
	_, err = other.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: &name})
	e.wantCode("DeleteBucket of another's", err, "AccessDenied")
	mine := newName()
	_, err = other.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &mine})
	e.must("CreateBucket by the other", err)
	defer other.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: &mine})
	_, err = other.CopyObject(ctx, &s3.CopyObjectInput{Bucket: &mine, Key: aws.String("k"), CopySource: aws.String(name + "/k")})
	e.wantCode("CopyObject of another's", err, "AccessDenied")
	list, err := other.ListBuckets(ctx, &s3.ListBucketsInput{})
	e.must("ListBuckets", err)
	for _, b := range list.Buckets {
		if *b.Name == name {
			e.t.Errorf("another account's bucket is listed")
		}
	}
	e.wantBody("k", []byte("secret"))
}

func testExpectedOwner(e *env) {
	b := e.withBucket()
	list, err := e.s3.ListBuckets(ctx, &s3.ListBucketsInput{MaxBuckets: ptr[int32](1)})
	e.must("ListBuckets", err)
	id := *list.Owner.ID
	_, err = e.s3.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &b, ExpectedBucketOwner: &id})
	e.must("HeadBucket with its owner", err)
	wrong := auth.CanonicalID("nobody at all")
	e.wantAnswer("another owner", call{method: "GET", path: "/" + b, header: map[string]string{"x-amz-expected-bucket-owner": wrong}}, 403, "AccessDenied")
	e.put("k", []byte("x"))
	_, err = e.s3.CopyObject(ctx, &s3.CopyObjectInput{Bucket: &b, Key: aws.String("k2"), CopySource: aws.String(b + "/k"), ExpectedSourceBucketOwner: &wrong})
	e.wantCode("CopyObject from another owner's", err, "AccessDenied")
}

func testBucketTagging(e *env) {
	b := e.withBucket()
	_, err := e.s3.GetBucketTagging(ctx, &s3.GetBucketTaggingInput{Bucket: &b})
	e.wantCode("GetBucketTagging of none", err, "NoSuchTagSet")
	set := []types.Tag{{Key: aws.String("team"), Value: aws.String("storage & co")}, {Key: aws.String("ünï"), Value: aws.String("")}}
	_, err = e.s3.PutBucketTagging(ctx, &s3.PutBucketTaggingInput{Bucket: &b, Tagging: &types.Tagging{TagSet: set[1:]}})
	e.must("PutBucketTagging", err)
	_, err = e.s3.PutBucketTagging(ctx, &s3.PutBucketTaggingInput{Bucket: &b, Tagging: &types.Tagging{TagSet: []types.Tag{{Key: aws.String("a&b"), Value: aws.String("c")}}}})
	e.wantCode("PutBucketTagging with a bad key", err, "InvalidTag")
	set[0].Value = aws.String("storage + co")
	_, err = e.s3.PutBucketTagging(ctx, &s3.PutBucketTaggingInput{Bucket: &b, Tagging: &types.Tagging{TagSet: set}})
	e.must("PutBucketTagging", err)
	got, err := e.s3.GetBucketTagging(ctx, &s3.GetBucketTaggingInput{Bucket: &b})
	e.must("GetBucketTagging", err)
	wantTags(e, got.TagSet, set)
	_, err = e.s3.DeleteBucketTagging(ctx, &s3.DeleteBucketTaggingInput{Bucket: &b})
	e.must("DeleteBucketTagging", err)
	_, err = e.s3.GetBucketTagging(ctx, &s3.GetBucketTaggingInput{Bucket: &b})
	e.wantCode("GetBucketTagging of none", err, "NoSuchTagSet")
}

func wantTags(e *env, got, want []types.Tag) {
	e.t.Helper()
	if len(got) != len(want) {
		e.t.Fatalf("%d tags, want %d", len(got), len(want))
	}
	for i := range want {
		equal(e, "tag's key", *got[i].Key, *want[i].Key)
		equal(e, "tag's value", *got[i].Value, *want[i].Value)
	}
}

// testSettings: what cannot be set answers as S3 does when it is not set, what is
// so anyway can be asked for, and the rest is not implemented.
func testSettings(e *env) {
	b := e.withBucket()
	for _, c := range []struct {
		sub    string
		status int
		want   string // code of the error, or a part of the body
	}{
		{"policy", 404, "NoSuchBucketPolicy"}, {"policyStatus", 404, "NoSuchBucketPolicy"},
		{"lifecycle", 404, "NoSuchLifecycleConfiguration"}, {"cors", 404, "NoSuchCORSConfiguration"},
		{"website", 404, "NoSuchWebsiteConfiguration"}, {"encryption", 404, "ServerSideEncryptionConfigurationNotFoundError"},
		{"replication", 404, "ReplicationConfigurationNotFoundError"}, {"object-lock", 404, "ObjectLockConfigurationNotFoundError"},
		{"publicAccessBlock", 404, "NoSuchPublicAccessBlockConfiguration"}, {"analytics&id=x", 404, "NoSuchConfiguration"},
		{"versioning", 200, "<VersioningConfiguration "}, {"accelerate", 200, "<AccelerateConfiguration "},
		{"logging", 200, "<BucketLoggingStatus "}, {"notification", 200, "<NotificationConfiguration "},
		{"requestPayment", 200, "<Payer>BucketOwner</Payer>"}, {"ownershipControls", 200, "BucketOwnerEnforced"},
		{"acl", 200, "<Permission>FULL_CONTROL</Permission>"}, {"inventory", 200, "<IsTruncated>false</IsTruncated>"},
		{"metadataTable", 501, "NotImplemented"}, {"session", 501, "NotImplemented"},
	} {
		a := e.do(call{method: "GET", path: "/" + b + "?" + c.sub})
		if a.status != c.status || c.status != 200 && a.code != c.want || !strings.Contains(string(a.body), c.want) {
			e.t.Errorf("GET ?%s: %d %s, want %d %s", c.sub, a.status, a.body, c.status, c.want)
		}
	}
	v, err := e.s3.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: &b})
	e.must("GetBucketVersioning", err)
	equal(e, "versioning", v.Status, "")
	for _, c := range []struct {
		sub, body string
		status    int
	}{
		{"requestPayment", "<RequestPaymentConfiguration><Payer>BucketOwner</Payer></RequestPaymentConfiguration>", 200},
		{"requestPayment", "<RequestPaymentConfiguration><Payer>Requester</Payer></RequestPaymentConfiguration>", 501},
		{"ownershipControls", "<OwnershipControls><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>", 200},
		{"ownershipControls", "<OwnershipControls><Rule><ObjectOwnership>ObjectWriter</ObjectOwnership></Rule></OwnershipControls>", 501},
		{"notification", "<NotificationConfiguration/>", 200},
		{"notification", "<NotificationConfiguration><TopicConfiguration/></NotificationConfiguration>", 501},
		{"logging", "<BucketLoggingStatus></BucketLoggingStatus>", 200},
		{"versioning", "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>", 501},
		{"lifecycle", "<LifecycleConfiguration/>", 501}, {"policy", "{}", 501}, {"cors", "<CORSConfiguration/>", 501},
	} {
		a := e.do(call{method: "PUT", path: "/" + b + "?" + c.sub, body: []byte(c.body)})
		equal(e, "PUT ?"+c.sub+" "+c.body, a.status, c.status)
	}
	for _, sub := range []string{"policy", "lifecycle", "cors", "website", "encryption", "replication", "publicAccessBlock"} {
		e.wantAnswer("DELETE ?"+sub, call{method: "DELETE", path: "/" + b + "?" + sub}, 204, "")
	}
	_, err = e.s3.PutBucketAcl(ctx, &s3.PutBucketAclInput{Bucket: &b, ACL: types.BucketCannedACLPrivate})
	e.must("PutBucketAcl private", err)
	_, err = e.s3.PutBucketAcl(ctx, &s3.PutBucketAclInput{Bucket: &b, ACL: types.BucketCannedACLPublicRead})
	e.wantCode("PutBucketAcl public-read", err, "NotImplemented")
	acl, err := e.s3.GetBucketAcl(ctx, &s3.GetBucketAclInput{Bucket: &b})
	e.must("GetBucketAcl", err)
	if len(acl.Grants) != 1 || *acl.Grants[0].Grantee.ID != *acl.Owner.ID {
		e.t.Fatalf("grants %+v", acl.Grants)
	}
	_, err = e.s3.PutBucketAcl(ctx, &s3.PutBucketAclInput{Bucket: &b, AccessControlPolicy: &types.AccessControlPolicy{Owner: acl.Owner, Grants: acl.Grants}})
	e.must("PutBucketAcl of what GetBucketAcl said", err)
	for sub := range map[string]bool{"policy": true, "tagging": true, "versioning": true} {
		e.wantAnswer("GET ?"+sub+" of no bucket", call{method: "GET", path: "/" + newName() + "?" + sub}, 404, "NoSuchBucket")
	}
	e.wantAnswer("a preflight", call{method: "OPTIONS", path: "/" + b + "/k", plain: true,
		header: map[string]string{"Origin": "http://example.com", "Access-Control-Request-Method": "GET"}}, 403, "AccessForbidden")
}
