package swifttest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Run tests the protocol at an endpoint: authURL is where to log in
// (http://host/auth/v1.0), user is "account:user". It works in containers of its
// own, which it deletes, and leaves other containers alone; counts of the account
// are not looked at, so that it can run beside other tests.
func Run(t *testing.T, authURL, user, key string) {
	c := &client{t: t, http: &http.Client{Timeout: time.Minute}}
	c.login(authURL, user, key)
	for _, test := range []struct {
		name string
		run  func(*client)
	}{
		{"Login", func(c *client) { testLogin(c, authURL, user, key) }},
		{"Public", testPublic}, {"Paths", testPaths}, {"Account", testAccount},
		{"Container", testContainer}, {"ContainerMeta", testContainerMeta}, {"Limits", testLimits},
		{"Listing", testListing}, {"ListingFormats", testFormats}, {"ListingPath", testLevels},
		{"Object", testObject}, {"ObjectMeta", testObjectMeta}, {"ObjectNames", testNames},
		{"PutChecks", testPutChecks}, {"Ranges", testRanges}, {"Conditions", testConditions},
		{"Copy", testCopy}, {"DLO", testDLO}, {"SLO", testSLO}, {"SLOSegments", testSLOSegments},
		{"SLOManifests", testSLOManifests}, {"SLODelete", testSLODelete}, {"BulkDelete", testBulkDelete}, {"NotThere", testNotThere},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(c.in(t)) })
	}
}

func (c *client) login(authURL, user, key string) {
	c.t.Helper()
	c.url = authURL
	a := c.get("", "X-Auth-User: "+user, "X-Auth-Key: "+key).is(http.StatusOK)
	c.url, c.token = a.header.Get("X-Storage-Url"), a.header.Get("X-Auth-Token")
	if c.url == "" || c.token == "" {
		c.t.Fatalf("no storage URL or token: %v", a.header)
	}
}

func testLogin(c *client, authURL, user, key string) {
	account, name, _ := strings.Cut(user, ":")
	at := *c
	at.url = authURL
	a := at.get("", "X-Storage-User: "+user, "X-Storage-Pass: "+key).is(http.StatusOK)
	if a.header.Get("X-Storage-Token") != a.header.Get("X-Auth-Token") || a.header.Get("X-Auth-Token-Expires") == "" {
		c.t.Errorf("headers %v", a.header)
	}
	if !strings.HasSuffix(a.header.Get("X-Storage-Url"), "/v1/AUTH_"+account) {
		c.t.Errorf("storage URL %q", a.header.Get("X-Storage-Url"))
	}
	at.url = strings.TrimSuffix(authURL, "v1.0") + "v1/" + account + "/auth"
	at.get("", "X-Storage-User: "+name, "X-Storage-Pass: "+key).is(http.StatusOK)
	at.get("", "X-Auth-User: other:"+name, "X-Auth-Key: "+key).is(http.StatusUnauthorized)
	at.url = authURL
	for _, bad := range [][]string{
		nil, {"X-Auth-User: " + user}, {"X-Auth-User: " + user, "X-Auth-Key: x" + key},
		{"X-Auth-User: " + name, "X-Auth-Key: " + key}, {"X-Auth-User: nobody:" + name, "X-Auth-Key: " + key},
		{"X-Auth-User: " + account + ":nobody", "X-Auth-Key: " + key},
	} {
		a := at.get("", bad...).is(http.StatusUnauthorized)
		if !strings.HasPrefix(a.header.Get("Www-Authenticate"), "Swift realm=") {
			c.t.Errorf("WWW-Authenticate: %q", a.header.Get("Www-Authenticate"))
		}
	}
	for _, token := range []string{"-", "AUTH_tk", "AUTH_tk0", c.token + "A", c.token[:len(c.token)-3] + "AAA", strings.Repeat("A", 5000)} {
		a := c.get("", "X-Auth-Token: "+token).is(http.StatusUnauthorized)
		if !strings.HasPrefix(a.header.Get("Www-Authenticate"), `Swift realm="AUTH_`) {
			c.t.Errorf("WWW-Authenticate: %q", a.header.Get("Www-Authenticate"))
		}
	}
	c.get("", "X-Auth-Token: -", "X-Storage-Token: "+c.token).is(http.StatusOK + emptyAccount(c))
	other := *c
	other.url += "x"
	other.get("").is(http.StatusForbidden)
	other.get("", "X-Auth-Token: -").is(http.StatusUnauthorized)
	other.put("/c", "").is(http.StatusForbidden)
}

