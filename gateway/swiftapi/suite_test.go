package swiftapi_test

import (
	"bytes"
	"net/http/httptest"
	"testing"

	"ringfort/gateway/auth"
	"ringfort/gateway/swiftapi"
	"ringfort/gateway/swiftapi/swifttest"
)

// identities are the users of these tests.
func identities() auth.Static {
	return auth.Static{
		"AK":    {Account: "main", User: "joe", AccessKey: "AK", Secret: "secret", Enabled: true},
		"OTHER": {Account: "other", User: "eve", AccessKey: "OTHER", Secret: "secret2", Enabled: true},
		"OFF":   {Account: "main", User: "off", AccessKey: "OFF", Secret: "secret3"},
	}
}

// server starts a server over a store; change may be nil.
func server(t testing.TB, store swiftapi.Store, change func(*swiftapi.Config)) *httptest.Server {
	t.Helper()
	cfg := swiftapi.Config{Store: store, Identities: identities(), TokenKey: bytes.Repeat([]byte{7}, 32)}
	if change != nil {
		change(&cfg)
	}
	h, err := swiftapi.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func TestSuite(t *testing.T) {
	for _, c := range []struct {
		name string
		page int
	}{{"whole pages", 0}, {"short pages", 2}} {
		t.Run(c.name, func(t *testing.T) {
			store := swifttest.NewStore()
			store.PageRows = c.page
			s := server(t, store, nil)
			swifttest.Run(t, s.URL+"/auth/v1.0", "main:AK", "secret")
		})
	}
}
