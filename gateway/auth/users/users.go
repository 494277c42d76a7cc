// Package users keeps identities: the root identity, which the server was started
// with, and those that were added, which live in a replicated container of the
// cluster like any other data, one object for each access key.
//
// Read [Users] first. Lookups are cached for two seconds, so a change is felt
// everywhere within that time. The secrets of access keys are stored as they are:
// a signature can only be checked by who has the secret.
package users

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"

	"ringfort/gateway/auth"
	"ringfort/gateway/ops"
	"ringfort/internal/catalog"
	"ringfort/internal/errs"
	"ringfort/internal/peer"
)

// Account is the account that owns the system's containers. No user can be in it.
const Account = ".ringfort"

const containerName = "users"

// Store is what Users needs of the operations.
type Store interface {
	CreateContainer(ctx context.Context, want *catalog.Container) (*catalog.Container, bool, error)
	Container(ctx context.Context, account, name string) (*catalog.Container, error)
	Put(ctx context.Context, p *ops.Put) (*catalog.Object, error)
	Open(ctx context.Context, c *catalog.Container, name string) (*ops.Handle, error)
	Delete(ctx context.Context, c *catalog.Container, name string, judge func(*catalog.Object) error) error
	List(ctx context.Context, c *catalog.Container, q *ops.Query) (*ops.Page, error)
}

// User is an access key and whose it is.
type User struct {
	Account   string    `json:"account"`
	Name      string    `json:"name"`
	AccessKey string    `json:"access_key"`
	Secret    string    `json:"secret,omitempty"`
	Enabled   bool      `json:"enabled"`
	Created   time.Time `json:"created"`
}

// Users finds and changes identities. It is safe for concurrent use.
type Users struct {
	store Store
	root  auth.Identity

	mu    sync.Mutex // guards cache
	cache map[string]cached
}

type cached struct {
	id    auth.Identity
	err   error
	until time.Time
}

const (
	cacheTime = 2 * time.Second
	maxCached = 10000
)

// New returns the users of a cluster.
func New(store Store, root auth.Identity) *Users {
	return &Users{store: store, root: root, cache: map[string]cached{}}
}

// Root returns the root identity.
func (u *Users) Root() auth.Identity { return u.root }

// Lookup implements auth.Identities.
func (u *Users) Lookup(ctx context.Context, accessKey string) (auth.Identity, error) {
	if accessKey == u.root.AccessKey {
		return u.root, nil
	}
	if !validKey(accessKey) {
		return auth.Identity{}, auth.Unknown(accessKey)
	}
	u.mu.Lock()
	c, ok := u.cache[accessKey]
	u.mu.Unlock()
	if ok && time.Now().Before(c.until) {
		return c.id, c.err
	}
	until := time.Now().Add(cacheTime)
	user, _, err := u.load(ctx, accessKey)
	switch {
	case errs.Is(err, errs.NotFound) || errs.Is(err, errs.NoBucket):
		c = cached{err: auth.Unknown(accessKey), until: until}
	case err != nil:
		return auth.Identity{}, err
	default:
		c = cached{id: auth.Identity{
			Account: user.Account, User: user.Name, AccessKey: user.AccessKey,
			Secret: user.Secret, Enabled: user.Enabled,
		}, until: until}
	}
	u.mu.Lock()
	if len(u.cache) >= maxCached {
		clear(u.cache) // cheaper than keeping an order
	}
	u.cache[accessKey] = c
	u.mu.Unlock()
	return c.id, c.err
}

// load reads a user, and the ETag that tells it from what others may write.
func (u *Users) load(ctx context.Context, accessKey string) (*User, string, error) {
	c, err := u.store.Container(ctx, Account, containerName)
	if err != nil {
		return nil, "", err
	}
	h, err := u.store.Open(ctx, c, accessKey)
	if err != nil {
		return nil, "", err
	}
	defer h.Close()
	r, err := h.Range(ctx, 0, h.Object.Size)
	if err != nil {
		return nil, "", err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, 64<<10))
	if err != nil {
		return nil, "", err
	}
	var user User
	if err := json.Unmarshal(b, &user); err != nil {
		return nil, "", errs.Wrap("users.load", errs.Corrupt, err)
	}
	return &user, h.Object.ETag, nil
}

var (
	namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$`)
	keyPattern  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{2,127}$`)
)

func validKey(k string) bool { return keyPattern.MatchString(k) }