// emptyAccount returns what an empty text listing adds to 200.
func emptyAccount(c *client) int {
	if c.get("").status == http.StatusNoContent {
		return http.StatusNoContent - http.StatusOK
	}
	return 0
}

func (c *client) root() *client {
	u, err := url.Parse(c.url)
	if err != nil {
		c.t.Fatal(err)
	}
	d := *c
	d.url = u.Scheme + "://" + u.Host
	return &d
}

func testPublic(c *client) {
	r := c.root()
	r.get("/healthcheck", "X-Auth-Token: -").is(200).says("OK")
	r.get("/crossdomain.xml", "X-Auth-Token: -").is(200).holds("cross-domain-policy")
	a := r.get("/info", "X-Auth-Token: -").is(200)
	var info map[string]map[string]any
	if err := json.Unmarshal([]byte(a.body), &info); err != nil {
		c.t.Fatal(err)
	}
	for _, name := range []string{"swift", "tempauth", "slo", "dlo", "bulk_delete"} {
		if info[name] == nil {
			c.t.Errorf("/info lacks %s", name)
		}
	}
	for _, name := range []string{"tempurl", "formpost", "bulk_upload", "staticweb", "symlink", "versioned_writes", "object_versioning", "container_quotas", "account_quotas", "container_sync"} {
		if info[name] != nil {
			c.t.Errorf("/info advertises %s", name)
		}
	}
	r.post("/info", "X-Auth-Token: -").is(405)
	if r.head("/info").is(200).body != "" {
		c.t.Error("HEAD with a body")
	}
}

func testPaths(c *client) {
	c.get("//object").is(412).holds("Bad URL")
	c.get("/c%00/o").is(412)
	c.get("/c/%ff").is(412)
	c.get("?prefix=%ff").is(400)
	c.get("?prefix=%zz").is(400)
	c.do("PATCH", "", nil).is(405).has("Allow: DELETE, GET, HEAD, OPTIONS, POST, PUT")
	c.do("COPY", "/c", nil).is(405)
	c.do("PATCH", "/c/o", nil).is(405).has("Allow: COPY, DELETE, GET, HEAD, OPTIONS, POST, PUT")
	c.do("OPTIONS", "/c/o", nil, "X-Auth-Token: -").is(200).has("Allow: COPY, DELETE, GET, HEAD, OPTIONS, POST, PUT")
	c.do("OPTIONS", "/c/o", nil, "X-Auth-Token: -", "Origin: http://x", "Access-Control-Request-Method: GET").is(401)
	long := strings.Repeat("x", 257)
	c.put("/"+long, "").is(400)
	c.get("/" + long).is(404)
	c.put("/nowhere/"+strings.Repeat("x", 1025), "").is(400)
	c.get("/nowhere/" + strings.Repeat("x", 1025)).is(404)
	c.get("/nowhere").is(404).has("Content-Type: text/html; charset=UTF-8").holds("<h1>Not Found</h1>")
	c.head("/nowhere").is(404)
	c.post("/nowhere", "X-Container-Meta-A: b").is(404)
	c.post("/nowhere").is(404)
	c.delete("/nowhere").is(404)
	c.put("/nowhere/o", "x").is(404)
	c.get("/nowhere/o").is(404)
	c.delete("/nowhere/o").is(404)
	c.post("/nowhere/o").is(404)
}

var stamp = regexp.MustCompile(`^\d{10}\.\d{5}$`)

