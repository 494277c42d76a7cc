package swiftapi

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"ringfort/gateway/auth"
	"ringfort/internal/errs"
)

// loginPrefix is where tempauth answers.
const loginPrefix = "/auth/"

// login answers GET /auth/v1.0 and GET /auth/v1/<account>/auth with a token.
func (q *request) login() error {
	q.op = q.r.Method + " token"
	path := strings.Split(strings.TrimSuffix(strings.TrimPrefix(q.r.URL.Path, loginPrefix), "/"), "/")
	account := ""
	switch {
	case len(path) == 1 && (path[0] == "v1.0" || path[0] == "v1"):
	case len(path) == 2 && path[0] == "v1.0" && path[1] == "auth":
	case len(path) == 3 && path[0] == "v1" && path[1] != "" && path[2] == "auth":
		account = path[1]
	default:
		return refuse(http.StatusBadRequest, "")
	}
	if q.r.Method != http.MethodGet {
		return refuse(http.StatusMethodNotAllowed, "").with("Allow", "GET")
	}
	user, key := q.credentials(&account)
	if account == "" || user == "" || key == "" {
		return unauthorized("unknown")
	}
	who, err := q.find(account, user)
	if err != nil && !errs.Is(err, errs.Unauthenticated) {
		return err
	}
	// An unknown user costs the same comparison as a known one.
	given, want := sha256.Sum256([]byte(key)), sha256.Sum256([]byte(who.Secret))
	same := subtle.ConstantTimeCompare(given[:], want[:]) == 1
	if err != nil || !same || !who.Enabled || who.Account != account || who.Secret == "" {
		return unauthorized(account)
	}
	return q.grant(who)
}

// credentials reads who logs in. The path of the second form may hold the account,
// and then the user's name need not.
func (q *request) credentials(account *string) (user, key string) {
	user, key = q.header("X-Auth-User"), q.header("X-Auth-Key")
	if user == "" {
		user = q.header("X-Storage-User")
	}
	if key == "" {
		key = q.header("X-Storage-Pass")
	}
	named, short, ok := strings.Cut(user, ":")
	switch {
	case !ok:
	case *account == "":
		*account, user = named, short
	case named == *account:
		user = short
	default:
		user = "" // another account than that of the path
	}
	return user, key
}

// find looks a user up, by access key or by name.
func (q *request) find(account, user string) (auth.Identity, error) {
	who, err := q.h.cfg.Identities.Lookup(q.ctx, user)
	byName, ok := q.h.cfg.Identities.(Users)
	if !ok || err != nil && !errs.Is(err, errs.Unauthenticated) || err == nil && who.Account == account {
		return who, err
	}
	return byName.LookupUser(q.ctx, account, user)
}

// grant answers with a token.
func (q *request) grant(who auth.Identity) error {
	life := q.h.cfg.TokenLife
	token, err := q.h.tokens.make(who.Account, who.AccessKey, who.Secret, q.h.cfg.Now().Add(life))
	if err != nil {
		return err
	}
	q.owner = who.Account
	q.set("X-Auth-Token", token)
	q.set("X-Storage-Token", token)
	q.set("X-Auth-Token-Expires", strconv.FormatInt(int64(life.Seconds()), 10))
	q.set("X-Storage-Url", q.base()+"/v1/"+escapePath(accountPrefix+who.Account))
	q.empty(http.StatusOK)
	return nil
}

// base is what storage URLs begin with.
func (q *request) base() string {
	if q.h.cfg.StorageURL != "" {
		return strings.TrimSuffix(q.h.cfg.StorageURL, "/")
	}
	scheme := "http"
	if q.r.TLS != nil {
		scheme = "https"
	}
	if p := strings.ToLower(q.header("X-Forwarded-Proto")); p == "http" || p == "https" {
		scheme = p
	}
	return scheme + "://" + q.r.Host
}

func unauthorized(realm string) *Error {
	realm = strings.Map(func(r rune) rune {
		if r < ' ' || r == '"' || r == '\\' || r > '~' {
			return '_'
		}
		return r
	}, realm)
	return refuse(http.StatusUnauthorized, "").with("WWW-Authenticate", `Swift realm="`+realm+`"`)
}

// authorize finds out who asks, and refuses all but the owner of the account.
func (q *request) authorize() error {
	token := q.header("X-Auth-Token")
	if token == "" {
		token = q.header("X-Storage-Token")
	}
	c, ok := q.h.tokens.read(token)
	if !ok || q.h.cfg.Now().Unix() >= c.expires {
		return unauthorized(q.account)
	}
	who, err := q.h.cfg.Identities.Lookup(q.ctx, c.accessKey)
	if errs.Is(err, errs.Unauthenticated) {
		return unauthorized(q.account)
	}
	if err != nil {
		return err
	}
	secret := q.h.tokens.fingerprint(who.Secret)
	if !who.Enabled || who.Account != c.account || subtle.ConstantTimeCompare(secret[:], c.secret[:]) != 1 {
		return unauthorized(q.account)
	}
	q.who = who
	if q.account != accountPrefix+who.Account {
		return refuse(http.StatusForbidden, "")
	}
	q.owner = who.Account
	return nil
}

// ownAccount refuses any account but the requester's in headers that name one.
func (q *request) ownAccount(header string) error {
	v := q.header(header)
	if v == "" {
		return nil
	}
	name, err := url.PathUnescape(v)
	if err != nil || strings.Contains(name, "/") {
		return refuse(http.StatusPreconditionFailed, "%s cannot contain slashes", header)
	}
	if name != q.account {
		return refuse(http.StatusForbidden, "")
	}
	return nil
}
