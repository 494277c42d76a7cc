// The AWS SDK for JavaScript, as applications use it today, against one server.
//
// Reads S3_ENDPOINT, S3_BUCKET and the usual AWS_* variables from its environment,
// takes every kind of call once, and ends with status 1 at the first answer that
// is not as it should be. It prints a line for each step.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import {
  AbortMultipartUploadCommand, CopyObjectCommand, CreateBucketCommand, CreateMultipartUploadCommand,
  DeleteBucketCommand, DeleteObjectCommand, DeleteObjectsCommand, DeleteObjectTaggingCommand,
  GetBucketLocationCommand, GetObjectAttributesCommand, GetObjectCommand, GetObjectTaggingCommand,
  HeadBucketCommand, HeadObjectCommand, ListBucketsCommand, ListMultipartUploadsCommand, ListPartsCommand,
  PutObjectCommand, PutObjectTaggingCommand, S3Client, UploadPartCommand, UploadPartCopyCommand,
  CompleteMultipartUploadCommand, paginateListObjectsV2, ListObjectsCommand,
} from "@aws-sdk/client-s3";
import { Upload } from "@aws-sdk/lib-storage";
import { getSignedUrl } from "@aws-sdk/s3-request-presigner";

const endpoint = process.env.S3_ENDPOINT;
const Bucket = process.env.S3_BUCKET;
const bigBytes = Number(process.env.S3_BIG_BYTES ?? 21 * 1024 * 1024 + 17);
const s3 = new S3Client({ endpoint, forcePathStyle: true, region: "us-east-1", maxAttempts: 1 });

const steps = [];
const step = (name, run) => steps.push([name, run]);
const send = (Command, input = {}) => s3.send(new Command({ Bucket, ...input }));
const text = async (answer) => answer.Body.transformToString();
const md5 = (data) => createHash("md5").update(data).digest("hex");
const codeOf = async (promise) => {
  try {
    await promise;
  } catch (e) {
    return e.name === "NotFound" ? "404" : e.name;
  }
  return "no error";
};

step("buckets", async () => {
  await send(CreateBucketCommand);
  await send(HeadBucketCommand);
  await send(GetBucketLocationCommand);
  const { Buckets } = await s3.send(new ListBucketsCommand({}));
  assert.ok(Buckets.some((b) => b.Name === Bucket));
});

step("objects of every small size", async () => {
  for (const size of [0, 1, 4096, 65535, 65536, 65537, 200000]) {
    const Body = randomBytes(size);
    const put = await send(PutObjectCommand, { Key: `size/${size}`, Body });
    assert.equal(put.ETag, `"${md5(Body)}"`);
    const got = await send(GetObjectCommand, { Key: `size/${size}` });
    assert.deepEqual(Buffer.from(await got.Body.transformToByteArray()), Body);
  }
});

step("names with odd characters", async () => {
  const keys = ["a b", "ü/日本", "plus+and%20", "q?x=1&y=2", "#;:@,'()*!", "//double//slash/", "..", "a/../b", "~tilde", "\u{1F600}"];
  for (const Key of keys) {
    await send(PutObjectCommand, { Key: `odd/${Key}`, Body: Key });
    assert.equal(await text(await send(GetObjectCommand, { Key: `odd/${Key}` })), Key);
  }
  const listed = [];
  for await (const page of paginateListObjectsV2({ client: s3, pageSize: 3 }, { Bucket, Prefix: "odd/" })) {
    listed.push(...(page.Contents ?? []).map((o) => o.Key.slice("odd/".length)));
  }
  assert.deepEqual(new Set(listed), new Set(keys));
});

step("metadata and headers", async () => {
  const Key = "meta";
  await send(PutObjectCommand, {
    Key, Body: "x", Metadata: { colour: "blue", shape: "round" }, ContentType: "text/x-e2e",
    CacheControl: "no-cache", ContentDisposition: "attachment", ContentLanguage: "en", ContentEncoding: "identity",
  });
  const head = await send(HeadObjectCommand, { Key });
  assert.deepEqual(head.Metadata, { colour: "blue", shape: "round" });
  assert.equal(head.ContentType, "text/x-e2e");
  assert.equal(head.CacheControl, "no-cache");
  assert.equal(head.ContentDisposition, "attachment");
  assert.equal(head.ContentLanguage, "en");
  const got = await send(GetObjectCommand, { Key, ResponseContentType: "text/other" });
  assert.equal(got.ContentType, "text/other");
});