// Add makes a user, with a new access key and secret where none are given.
func (u *Users) Add(ctx context.Context, user User) (*User, error) {
	const op = "users.Add"
	if !namePattern.MatchString(user.Account) || !namePattern.MatchString(user.Name) {
		return nil, errs.New(op, errs.Invalid, "account and user names are 1 to 64 letters, digits and . _ @ -, the first a letter or digit")
	}
	if user.AccessKey == "" {
		user.AccessKey = newAccessKey()
	}
	if user.Secret == "" {
		user.Secret = newSecret()
	}
	if !validKey(user.AccessKey) || len(user.Secret) < 8 || len(user.Secret) > 128 {
		return nil, errs.New(op, errs.Invalid, "an access key is 3 to 128 letters, digits and . _ -, a secret 8 to 128 characters")
	}
	if user.AccessKey == u.root.AccessKey {
		return nil, errs.New(op, errs.Exists, "access key %s is the root identity's", user.AccessKey)
	}
	user.Enabled, user.Created = true, time.Now().UTC().Truncate(time.Second)
	c, _, err := u.store.CreateContainer(ctx, &catalog.Container{Account: Account, Name: containerName})
	if err != nil {
		return nil, err
	}
	return &user, u.save(ctx, c, &user, func(cur *catalog.Object) error {
		if cur != nil {
			return errs.New(op, errs.Exists, "access key %s is taken", user.AccessKey)
		}
		return nil
	})
}

func (u *Users) save(ctx context.Context, c *catalog.Container, user *User, judge func(*catalog.Object) error) error {
	b, err := json.Marshal(user)
	if err != nil {
		return err
	}
	_, err = u.store.Put(ctx, &ops.Put{
		Container: c, Name: user.AccessKey, Body: strings.NewReader(string(b)), Size: int64(len(b)),
		ContentType: "application/json", Judge: judge,
	})
	u.forget(user.AccessKey)
	return err
}

func (u *Users) forget(accessKey string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.cache, accessKey)
}

// SetEnabled switches an access key on or off.
func (u *Users) SetEnabled(ctx context.Context, accessKey string, on bool) (*User, error) {
	user, etag, err := u.find(ctx, accessKey)
	if err != nil {
		return nil, err
	}
	c, err := u.store.Container(ctx, Account, containerName)
	if err != nil {
		return nil, err
	}
	user.Enabled = on
	return user, u.save(ctx, c, user, func(cur *catalog.Object) error {
		switch {
		case cur == nil:
			return noUser(accessKey)
		case cur.ETag != etag:
			return errs.New("users.SetEnabled", errs.Conflict, "access key %s was changed by another request", accessKey)
		}
		return nil
	})
}

// Remove deletes an access key. What its account holds stays.
func (u *Users) Remove(ctx context.Context, accessKey string) error {
	if _, _, err := u.find(ctx, accessKey); err != nil {
		return err
	}
	c, err := u.store.Container(ctx, Account, containerName)
	if err != nil {
		return err
	}
	defer u.forget(accessKey)
	return u.store.Delete(ctx, c, accessKey, nil)
}

func (u *Users) find(ctx context.Context, accessKey string) (*User, string, error) {
	if accessKey == u.root.AccessKey {
		return nil, "", errs.New("users", errs.Invalid, "access key %s is the root identity's, which is set where the server is started", accessKey)
	}
	user, etag, err := u.load(ctx, accessKey)
	if errs.Is(err, errs.NotFound) || errs.Is(err, errs.NoBucket) {
		return nil, "", noUser(accessKey)
	}
	return user, etag, err
}

func noUser(accessKey string) error {
	return errs.New("users", errs.NotFound, "access key %q does not exist; `ringfort user list` shows those that do", accessKey)
}

// List returns all users, by access key, without their secrets.
func (u *Users) List(ctx context.Context) ([]User, error) {
	c, err := u.store.Container(ctx, Account, containerName)
	if errs.Is(err, errs.NoBucket) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []User
	for marker := ""; ; {
		page, err := u.store.List(ctx, c, &ops.Query{Marker: marker, Limit: peer.MaxPage})
		if err != nil {
			return nil, err
		}
		for _, item := range page.Items {
			marker = item.Name
			user, _, err := u.load(ctx, item.Name)
			if errs.Is(err, errs.NotFound) {
				continue
			}
			if err != nil {
				return nil, err
			}
			user.Secret = ""
			out = append(out, *user)
		}
		if !page.More {
			return out, nil
		}
	}
}

func random(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails since Go 1.24
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b)
}

func newAccessKey() string { return "RF" + random(10)[:16] }
func newSecret() string    { return random(25) }
