package ops

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"ringfort/internal/blob"
	"ringfort/internal/catalog"
	"ringfort/internal/errs"
	"ringfort/internal/keyhash"
	"ringfort/internal/peer"
	"ringfort/internal/register"
	"ringfort/internal/timestamp"
)

// The rows of an upload and of its parts. Names hold no NUL.
func uploadRow(name, id string) string { return name + "\x00" + id }
func partRow(name, id string, number int) string {
	return fmt.Sprintf("%s\x00%s\x00%05d", name, id, number)
}

func noUpload(id string) error {
	return errs.New("ops.Upload", errs.NoUpload, "upload %q does not exist; it may have been completed or aborted", id)
}

func (s *Service) uploadKey(c *catalog.Container, name, id string) (*key, error) {
	object, p, err := s.objectKey(c, name)
	if err != nil {
		return nil, err
	}
	return s.uploadOf(object.hash, p, id)
}

// uploadOf returns the register of an upload to an object. It follows from the
// object's hash and the upload's id, which every fragment of its parts carries:
// so a sweeper that finds a fragment finds the upload.
func (s *Service) uploadOf(object keyhash.Hash, p Policy, id string) (*key, error) {
	h := s.secret.Of(keyhash.Upload, string(object[:]), id)
	place, err := s.cluster.Object(p.Name, h)
	if err != nil {
		return nil, err
	}
	return newKey(peer.Objects, h, place, p.Spec.RecordDevices(), p.Spec.Copies()), nil
}

// group returns the blobs' group of an upload, which its id spells.
func (u *Upload) group() timestamp.T {
	g, _ := timestamp.Parse(u.ID)
	return g
}

// CreateUpload begins a multipart upload: Container, Name, ContentType and Meta
// say what will become of it. It fills in ID and Initiated.
func (s *Service) CreateUpload(ctx context.Context, u *Upload) error {
	if err := checkName(u.Name); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	u.ID = s.clock.Now().String()
	u.Initiated = time.UnixMicro(s.now()).UTC()
	k, err := s.uploadKey(u.Container, u.Name, u.ID)
	if err != nil {
		return err
	}
	state := &catalog.Upload{
		State: catalog.UploadOpen, ID: u.group(), Account: u.Container.Account, Container: u.Container.Name, Incarnation: u.Container.Incarnation,
		Name: u.Name, Initiated: u.Initiated.UnixMicro(), ContentType: u.ContentType, Meta: u.Meta,
	}
	rec := register.Record{Epoch: k.place.Epoch}
	if rec.Value, err = state.Encode(); err != nil {
		return err
	}
	out, err := s.proposer.Write(ctx, k.quorum, &register.Update{Record: rec, Op: s.clock.Now()}, timestamp.T{})
	if err != nil {
		return err
	}
	row := catalog.Row{Name: uploadRow(u.Name, u.ID), Ballot: out.Record.Ballot, TS: out.Record.TS, Value: rec.Value}
	if err := s.putTable(ctx, u.Container, catalog.Uploads, []catalog.Row{row}); err != nil {
		return err
	}
	k.settle(out.Record.Ballot)
	return nil
}

func (s *Service) putTable(ctx context.Context, c *catalog.Container, t catalog.Table, rows []catalog.Row) error {
	h := s.containerHash(c.Account, c.Name)
	return s.putContainerRows(ctx, h, listingOf(h, c, t), rows)
}

// uploadState reads an upload's register, errs.NoUpload if there is none.
func (s *Service) uploadState(ctx context.Context, c *catalog.Container, name, id string) (*catalog.Upload, error) {
	if _, err := timestamp.Parse(id); err != nil {
		return nil, noUpload(id)
	}
	k, err := s.uploadKey(c, name, id)
	if err != nil {
		return nil, err
	}
	r, err := s.proposer.Read(ctx, k.forReading(), false)
	if err != nil {
		return nil, err
	}
	if r == nil || r.Tombstone {
		return nil, noUpload(id)
	}
	return catalog.DecodeUpload(r.Value)
}