for (const ChecksumAlgorithm of ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"]) {
  step(`checksum ${ChecksumAlgorithm}`, async () => {
    const Key = `checksum/${ChecksumAlgorithm}`;
    const put = await send(PutObjectCommand, { Key, Body: "checked", ChecksumAlgorithm });
    const got = await send(GetObjectCommand, { Key, ChecksumMode: "ENABLED" });
    assert.ok(got[`Checksum${ChecksumAlgorithm}`]);
    assert.equal(got[`Checksum${ChecksumAlgorithm}`], put[`Checksum${ChecksumAlgorithm}`]);
    assert.equal(await text(got), "checked");
    const attributes = await send(GetObjectAttributesCommand, { Key, ObjectAttributes: ["Checksum", "ObjectSize", "ETag"] });
    assert.equal(attributes.ObjectSize, 7);
    assert.equal(attributes.Checksum[`Checksum${ChecksumAlgorithm}`], put[`Checksum${ChecksumAlgorithm}`]);
  });
}

step("a wrong checksum is refused", async () => {
  const bad = send(PutObjectCommand, { Key: "bad", Body: "bytes", ChecksumSHA256: createHash("sha256").update("other").digest("base64") });
  assert.match(await codeOf(bad), /BadDigest|XAmzContentChecksumMismatch|InvalidRequest/);
  assert.equal(await codeOf(send(HeadObjectCommand, { Key: "bad" })), "404");
});

step("ranges and conditions", async () => {
  const Key = "range";
  const { ETag } = await send(PutObjectCommand, { Key, Body: "0123456789" });
  const part = await send(GetObjectCommand, { Key, Range: "bytes=2-4" });
  assert.equal(part.ContentRange, "bytes 2-4/10");
  assert.equal(await text(part), "234");
  assert.equal(await text(await send(GetObjectCommand, { Key, Range: "bytes=-3" })), "789");
  assert.equal(await codeOf(send(GetObjectCommand, { Key, Range: "bytes=10-" })), "InvalidRange");
  assert.equal(await text(await send(GetObjectCommand, { Key, IfMatch: ETag })), "0123456789");
  assert.equal(await codeOf(send(GetObjectCommand, { Key, IfMatch: '"none"' })), "PreconditionFailed");
  const unchanged = await send(GetObjectCommand, { Key, IfNoneMatch: ETag }).catch((e) => e);
  assert.equal(unchanged.$metadata.httpStatusCode, 304);
});

step("copies", async () => {
  await send(PutObjectCommand, { Key: "from ü", Body: "copied", Metadata: { a: "1" } });
  const CopySource = `${Bucket}/${encodeURIComponent("from ü")}`;
  await send(CopyObjectCommand, { Key: "to", CopySource });
  assert.deepEqual((await send(HeadObjectCommand, { Key: "to" })).Metadata, { a: "1" });
  await send(CopyObjectCommand, { Key: "to", CopySource, MetadataDirective: "REPLACE", Metadata: { b: "2" } });
  const got = await send(GetObjectCommand, { Key: "to" });
  assert.deepEqual(got.Metadata, { b: "2" });
  assert.equal(await text(got), "copied");
});

step("tags", async () => {
  const Key = "tags";
  await send(PutObjectCommand, { Key, Body: "x", Tagging: "k=v%20w" });
  assert.deepEqual((await send(GetObjectTaggingCommand, { Key })).TagSet, [{ Key: "k", Value: "v w" }]);
  await send(PutObjectTaggingCommand, { Key, Tagging: { TagSet: [{ Key: "x", Value: "y" }] } });
  assert.deepEqual((await send(GetObjectTaggingCommand, { Key })).TagSet, [{ Key: "x", Value: "y" }]);
  await send(DeleteObjectTaggingCommand, { Key });
  assert.deepEqual((await send(GetObjectTaggingCommand, { Key })).TagSet ?? [], []);
});

step("listings", async () => {
  for (let i = 0; i < 25; i++) {
    await send(PutObjectCommand, { Key: `list/d${i % 5}/${i}`, Body: "x" });
  }
  const prefixes = [];
  for await (const page of paginateListObjectsV2({ client: s3, pageSize: 2 }, { Bucket, Prefix: "list/", Delimiter: "/" })) {
    prefixes.push(...(page.CommonPrefixes ?? []).map((p) => p.Prefix));
  }
  assert.deepEqual(prefixes, ["list/d0/", "list/d1/", "list/d2/", "list/d3/", "list/d4/"]);
  const old = await send(ListObjectsCommand, { Prefix: "list/", MaxKeys: 7 });
  assert.equal(old.Contents.length, 7);
  assert.equal(old.IsTruncated, true);
  const next = await send(ListObjectsCommand, { Prefix: "list/", Marker: old.Contents[6].Key });
  assert.equal(next.Contents.length, 18);
});

