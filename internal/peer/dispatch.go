package peer

import (
	"context"
	"fmt"
	"slices"

	"ringfort/internal/errs"
	"ringfort/internal/wire"
)

var messageNames = [...]string{
	"", "Learn", "Read", "ReadLeased", "Write", "Prepare", "Settle", "PutRows", "ListRows",
	"GetRows", "ListingStats", "DropBlobs", "Revoke", "Status",
	"DropGroup",
}

// String returns the name of the call.
func (k messageType) String() string {
	if int(k) < len(messageNames) && k > 0 {
		return messageNames[k]
	}
	return fmt.Sprintf("message %d", byte(k))
}

// op is the operation that an error of this call names.
func (k messageType) op() string { return "peer." + k.String() }

// dispatch decodes a request, calls the node and appends the answer to out. A
// page of rows and what is known of names are cut at limit bytes.
func dispatch(ctx context.Context, node Node, kind messageType, payload, out []byte, limit int) ([]byte, error) {
	r := wire.NewReader(payload)
	switch kind {
	case msgLearn, msgRead, msgReadLeased, msgWrite, msgPrepare, msgSettle:
		return dispatchRegisters(ctx, node, kind, &r, out)
	case msgPutRows, msgListRows, msgGetRows, msgListingStats:
		return dispatchRows(ctx, node, kind, &r, out, limit)
	}
	switch kind {
	case msgDropBlobs:
		m := readDropRequest(&r)
		if err := r.Done(); err != nil {
			return out, badPayload(kind.op(), err)
		}
		return out, node.DropBlobs(ctx, m.target, m.owner, m.ids)
	case msgDropGroup:
		m := readDropGroupRequest(&r)
		if err := r.Done(); err != nil {
			return out, badPayload(kind.op(), err)
		}
		return out, node.DropGroup(ctx, m.target, m.owner, m.group)
	case msgRevoke:
		key := readKey(&r)
		if err := r.Done(); err != nil {
			return out, badPayload(kind.op(), err)
		}
		return out, node.Revoke(ctx, key)
	case msgStatus:
		if err := r.Done(); err != nil {
			return out, badPayload(kind.op(), err)
		}
		st, err := node.Status(ctx)
		if err != nil {
			return out, err
		}
		return appendStatus(out, st), nil
	}
	return out, errs.New("peer", errs.NotImplemented, "%v is not known", kind)
}

func dispatchRegisters(ctx context.Context, node Node, kind messageType, r *wire.Reader, out []byte) ([]byte, error) {
	switch kind {
	case msgLearn:
		m := readRegisterHead(r)
		if err := r.Done(); err != nil {
			return out, badPayload(kind.op(), err)
		}
		k, err := node.Learn(ctx, m.target, m.service, m.key)
		if err != nil {
			return out, err
		}
		return appendKnown(out, &k), nil
	case msgRead:
		m := readReadRequest(r)
		if err := r.Done(); err != nil {
			return out, badPayload(kind.op(), err)
		}
		s, err := node.Read(ctx, m.target, m.service, m.key, m.data)
		if err != nil {
			return out, err
		}
		return appendState(slices.Grow(out, stateSize(s.Record)), &s), nil
	case msgReadLeased:
		m := readLeasedRequest(r)
		if err := r.Done(); err != nil {
			return out, badPayload(kind.op(), err)
		}
		s, err := node.ReadLeased(ctx, m.target, m.key, m.holder)
		if err != nil {
			return out, err
		}
		return appendState(out, &s), nil
	case msgWrite:
		m, err := readWriteRequest(r)
		if err != nil {
			return out, err
		}
		a, err := node.Write(ctx, m.target, m.service, m.key, m.record)
		if err != nil {
			return out, err
		}
		return appendAnswer(out, &a), nil
	case msgPrepare:
		m := readPrepareRequest(r)
		if err := r.Done(); err != nil {
			return out, badPayload(kind.op(), err)
		}
		a, err := node.Prepare(ctx, m.target, m.service, m.key, m.ballot, m.sweep)
		if err != nil {
			return out, err
		}
		return appendAnswer(out, &a), nil
	}
	groups := readSettle(r)
	if err := r.Done(); err != nil {
		return out, badPayload(kind.op(), err)
	}
	for i := range groups {
		node.Settle(groups[i].target, groups[i].service, groups[i].done)
	}
	return out, nil
}

func dispatchRows(ctx context.Context, node Node, kind messageType, r *wire.Reader, out []byte, limit int) ([]byte, error) {
	switch kind {
	case msgPutRows:
		m := readPutRowsRequest(r)
		if err := r.Done(); err != nil {
			return out, badPayload(kind.op(), err)
		}
		return out, node.PutRows(ctx, m.target, m.service, m.listing, m.rows)
	case msgListRows:
		m := readListRowsRequest(r)
		if err := r.Done(); err != nil {
			return out, badPayload(kind.op(), err)
		}
		p, err := node.ListRows(ctx, m.target, m.service, &m.query)
		if err != nil {
			return out, err
		}
		return appendPage(out, p, limit), nil
	case msgGetRows:
		m := readGetRowsRequest(r)
		if err := r.Done(); err != nil {
			return out, badPayload(kind.op(), err)
		}
		states, err := node.GetRows(ctx, m.target, m.service, m.listing, m.names)
		if err != nil {
			return out, err
		}
		return appendRowStates(out, states, limit), nil
	}
	m := readListingHead(r)
	if err := r.Done(); err != nil {
		return out, badPayload(kind.op(), err)
	}
	st, err := node.ListingStats(ctx, m.target, m.service, m.listing)
	if err != nil {
		return out, err
	}
	return appendStats(out, &st), nil
}