func testAccount(c *client) {
	path := c.container("account")
	c.put(path+"/o", "12345").is(201)
	a := c.head("").is(204)
	for _, name := range []string{"X-Account-Container-Count", "X-Account-Object-Count", "X-Account-Bytes-Used"} {
		if a.header.Get(name) == "" {
			c.t.Errorf("no %s", name)
		}
	}
	policy := c.head(path).header.Get("X-Storage-Policy")
	token := regexp.MustCompile(`[^A-Za-z0-9._-]`).ReplaceAllString(policy, "-")
	if a.header.Get("X-Account-Storage-Policy-"+token+"-Bytes-Used") == "" {
		c.t.Errorf("no bytes of policy %q in %v", policy, a.header)
	}
	if !stamp.MatchString(a.header.Get("X-Timestamp")) {
		c.t.Errorf("X-Timestamp %q", a.header.Get("X-Timestamp"))
	}
	c.put("", "").is(403)
	c.delete("").is(403)
	c.post("", "X-Account-Meta-Swifttest-One: 1", "X-Account-Meta-Swifttest-Two: ü").is(204)
	c.post("", "X-Account-Meta-Swifttest-Three: 3", "X-Remove-Account-Meta-Swifttest-One: x").is(204)
	c.head("").has("X-Account-Meta-Swifttest-One:", "X-Account-Meta-Swifttest-Two: ü", "X-Account-Meta-Swifttest-Three: 3")
	c.post("", "X-Account-Meta-Swifttest-Two:", "X-Account-Meta-Swifttest-Three:").is(204)
	c.get("").is(200).has("X-Account-Meta-Swifttest-Two:", "X-Account-Meta-Swifttest-Three:").holds(path[1:] + "\n")
	rows := c.get("?format=json&prefix=" + path[1:]).is(200).rows()
	if len(rows) != 1 || rows[0]["name"] != path[1:] || rows[0]["count"] != 1.0 || rows[0]["bytes"] != 5.0 {
		c.t.Errorf("rows %v", rows)
	}
	if _, err := time.Parse("2006-01-02T15:04:05.000000", fmt.Sprint(rows[0]["last_modified"])); err != nil {
		c.t.Error(err)
	}
	c.get("?format=xml&prefix=" + path[1:]).is(200).holds(`<container><name>` + path[1:] + `</name><count>1</count><bytes>5</bytes><last_modified>`)
	c.get("?format=json&delimiter=-&prefix=swifttest").is(200).says(`[{"subdir":"swifttest-"}]`)
	c.get("?format=json&prefix=swifttest-account&marker=" + path[1:]).says(`[]`)
	c.get("?prefix=swifttest-account&marker=" + path[1:]).is(204)
	c.get("?prefix=" + path[1:] + "&limit=1&reverse=true").says(path[1:] + "\n")
}

func testContainer(c *client) {
	path := c.container("container")
	c.put(path, "").is(202)
	a := c.head(path).is(204).has("X-Container-Object-Count: 0", "X-Container-Bytes-Used: 0")
	policy := a.header.Get("X-Storage-Policy")
	if policy == "" || !stamp.MatchString(a.header.Get("X-Timestamp")) || a.header.Get("Last-Modified") == "" {
		c.t.Errorf("headers %v", a.header)
	}
	c.put(path, "", "X-Storage-Policy: "+policy).is(202)
	c.put(path, "", "X-Storage-Policy: no such policy").is(400)
	c.put(path+"new", "", "X-Storage-Policy: no such policy").is(400)
	c.head(path + "new").is(404)
	c.get(path).is(204)
	c.get(path + "/").is(204).has("X-Storage-Policy: " + policy)
	c.put(path+"/a", "123").is(201)
	c.put(path+"/b", "45").is(201)
	c.head(path).has("X-Container-Object-Count: 2", "X-Container-Bytes-Used: 5")
	c.delete(path).is(409)
	c.delete(path + "/a").is(204)
	c.delete(path + "/b").is(204)
	c.delete(path).is(204)
	c.delete(path).is(404)
	c.put(path+"/a", "x").is(404)
	c.put(path, "", "X-Container-Meta-Again: yes").is(201)
	c.head(path).has("X-Container-Object-Count: 0", "X-Container-Meta-Again: yes")
	c.get(path).is(204)
}