// Upload returns an upload that is open or was completed; errs.NoUpload if there
// is none or it was aborted.
func (s *Service) Upload(ctx context.Context, c *catalog.Container, name, id string) (*Upload, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	st, err := s.uploadState(ctx, c, name, id)
	if err != nil {
		return nil, err
	}
	if st.State == catalog.UploadAborted {
		return nil, noUpload(id)
	}
	u := uploadFrom(c, id, st)
	u.Done = st.State == catalog.UploadDone
	return u, nil
}

func uploadFrom(c *catalog.Container, id string, st *catalog.Upload) *Upload {
	return &Upload{
		Container: c, Name: st.Name, ID: id, Initiated: time.UnixMicro(st.Initiated).UTC(),
		ContentType: st.ContentType, Meta: st.Meta,
	}
}

// PutPart writes a part. A part uploaded again under its number takes the place
// of the earlier one.
func (s *Service) PutPart(ctx context.Context, p *PutPart) (*catalog.Part, error) {
	u := p.Upload
	if p.Number < 1 || p.Number > MaxParts {
		return nil, errs.New("ops.PutPart", errs.Invalid, "part number %d is not between 1 and %d", p.Number, MaxParts)
	}
	if u.Done {
		return nil, noUpload(u.ID)
	}
	k, pol, err := s.objectKey(u.Container, u.Name)
	if err != nil {
		return nil, err
	}
	id := blob.ID{Group: u.group(), Part: uint32(p.Number), Attempt: rand.Uint64()}
	in := &intake{s: s, ctx: ctx, key: k, policy: pol, body: p.Body, size: p.Size, also: p.Also, max: MaxPartBytes, blobOnly: true}
	st, err := in.store(id)
	if err != nil {
		return nil, err
	}
	part := &catalog.Part{
		Number: p.Number, Attempt: id.Attempt, Size: st.size, ETag: hex.EncodeToString(st.md5[:]),
		Modified: s.now(), Missing: st.missing, Coding: st.coding,
	}
	err = st.check(p.MD5)
	if err == nil && p.Finish != nil {
		err = p.Finish(part)
	}
	if err == nil {
		err = s.enterPart(ctx, u, part)
	}
	if errs.Is(err, errs.OutcomeUnknown) {
		// The part is known, and stays where it is.
		if errs.Is(errors.Unwrap(err), errs.NoUpload) {
			err = errors.Unwrap(err)
		}
		return nil, err
	}
	if err != nil {
		st.drop(ctx)
		return nil, err
	}
	return part, nil
}

// enterPart makes a part known, above what is known under its number. With
// errs.OutcomeUnknown somebody may have found the part already.
func (s *Service) enterPart(ctx context.Context, u *Upload, part *catalog.Part) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	name := partRow(u.Name, u.ID, part.Number)
	old, err := s.getRow(ctx, u.Container, catalog.Parts, name)
	if err != nil {
		return err
	}
	b := s.clock.Above(old.Ballot)
	row := catalog.Row{Name: name, Ballot: b, TS: b, Bytes: part.Size}
	if row.Value, err = part.Encode(); err != nil {
		return err
	}
	if err := s.putTable(ctx, u.Container, catalog.Parts, []catalog.Row{row}); err != nil {
		if !errs.Is(err, errs.NoBucket) {
			err = errs.Wrap("ops.PutPart", errs.OutcomeUnknown, err) // one device may have the row
		}
		return err
	}
	// Looked at after the part is known: an abort that came before would not
	// have found it.
	st, err := s.uploadState(ctx, u.Container, u.Name, u.ID)
	switch {
	case err != nil && !errs.Is(err, errs.NoUpload):
		return errs.Wrap("ops.PutPart", errs.OutcomeUnknown, err)
	case err == nil && st.State == catalog.UploadOpen:
		if old.Value != nil && !begun(st) {
			s.dropPart(ctx, u, old)
		}
		return nil
	case err == nil && begun(st):
		// A completion may have found the part, and may name it.
		return errs.Wrap("ops.PutPart", errs.OutcomeUnknown, noUpload(u.ID))
	}
	row.Deleted, row.Value, row.Bytes = true, nil, 0
	row.Ballot = s.clock.Above(row.Ballot)
	s.putTable(ctx, u.Container, catalog.Parts, []catalog.Row{row})
	return noUpload(u.ID)
}