step("an upload in parts", async () => {
  const Key = "parts";
  const { UploadId } = await send(CreateMultipartUploadCommand, { Key });
  const first = randomBytes(5 * 1024 * 1024);
  const one = await send(UploadPartCommand, { Key, UploadId, PartNumber: 1, Body: first });
  await send(PutObjectCommand, { Key: "source", Body: "0123456789" });
  const two = await send(UploadPartCopyCommand, { Key, UploadId, PartNumber: 2, CopySource: `${Bucket}/source`, CopySourceRange: "bytes=0-4" });
  assert.equal((await send(ListPartsCommand, { Key, UploadId })).Parts.length, 2);
  assert.equal((await send(ListMultipartUploadsCommand)).Uploads.length, 1);
  // Completed without the parts' checksums, as many programs do.
  const Parts = [{ PartNumber: 1, ETag: one.ETag }, { PartNumber: 2, ETag: two.CopyPartResult.ETag }];
  const done = await send(CompleteMultipartUploadCommand, { Key, UploadId, MultipartUpload: { Parts } });
  assert.match(done.ETag, /-2"$/);
  const got = await send(GetObjectCommand, { Key, PartNumber: 2 });
  assert.equal(await text(got), "01234");
  const all = Buffer.from(await (await send(GetObjectCommand, { Key })).Body.transformToByteArray());
  assert.equal(md5(all), md5(Buffer.concat([first, Buffer.from("01234")])));
  const doomed = await send(CreateMultipartUploadCommand, { Key: "doomed" });
  await send(AbortMultipartUploadCommand, { Key: "doomed", UploadId: doomed.UploadId });
  assert.equal(await codeOf(send(ListPartsCommand, { Key: "doomed", UploadId: doomed.UploadId })), "NoSuchUpload");
});

step("the transfer manager", async () => {
  const Body = randomBytes(bigBytes);
  await new Upload({ client: s3, params: { Bucket, Key: "big", Body }, partSize: 5 * 1024 * 1024, queueSize: 4 }).done();
  const got = await send(GetObjectCommand, { Key: "big" });
  const hash = createHash("md5");
  for await (const piece of got.Body) hash.update(piece);
  assert.equal(hash.digest("hex"), md5(Body));
});

step("presigned URLs", async () => {
  const put = await getSignedUrl(s3, new PutObjectCommand({ Bucket, Key: "presigned" }), { expiresIn: 60 });
  const answer = await fetch(put, { method: "PUT", body: "by URL" });
  assert.equal(answer.status, 200, await answer.text());
  const get = await getSignedUrl(s3, new GetObjectCommand({ Bucket, Key: "presigned" }), { expiresIn: 60 });
  assert.equal(await (await fetch(get)).text(), "by URL");
  const tampered = await fetch(get.replace("presigned?", "meta?"));
  // An answer that is not read to its end holds its connection, and so this process,
  // until the server gives it up.
  assert.match(await tampered.text(), /<Code>SignatureDoesNotMatch</);
  assert.equal(tampered.status, 403);
});

step("errors by name", async () => {
  assert.equal(await codeOf(send(GetObjectCommand, { Key: "none" })), "NoSuchKey");
  assert.equal(await codeOf(s3.send(new ListObjectsCommand({ Bucket: Bucket + "-none" }))), "NoSuchBucket");
  assert.equal(await codeOf(send(DeleteBucketCommand)), "BucketNotEmpty");
  assert.equal(await codeOf(send(CreateBucketCommand)), "BucketAlreadyOwnedByYou");
});

step("cleaning up", async () => {
  await send(DeleteObjectCommand, { Key: "never there" });
  for await (const page of paginateListObjectsV2({ client: s3 }, { Bucket })) {
    const Objects = (page.Contents ?? []).map(({ Key }) => ({ Key }));
    if (Objects.length === 0) continue;
    const { Errors } = await send(DeleteObjectsCommand, { Delete: { Objects } });
    assert.deepEqual(Errors ?? [], []);
  }
  await send(DeleteBucketCommand);
});

let failed = 0;
for (const [name, run] of steps) {
  try {
    await run();
    console.log(`ok   ${name}`);
  } catch (e) {
    failed++;
    const where = e.stack?.split("\n").find((line) => line.includes("client.mjs")) ?? "";
    console.log(`FAIL ${name}: ${e.name}: ${e.message}${where}`);
  }
}
s3.destroy();
process.exitCode = failed ? 1 : 0;
