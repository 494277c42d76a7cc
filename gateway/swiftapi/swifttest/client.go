package swifttest

import (
	"bufio"
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// client speaks to one account.
type client struct {
	t     *testing.T
	http  *http.Client
	url   string // the account's
	token string
}

// in returns the client for a subtest.
func (c *client) in(t *testing.T) *client {
	d := *c
	d.t = t
	return &d
}

// answer is what came back, its body read.
type answer struct {
	t      *testing.T
	what   string
	status int
	header http.Header
	body   string
	length int64 // as stated; -1 if it was not
}

// request is one request; header lines are "Name: value".
func (c *client) do(method, path string, body io.Reader, header ...string) *answer {
	c.t.Helper()
	r, err := http.NewRequest(method, c.url+path, body)
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("X-Auth-Token", c.token)
	for _, h := range header {
		name, value, _ := strings.Cut(h, ":")
		if name == "X-Auth-Token" {
			r.Header.Del(name)
		}
		r.Header[http.CanonicalHeaderKey(name)] = append(r.Header[http.CanonicalHeaderKey(name)], strings.TrimSpace(value))
	}
	if r.Header.Get("X-Auth-Token") == "-" {
		r.Header.Del("X-Auth-Token")
	}
	resp, err := c.http.Do(r)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("%s %s: reading the answer: %v", method, path, err)
	}
	a := &answer{c.t, method + " " + path, resp.StatusCode, resp.Header, string(b), resp.ContentLength}
	if !strings.HasPrefix(resp.Header.Get("X-Trans-Id"), "tx") || resp.Header.Get("X-Openstack-Request-Id") != resp.Header.Get("X-Trans-Id") {
		c.t.Errorf("%s: no transaction id", a.what)
	}
	return a
}

func (c *client) get(path string, header ...string) *answer {
	c.t.Helper()
	return c.do("GET", path, nil, header...)
}

func (c *client) head(path string, header ...string) *answer {
	c.t.Helper()
	return c.do("HEAD", path, nil, header...)
}

func (c *client) post(path string, header ...string) *answer {
	c.t.Helper()
	return c.do("POST", path, nil, header...)
}

func (c *client) delete(path string, header ...string) *answer {
	c.t.Helper()
	return c.do("DELETE", path, nil, header...)
}

func (c *client) put(path, body string, header ...string) *answer {
	c.t.Helper()
	return c.do("PUT", path, strings.NewReader(body), header...)
}

// is checks the status.
func (a *answer) is(status int) *answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("%s: status %d, want %d: %s", a.what, a.status, status, a.body)
	}
	return a
}

// has checks headers: "Name: value", or "Name:" for one that must not be there.
func (a *answer) has(lines ...string) *answer {
	a.t.Helper()
	for _, l := range lines {
		name, want, _ := strings.Cut(l, ":")
		if got, want := a.header.Get(name), strings.TrimSpace(want); got != want {
			a.t.Errorf("%s: %s is %q, want %q", a.what, name, got, want)
		}
	}
	return a
}

// says checks the body.
func (a *answer) says(want string) *answer {
	a.t.Helper()
	if a.body != want {
		a.t.Errorf("%s: body %.300q, want %.300q", a.what, a.body, want)
	}
	return a
}

// holds checks that the body contains a text.
func (a *answer) holds(want string) *answer {
	a.t.Helper()
	if !strings.Contains(a.body, want) {
		a.t.Errorf("%s: body %.500q lacks %q", a.what, a.body, want)
	}
	return a
}

// rows decodes a JSON listing.
func (a *answer) rows() (rows []map[string]any) {
	a.t.Helper()
	if err := json.Unmarshal([]byte(a.body), &rows); err != nil {
		a.t.Fatalf("%s: %v in %q", a.what, err, a.body)
	}
	return rows
}

// container makes a container for a test and empties it in the end.
func (c *client) container(name string) string {
	c.t.Helper()
	path := "/" + url.PathEscape(fmt.Sprintf("swifttest-%s-%d", name, time.Now().UnixNano()))
	if a := c.put(path, ""); a.status != http.StatusCreated {
		c.t.Fatalf("PUT %s: %d %s", path, a.status, a.body)
	}
	t := c.t
	t.Cleanup(func() {
		d := c.in(t)
		for _, row := range d.get(path + "?format=json").rows() {
			d.delete(path + "/" + escape(row["name"].(string)))
		}
		d.delete(path)
	})
	return path
}

// escape encodes a name for a path.
func escape(name string) string { return (&url.URL{Path: "/" + name}).EscapedPath()[1:] }

// md5Of returns the hexadecimal MD5 of the texts put together.
func md5Of(texts ...string) string {
	sum := md5.Sum([]byte(strings.Join(texts, "")))
	return hex.EncodeToString(sum[:])
}

// chunked hides a body's length, so that it is sent in chunks.
func chunked(s string) io.Reader { return io.MultiReader(bytes.NewReader([]byte(s))) }

// raw sends a hand-made request and returns the status line of the answer.
func (c *client) raw(request string) string {
	c.t.Helper()
	u, err := url.Parse(c.url)
	if err != nil {
		c.t.Fatal(err)
	}
	if u.Scheme != "http" {
		c.t.Skip("hand-made requests go over plain HTTP")
	}
	conn, err := net.DialTimeout("tcp", u.Host, 5*time.Second)
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	request = strings.NewReplacer("{account}", u.Path, "{token}", c.token, "\n", "\r\n").Replace(request)
	if _, err := io.WriteString(conn, request); err != nil {
		c.t.Fatal(err)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		c.t.Fatal(err)
	}
	return strings.TrimSpace(line)
}
