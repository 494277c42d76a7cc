package s3api_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"ringfort/gateway/auth"
	"ringfort/gateway/s3api"
	"ringfort/gateway/s3api/s3test"
)

const domain = "s3.example.test"

func identities() auth.Static {
	return auth.Static{
		"AKMAIN":  {Account: "main", User: "root", AccessKey: "AKMAIN", Secret: "secret-of-main", Root: true, Enabled: true},
		"AKOTHER": {Account: "other", User: "joe", AccessKey: "AKOTHER", Secret: "secret-of-other", Enabled: true},
		"AKOFF":   {Account: "main", User: "gone", AccessKey: "AKOFF", Secret: "secret-off"},
	}
}

func newHandler(store s3api.Store, change ...func(*s3api.Config)) *s3api.Handler {
	cfg := s3api.Config{Store: store, Identities: identities(), Domains: []string{domain}}
	for _, c := range change {
		c(&cfg)
	}
	return s3api.New(cfg)
}

func endpoint(url string, client *http.Client) s3test.Endpoint {
	return s3test.Endpoint{
		URL: url, AccessKey: "AKMAIN", SecretKey: "secret-of-main",
		OtherAccessKey: "AKOTHER", OtherSecretKey: "secret-of-other", Domain: domain, Client: client,
	}
}

func TestSuite(t *testing.T) {
	srv := httptest.NewServer(newHandler(s3test.NewStore()))
	defer srv.Close()
	s3test.Run(t, endpoint(srv.URL, nil))
}

func TestSuiteTLS(t *testing.T) {
	srv := httptest.NewTLSServer(newHandler(s3test.NewStore()))
	defer srv.Close()
	s3test.Run(t, endpoint(srv.URL, srv.Client()))
}