// begun reports whether somebody ever began to complete an upload. From then on a
// gateway that is slow may make an object of the parts that it found then, whatever
// became of the upload since: none of them may be dropped but behind a fence.
func begun(st *catalog.Upload) bool { return st.ETag != "" }

func (s *Service) dropPart(ctx context.Context, u *Upload, row catalog.Row) {
	part, err := catalog.DecodePart(row.Value)
	if err == nil {
		s.dropParts(ctx, u, []catalog.Part{part})
	}
}

func (s *Service) dropParts(ctx context.Context, u *Upload, parts []catalog.Part) {
	k, pol, err := s.objectKey(u.Container, u.Name)
	if err != nil || len(parts) == 0 {
		return
	}
	ids := make([]blob.ID, len(parts))
	for i, p := range parts {
		ids[i] = blob.ID{Group: u.group(), Part: uint32(p.Number), Attempt: p.Attempt}
	}
	s.dropBlobs(ctx, k, pol, ids)
}

// ListParts returns up to limit parts with numbers above after, and whether
// there are more.
func (s *Service) ListParts(ctx context.Context, u *Upload, after, limit int) ([]catalog.Part, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	rows, more, err := s.scan(ctx, u.Container, catalog.Parts, scanQuery{
		prefix: uploadRow(u.Name, u.ID) + "\x00", marker: partRow(u.Name, u.ID, after), limit: limit,
	})
	if err != nil {
		return nil, false, err
	}
	parts := make([]catalog.Part, len(rows))
	for i, row := range rows {
		if parts[i], err = catalog.DecodePart(row.Value); err != nil {
			return nil, false, err
		}
	}
	return parts, more, nil
}

// ListUploads returns a page of unfinished uploads, by name and id. Its cost is that
// of the page: names that are rolled up are passed over and not read.
func (s *Service) ListUploads(ctx context.Context, c *catalog.Container, q *UploadQuery) (*UploadPage, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	page := &UploadPage{}
	if strings.IndexByte(q.Prefix, 0) >= 0 {
		return page, nil // no name has one, but a row does
	}
	marker := q.begin()
	for {
		rows, more, err := s.scan(ctx, c, catalog.Uploads, scanQuery{prefix: q.Prefix, marker: marker, limit: q.Limit - len(page.Uploads) + 1})
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			marker = row.Name
			name, id, _ := strings.Cut(row.Name, "\x00")
			u := Upload{Container: c, Name: q.common(name)}
			if u.Name != "" {
				marker = behind(u.Name)
				if n := len(page.Uploads); n > 0 && page.Uploads[n-1].ID == "" && page.Uploads[n-1].Name == u.Name {
					continue
				}
			}
			if len(page.Uploads) >= q.Limit {
				page.More = true
				return page, nil
			}
			if u.Name == "" {
				st, err := catalog.DecodeUpload(row.Value)
				if err != nil {
					return nil, err
				}
				u = *uploadFrom(c, id, st)
			}
			page.Uploads = append(page.Uploads, u)
		}
		if !more {
			return page, nil
		}
	}
}

// begin returns the name of the row behind which the query begins.
func (q *UploadQuery) begin() string {
	common := q.common(q.NameMarker)
	switch {
	case q.NameMarker == "":
		return ""
	case common != "": // it was told of, with all under it
		return behind(common)
	case q.IDMarker != "":
		return uploadRow(q.NameMarker, q.IDMarker)
	}
	return behind(q.NameMarker + "\x00")
}

// common returns the common prefix that a name is rolled up into, "" if it is not.
func (q *UploadQuery) common(name string) string {
	rest, ok := strings.CutPrefix(name, q.Prefix)
	head, _, found := strings.Cut(rest, q.Delimiter)
	if !ok || !found || q.Delimiter == "" {
		return ""
	}
	return q.Prefix + head + q.Delimiter
}

