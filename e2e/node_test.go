package e2e

import (
	"path/filepath"
	"testing"

	"ringfort/e2e/harness"
)

// TestNode runs e2e/node/client.mjs: today's AWS SDK for JavaScript with what it
// sends by default, over HTTP and over TLS.
func TestNode(t *testing.T) {
	t.Parallel()
	node := harness.Find(t, "node", "nodejs")
	dir := harness.NodeModules(t)
	rig.Each(t, withTLS(), func(t *testing.T, s *harness.System) {
		box := harness.NewSandbox(t)
		box.Setenv("AWS_ACCESS_KEY_ID", s.AccessKey)
		box.Setenv("AWS_SECRET_ACCESS_KEY", s.SecretKey)
		box.Setenv("AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED", "true")
		box.Setenv("S3_ENDPOINT", s.S3())
		box.Setenv("S3_BUCKET", "node-bucket")
		if s.CAFile != "" {
			box.Setenv("NODE_EXTRA_CA_CERTS", s.CAFile)
		}
		t.Logf("\n%s", box.Run(node, filepath.Join(dir, "client.mjs")))
	})
}