func testContainerMeta(c *client) {
	path := c.container("meta")
	c.post(path, "X-Container-Meta-Shape: round", "X-Container-Meta-Two-Words: a b").is(204)
	c.post(path, "X-Container-Meta-Size: big").is(204)
	c.head(path).has("X-Container-Meta-Shape: round", "X-Container-Meta-Size: big", "X-Container-Meta-Two-Words: a b")
	c.put(path, "", "X-Container-Meta-Size: small").is(202)
	c.get(path).has("X-Container-Meta-Shape: round", "X-Container-Meta-Size: small")
	c.post(path, "X-Remove-Container-Meta-Shape: x", "X-Container-Meta-Size:").is(204)
	c.head(path).has("X-Container-Meta-Shape:", "X-Container-Meta-Size:", "X-Container-Meta-Two-Words: a b")
}

func testLimits(c *client) {
	path := c.container("limits")
	c.put(path+"/o", "x").is(201)
	many := func(prefix string, n, value int) (h []string) {
		for i := range n {
			h = append(h, fmt.Sprintf("%s%02d: %s", prefix, i, strings.Repeat("v", value)))
		}
		return h
	}
	for _, at := range []struct{ path, prefix string }{
		{"", "X-Account-Meta-"}, {path, "X-Container-Meta-"}, {path + "/o", "X-Object-Meta-"},
	} {
		for _, bad := range [][]string{
			{at.prefix + ": x"},
			{at.prefix + strings.Repeat("n", 129) + ": x"},
			{at.prefix + "N: " + strings.Repeat("v", 257)},
			{at.prefix + "N: \xff"},
			many(at.prefix, 91, 1),
			many(at.prefix, 17, 256),
		} {
			c.post(at.path, bad...).is(400)
		}
	}
	c.post(path, many("X-Container-Meta-A", 50, 1)...).is(204)
	c.post(path, many("X-Container-Meta-B", 41, 1)...).is(400) // together
	c.post(path, many("X-Container-Meta-B", 40, 1)...).is(204)
	c.post(path+"/o", "X-Object-Meta-"+strings.Repeat("n", 128)+": "+strings.Repeat("v", 256)).is(202)
	c.put(path+"/o", "x", "X-Object-Meta-"+strings.Repeat("n", 129)+": x").is(400)
	c.get(path, "X-Long: "+strings.Repeat("v", 9000)).is(400)
}

// testNotThere: what this server does not have is refused, not ignored.
func testNotThere(c *client) {
	path := c.container("not-there")
	c.put(path+"/o", "x").is(201)
	for _, h := range []string{
		"X-Delete-At: 9999999999", "X-Delete-After: 100", "X-Symlink-Target: c/o",
	} {
		c.put(path+"/o", "y", h).is(501)
		c.post(path+"/o", h).is(501)
	}
	for _, h := range []string{
		"X-Container-Read: .r:*", "X-Container-Write: a:b", "X-Versions-Location: c", "X-History-Location: c",
		"X-Versions-Enabled: true", "X-Container-Sync-To: //r/c/a/c", "X-Container-Sync-Key: k",
		"X-Container-Meta-Quota-Bytes: 1", "X-Container-Meta-Quota-Count: 1", "X-Container-Meta-Temp-URL-Key: k",
		"X-Container-Meta-Temp-URL-Key-2: k", "X-Container-Meta-Web-Index: i", "X-Container-Meta-Access-Control-Allow-Origin: *",
		"X-Container-Rfc-Compliant-Etags: true",
	} {
		c.post(path, h).is(501)
		c.put(path, "", h).is(501)
		name, _, _ := strings.Cut(h, ":")
		c.post(path, name+":").is(204) // it is not set
	}
	for _, h := range []string{"X-Account-Access-Control: {}", "X-Account-Meta-Temp-URL-Key: k", "X-Account-Meta-Quota-Bytes: 1", "X-Account-Quota-Bytes: 1"} {
		c.post("", h).is(501)
	}
	c.put("/x?extract-archive=tar", "").is(501)
	c.get(path + "?versions").is(200).says("o\n")
	c.get(path + "/o?version-id=1").is(501)
	c.get(path + "/o?symlink=get").is(200)
	c.get(path + "/o?part-number=1").is(501)
	c.get(path+"/o?temp_url_sig=aa&temp_url_expires=1", "X-Auth-Token: -").is(401)
	c.put(path+"/m?multipart-manifest=put&heartbeat=on", "[]").is(501)
	c.delete(path + "/m?multipart-manifest=delete&async=yes").is(501)
	c.get(path + "/o").says("x")
}