// behind returns a marker behind all rows that begin with prefix: no name's UTF-8
// and no id has that byte.
func behind(prefix string) string { return prefix + "\xff" }

// allParts lists every part of an upload.
func (s *Service) allParts(ctx context.Context, u *Upload) (all []catalog.Part, err error) {
	after := 0
	for {
		parts, more, err := s.ListParts(ctx, u, after, peer.MaxPage)
		if err != nil {
			return nil, err
		}
		all = append(all, parts...)
		if !more {
			return all, nil
		}
		after = parts[len(parts)-1].Number
	}
}

var errSuperseded = errors.New("a later write stands")

// CompleteUpload makes an object of an upload's parts. Called again, also by
// another gateway after the first one died half-way or at the same time, it gives
// the same answer.
func (s *Service) CompleteUpload(ctx context.Context, c *Complete) (*catalog.Object, error) {
	k, pol, err := s.objectKey(c.Upload.Container, c.Upload.Name)
	if err != nil {
		return nil, err
	}
	m := &making{s: s, u: c.Upload, key: k, policy: pol, judge: c.Judge}
	if o, err := m.done(ctx); o != nil || err != nil {
		return o, err
	}
	o, err := m.complete(ctx, c)
	if err == nil {
		return o, nil
	}
	// If another request was quicker, its answer is this one's too.
	if o, derr := m.done(ctx); o != nil || errs.Is(derr, errs.NoUpload) {
		return o, derr
	}
	return nil, err
}

// done returns the answer of an upload that was completed, nil if it was not, and
// errs.NoUpload if it was aborted.
func (m *making) done(ctx context.Context) (*catalog.Object, error) {
	ctx, cancel := context.WithTimeout(ctx, m.s.cfg.Timeout)
	defer cancel()
	st, err := m.s.uploadState(ctx, m.u.Container, m.u.Name, m.u.ID)
	switch {
	case err != nil:
		return nil, err
	case st.State == catalog.UploadAborted:
		return nil, noUpload(m.u.ID)
	case st.State != catalog.UploadDone:
		return nil, nil
	}
	return &catalog.Object{Name: m.u.Name, ETag: st.ETag, Size: st.Size, Meta: m.u.Meta}, nil
}

