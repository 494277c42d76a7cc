// Package listing keeps tables of rows on one device: the objects of a
// container, its unfinished uploads, the containers of an account.
//
// It is what the container and the account service have in common. It is not
// for quorums (package merge puts the answers of several devices together) nor
// for what a row's value means (package catalog).
//
// Read first: [Store], the rows in the device's volume; [Service], the registers
// and the rows that hang from them; peer.RowQuery, what a page is asked with.
//
// # What is kept
//
// Of every name the newest row by ballot (rule 14), as a row if it is live and as
// a tombstone if it is not. Rows and tombstones lie in key spaces of their own, so
// that a page of names costs its length, however many names were deleted between
// them; the table of versions has a third, so that a name with a hundred thousand
// of them costs a page of current names nothing. INVARIANT: a name is in one of
// them at most.
//
// Key, in all three spaces:
//
//	16 B   hash of the container or account
//	16 B   incarnation of the container; zero for an account
//	1 B    table
//	rest   name
//
// Only in the tables of objects and of containers is that a name as clients know it,
// and nothing besides. The others put more behind it (see catalog.Table):
//
//	uploads   name NUL upload id
//	parts     name NUL upload id NUL part number in five digits
//	versions  name NUL inverted timestamp (24 B) NUL version id
//
// Value:
//
//	1 B    version, 1
//	rest   the row but for its name: catalog.Row's AppendBody
//
// A row of a later version is errs.NotImplemented, anything else that is not a row
// errs.Corrupt. A fourth space holds under the key without a name the vector of
// counters (live rows, their bytes, tombstones; see package volume for its bytes).
// They move in the batch of the row, as merged deltas. The volume's checksums cover
// all of it.
//
// # Paging
//
// A query's names are those with its prefix between its marker and its end
// marker, both left out, in byte order or the reverse of it. Inclusive lets the
// marker itself in.
//
// With a delimiter, a name that contains it after the prefix is not shown: all
// names that are equal up to and including its first occurrence there are rolled
// up into one common prefix, which is shown with the first of their rows in the
// order of the query. A common prefix is a place in the order like a name: the
// names before it come before all of its names, and the names after it after all
// of them. The store seeks over them.
//
// Tables whose keys hold more than a name take no delimiter (errs.Invalid): it might
// be found in an id or among the bytes of a timestamp. The gateway asks for their
// rows by prefix and rolls them up itself.
//
// THE RULE OF THE MARKER. The marker for the next page is the last entry's name
// or, if it is one, its common prefix. To that end, a marker that is itself a
// common prefix of the query (it begins with the prefix, and the first occurrence
// of the delimiter after the prefix is at its very end) stands for all names under
// it, and a query that is not inclusive begins after the last of them (in reverse:
// before the first of them, which needs no rule). Any other marker is only a
// bound: one that lies inside a common prefix shows that prefix if a name under it
// is beyond the marker. Both S3 and Swift page so.
//
// A page may be shorter than its limit, when its bytes are many, but holds at
// least one entry if More is true. More is true if and only if names follow.
//
// # Crash and concurrency
//
// [Store.Put] returns once rows and counters are on stable storage. Each name's
// row is compared and replaced under a lock of that name; rows of different names
// share nothing but the volume's group commit. Put twice is put once. What a
// reader sees is durable. A page is a consistent snapshot of the device.
//
// A caller whose context ends while its batch is being written is let go, but the
// names stay locked until the batch's fate is known: the next writer must not
// count from a state that is about to change.
package listing
