package swiftapi

import (
	"net/http"
	"strconv"
	"strings"

	"ringfort/gateway/ops"
	"ringfort/internal/catalog"
)

// manageAccount refuses to make or delete an account: that is for administrators.
func manageAccount(*request) error { return refuse(http.StatusForbidden, "") }

func headAccount(q *request) error {
	format, err := q.format()
	if err != nil {
		return err
	}
	if err := q.describeAccount(); err != nil {
		return err
	}
	q.set("Content-Type", format.contentType)
	q.empty(http.StatusNoContent)
	return nil
}

func getAccount(q *request) error {
	p, err := q.listParams()
	if err != nil {
		return err
	}
	if err := q.describeAccount(); err != nil {
		return err
	}
	list, err := q.listAccount(p)
	if err != nil {
		return err
	}
	q.sendListing(p.format, p.format.containers(q.account, list))
	return nil
}

// describeAccount sets the headers that GET and HEAD share.
func (q *request) describeAccount() error {
	a, err := q.h.store.Account(q.ctx, q.owner)
	if err != nil {
		return err
	}
	if a.Deleted {
		return refuse(http.StatusGone, "").with("X-Account-Status", "Deleted")
	}
	st, err := q.h.store.AccountStats(q.ctx, q.owner)
	if err != nil {
		return err
	}
	created := a.Created
	if created == 0 { // never written to
		created = q.h.cfg.Now().UnixMicro()
	}
	q.setStats("X-Account-", &st)
	for name, p := range st.Policies {
		q.setStats("X-Account-Storage-Policy-"+headerToken(name)+"-", &p)
	}
	q.set("X-Timestamp", timestampOf(created))
	q.set("Accept-Ranges", "bytes")
	q.setMeta(a.Meta, "x-account-meta-", "X-Account-Meta-")
	return nil
}

func (q *request) setStats(prefix string, st *ops.Stats) {
	q.set(prefix+"Container-Count", strconv.FormatInt(st.Containers, 10))
	q.set(prefix+"Object-Count", strconv.FormatInt(st.Objects, 10))
	q.set(prefix+"Bytes-Used", strconv.FormatInt(st.Bytes, 10))
}

// headerToken makes a policy's name fit for the name of a header.
func headerToken(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '-', r == '_', r == '.':
			return r
		}
		return '-'
	}, s)
}

func postAccount(q *request) error {
	c, err := metaChange(q.r.Header, "Account")
	if err != nil {
		return err
	}
	_, err = q.h.store.UpdateAccount(q.ctx, q.owner, func(a *catalog.Account) error {
		if a.Deleted {
			return refuse(http.StatusGone, "")
		}
		a.Meta, err = c.apply(a.Meta)
		return err
	})
	if err != nil {
		return err
	}
	q.empty(http.StatusNoContent)
	return nil
}