func (m *making) complete(ctx context.Context, c *Complete) (*catalog.Object, error) {
	// Once before, so that what is refused leaves the upload open; and once after,
	// since until then parts may have been replaced, and those before dropped.
	o, _, err := m.assemble(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := m.begin(ctx, o); err != nil {
		return nil, err
	}
	o, parts, err := m.assemble(ctx, c)
	if err != nil {
		m.reopen(ctx)
		return nil, err
	}
	used, err := m.commit(ctx, o, parts)
	switch errs.KindOf(err) {
	case errs.Precondition, errs.Conflict, errs.NotFound:
		m.reopen(ctx) // the client may try again
		return nil, err
	case errs.Swept:
		return nil, noUpload(m.u.ID) // it was aborted
	}
	if err != nil {
		return nil, err
	}
	if err := m.finish(ctx, o); err != nil {
		return nil, err
	}
	m.forget(ctx, used)
	return o, nil
}

// assemble chooses the parts and describes the object that they make.
func (m *making) assemble(ctx context.Context, c *Complete) (*catalog.Object, []catalog.Part, error) {
	have, err := m.s.allParts(ctx, m.u)
	if err != nil {
		return nil, nil, err
	}
	parts, err := c.Choose(have)
	if err != nil {
		return nil, nil, err
	}
	o, err := m.object(parts)
	if err == nil && c.Finish != nil {
		err = c.Finish(o, parts)
	}
	return o, parts, err
}

// making is the completion of one upload.
type making struct {
	s      *Service
	u      *Upload
	key    *key
	policy Policy
	judge  func(*catalog.Object) error
	prior  timestamp.T
	list   []byte // the manifest
}

// object describes the object that the parts make, and writes their list.
func (m *making) object(parts []catalog.Part) (*catalog.Object, error) {
	u := m.u
	if len(parts) == 0 {
		return nil, errs.New("ops.CompleteUpload", errs.Invalid, "an object has at least one part")
	}
	o := &catalog.Object{
		ContainerAccount: u.Container.Account, Container: u.Container.Name, Incarnation: u.Container.Incarnation,
		Name: u.Name, ContentType: u.ContentType, Meta: u.Meta, Modified: m.s.now(), TS: u.group(),
		Layout: catalog.Manifest, PartCount: len(parts),
	}
	sum := md5.New()
	m.list = make([]byte, 0, len(parts)*catalog.ManifestEntrySize)
	for i := range parts {
		p := &parts[i]
		if i > 0 && p.Number <= parts[i-1].Number {
			return nil, errs.New("ops.CompleteUpload", errs.Invalid, "part %d comes after part %d", p.Number, parts[i-1].Number)
		}
		o.Size += p.Size
		switch {
		case p.Size == 0: // it has no blob
		case o.Coding.K == 0:
			o.Coding = p.Coding
		case o.Coding != p.Coding:
			return nil, errs.New("ops.CompleteUpload", errs.Invalid, "part %d was cut into blocks of another size than those before it: upload it again", p.Number)
		}
		o.Missing |= p.Missing // of which part, the list says
		e := catalog.ManifestEntry{End: o.Size, Size: p.Size, Attempt: p.Attempt, Number: uint32(p.Number), Missing: p.Missing, Checksum: p.Checksum}
		raw, err := hex.DecodeString(p.ETag)
		if err != nil || len(raw) != md5.Size {
			return nil, errs.New("ops.CompleteUpload", errs.Corrupt, "part %d has the ETag %q", p.Number, p.ETag)
		}
		copy(e.MD5[:], raw)
		sum.Write(raw)
		if m.list, err = e.AppendTo(m.list); err != nil {
			return nil, err
		}
	}
	if o.Size > MaxObjectBytes*10 {
		return nil, errs.New("ops.CompleteUpload", errs.TooLarge, "%d bytes", o.Size)
	}
	o.ETag = hex.EncodeToString(sum.Sum(nil)) + "-" + strconv.Itoa(len(parts))
	return o, nil
}

// begin moves the upload to Completing, and remembers which record it found: a
// completion that starts again sees whether somebody wrote the object since.
func (m *making) begin(ctx context.Context, o *catalog.Object) error {
	ctx, cancel := context.WithTimeout(ctx, m.s.cfg.Timeout)
	defer cancel()
	r, err := m.s.proposer.Read(ctx, m.key.forReading(), false)
	if err != nil {
		return err
	}
	found := timestamp.T{}
	if r != nil {
		found = r.Op
	}
	return m.change(ctx, func(st *catalog.Upload) error {
		switch st.State {
		case catalog.UploadOpen:
			m.prior = found
			st.State, st.Prior, st.ETag = catalog.UploadCompleting, m.prior, o.ETag
		case catalog.UploadCompleting:
			m.prior = st.Prior
		default:
			return noUpload(m.u.ID)
		}
		return nil
	})
}

// reopen lets an upload take parts again after a completion that was refused.
func (m *making) reopen(ctx context.Context) {
	ctx, cancel := detached(ctx, m.s.cfg.Timeout)
	defer cancel()
	err := m.change(ctx, func(st *catalog.Upload) error {
		if st.State != catalog.UploadCompleting {
			return errSame // another request has gone on
		}
		st.State = catalog.UploadOpen
		return nil
	})
	if err != nil && !errors.Is(err, errSame) {
		m.s.log.Warn("an upload was not opened again", "upload", m.u.ID, "error", err)
	}
}

// finish notes that the object was made. That comes last, and so is true whatever
// the upload's state was.
func (m *making) finish(ctx context.Context, o *catalog.Object) error {
	ctx, cancel := detached(ctx, m.s.cfg.Timeout)
	defer cancel()
	return m.change(ctx, func(st *catalog.Upload) error {
		st.State, st.ETag, st.Size = catalog.UploadDone, o.ETag, o.Size
		return nil
	})
}

// change alters the upload's register.
func (m *making) change(ctx context.Context, fn func(*catalog.Upload) error) error {
	k, err := m.s.uploadKey(m.u.Container, m.u.Name, m.u.ID)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, m.s.cfg.Timeout)
	defer cancel()
	out, err := m.s.proposer.Update(ctx, k.quorum, m.s.clock.Now(), func(cur *register.Record) (*register.Record, error) {
		if cur == nil || cur.Tombstone {
			return nil, noUpload(m.u.ID)
		}
		st, err := catalog.DecodeUpload(cur.Value)
		if err != nil {
			return nil, err
		}
		if err := fn(st); err != nil {
			return nil, err
		}
		value, err := st.Encode()
		return &register.Record{Epoch: k.place.Epoch, Value: value}, err
	})
	if err == nil {
		k.settle(out.Record.Ballot)
	}
	return err
}

// commit writes the object's record and row. It returns the attempts of the parts
// that the object is made of; nil if it cannot be told which those are.
func (m *making) commit(ctx context.Context, o *catalog.Object, parts []catalog.Part) (used map[uint64]bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, m.s.cfg.Timeout)
	defer cancel()
	rec := register.Record{Group: m.u.group(), Epoch: m.key.place.Epoch}
	var list *stored // of the parts, if it is a blob
	if len(m.list) <= m.s.cfg.InlineMax {
		rec.Data, rec.DataLen, rec.DataSum = m.list, len(m.list), xxhash.Sum64(m.list)
	} else if list, err = m.storeList(ctx, o); err != nil {
		return nil, err
	}
	op := m.u.group() // the same over all attempts to complete this upload
	out, err := m.s.proposer.Update(ctx, m.key.quorum, op, func(cur *register.Record) (*register.Record, error) {
		if err := m.mayMake(cur); err != nil {
			return nil, err
		}
		if rec.Value, err = o.Encode(); err != nil {
			return nil, err
		}
		return &rec, nil
	})
	if err == nil {
		used = make(map[uint64]bool, len(parts))
		for _, p := range parts {
			used[p.Attempt] = true
		}
		return used, m.s.acknowledge(ctx, m.key, out.Record)
	}
	if list != nil && !errs.Is(err, errs.OutcomeUnknown) {
		list.drop(ctx)
	}
	if !errors.Is(err, errSuperseded) {
		return nil, err
	}
	return m.made(ctx, o)
}

// storeList writes the list of parts as a blob.
func (m *making) storeList(ctx context.Context, o *catalog.Object) (*stored, error) {
	o.Attempt = rand.Uint64()
	in := &intake{s: m.s, ctx: ctx, key: m.key, policy: m.policy, body: bytes.NewReader(m.list), size: int64(len(m.list)), max: MaxPartBytes, blobOnly: true}
	st, err := in.store(blob.ID{Group: m.u.group(), Attempt: o.Attempt})
	if err != nil {
		return nil, err
	}
	if o.Coding.K != 0 && o.Coding != st.coding {
		st.drop(ctx)
		return nil, errs.New("ops.CompleteUpload", errs.Invalid, "the parts were cut into blocks of another size than they would be now: upload them again")
	}
	o.Layout, o.Coding = catalog.PagedManifest, st.coding
	o.Missing |= st.missing
	return st, nil
}

// mayMake judges whether the object may be written over a record.
func (m *making) mayMake(cur *register.Record) error {
	if cur != nil && cur.Includes(m.u.group()) {
		return errSuperseded // done before
	}
	if cur != nil && cur.Op != m.prior || cur == nil && !m.prior.IsZero() {
		// Somebody wrote since this upload began to complete. Whether an
		// earlier attempt of ours came first cannot be told from here, so
		// nothing may name the parts again: we came just before it.
		if m.judge != nil {
			return errs.New("ops.CompleteUpload", errs.Conflict, "the object was written by another request meanwhile")
		}
		return errSuperseded
	}
	if m.judge == nil {
		return nil
	}
	have, err := m.s.liveObject(cur, m.u.Name)
	if err != nil {
		return err
	}
	return m.judge(have)
}

// made ends a completion that was carried out before, or came just before another
// write: what stands now gets its row, and if it is this upload's object it is
// described in o.
func (m *making) made(ctx context.Context, o *catalog.Object) (used map[uint64]bool, err error) {
	r, err := m.s.proposer.Settle(ctx, m.key.quorum)
	if err != nil || r == nil {
		return nil, err
	}
	if err := m.s.acknowledge(ctx, m.key, r); err != nil {
		return nil, err
	}
	if r.Tombstone || r.Group != m.u.group() {
		return nil, nil
	}
	h, err := m.s.Open(ctx, m.u.Container, m.u.Name)
	if errs.Is(err, errs.NotFound) {
		return nil, nil
	}
	if err != nil || h.record.Group != m.u.group() {
		return nil, err
	}
	*o = *h.Object
	list, _, err := h.Parts(ctx, 0, MaxParts)
	if err != nil {
		return nil, err
	}
	used = make(map[uint64]bool, len(list))
	for i := range list {
		used[list[i].Attempt] = true
	}
	return used, nil
}

// forget removes an upload's rows, and the blobs of the parts that are not in use;
// nil: it is not known which are, and none is removed. What it does not reach is
// swept later.
func (m *making) forget(ctx context.Context, used map[uint64]bool) {
	s, u := m.s, m.u
	ctx, cancel := detached(ctx, s.cfg.Timeout)
	defer cancel()
	prefix := uploadRow(u.Name, u.ID) + "\x00"
	for marker, more := "", true; more; {
		var rows []catalog.Row
		var err error
		if rows, more, err = s.scan(ctx, u.Container, catalog.Parts, scanQuery{prefix: prefix, marker: marker, limit: 1000}); err == nil && len(rows) > 0 {
			marker = rows[len(rows)-1].Name
			s.dropParts(ctx, u, unusedParts(rows, used))
			err = s.putTable(ctx, u.Container, catalog.Parts, s.ended(rows))
		}
		if err != nil {
			s.log.Warn("rows of an upload's parts were left behind", "upload", u.ID, "error", err)
			break
		}
	}
	row, err := s.getRow(ctx, u.Container, catalog.Uploads, uploadRow(u.Name, u.ID))
	if err == nil && row.Name != "" && !row.Deleted {
		err = s.putTable(ctx, u.Container, catalog.Uploads, s.ended([]catalog.Row{row}))
	}
	if err != nil {
		s.log.Warn("the row of an upload was left behind", "upload", u.ID, "error", err)
	}
}

func unusedParts(rows []catalog.Row, used map[uint64]bool) (unused []catalog.Part) {
	if used == nil {
		return nil
	}
	for _, row := range rows {
		if p, err := catalog.DecodePart(row.Value); err == nil && !used[p.Attempt] {
			unused = append(unused, p)
		}
	}
	return unused
}

// ended returns rows that end the given ones: newer than those, whatever clock
// made them.
func (s *Service) ended(rows []catalog.Row) []catalog.Row {
	out := make([]catalog.Row, len(rows))
	for i, r := range rows {
		b := s.clock.Above(r.Ballot)
		out[i] = catalog.Row{Name: r.Name, Ballot: b, TS: b, Deleted: true}
	}
	return out
}

// AbortUpload gives an upload up and frees its parts. One that is being completed
// is aborted too, unless the object is there already.
func (s *Service) AbortUpload(ctx context.Context, u *Upload) error {
	k, pol, err := s.objectKey(u.Container, u.Name)
	if err != nil {
		return err
	}
	m := &making{s: s, u: u, key: k, policy: pol}
	fence := false
	err = m.change(ctx, func(st *catalog.Upload) error {
		if st.State == catalog.UploadDone {
			return noUpload(u.ID)
		}
		st.State, fence = catalog.UploadAborted, begun(st)
		return nil
	})
	if err != nil {
		return err
	}
	if fence {
		ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
		defer cancel()
		r, err := s.proposer.Sweep(ctx, k.quorum, u.group())
		if err != nil {
			return err
		}
		if r != nil && r.Group == u.group() {
			return noUpload(u.ID) // it has become an object
		}
	}
	m.forget(ctx, map[uint64]bool{})
	return nil
}
