package archtest

import (
	"slices"
	"strings"
	"testing"
)

func TestImports(t *testing.T) {
	root, err := Root(".")
	if err != nil {
		t.Fatal(err)
	}
	g, err := Load(root)
	if err != nil {
		t.Fatal(err)
	}
	// A walk that finds nothing would find nothing wrong.
	for _, want := range []string{"gateway/ops", "internal/volume", "internal/node", "objectserver", "ring"} {
		if len(g[want]) == 0 {
			t.Fatalf("%s was not found below %s, or imports nothing", want, root)
		}
	}
	breaches, idle := Check(g, Rules(), Exceptions())
	for _, b := range breaches {
		t.Error(b)
	}
	for _, e := range idle {
		t.Errorf("the exception for %s importing %s (%q) is not needed any more: remove it", e.From, e.To, e.Rule)
	}
}

// TestRulesBite breaks each border in an otherwise clean graph.
func TestRulesBite(t *testing.T) {
	clean := Graph{
		"gateway":               {"net/http", "github.com/gorilla/mux"},
		"gateway/auth":          {"internal/errs"},
		"gateway/auth/users":    {"gateway/auth", "gateway/ops"},
		"gateway/ops":           {"internal/peer", "ring", "internal/register"},
		"gateway/s3api":         {"gateway/ops", "gateway/auth", "internal/catalog", "net/http"},
		"gateway/s3api/chunked": {"gateway/auth"},
		"gateway/swiftapi":      {"gateway/ops", "internal/errs", "net/http"},
		"objectserver":          {"internal/volume", "internal/peer", "objectserver/fragfile"},
		"objectserver/fragfile": {"internal/vfs"},
		"container":             {"internal/listing"},
		"account":               {"internal/listing"},
		"replicator":            {"internal/peer"},
		"internal/errs":         {"errors"},
		"internal/catalog":      {"internal/errs"},
		"internal/listing":      {"internal/volume", "internal/peer"},
		"internal/peer":         {"net/http", "ring", "internal/register"},
		"internal/register":     {"internal/volume"},
		"internal/vfs":          {"github.com/cockroachdb/pebble/v2/vfs"},
		"internal/volume":       {"internal/vfs", "github.com/cockroachdb/pebble/v2"},
		"internal/policy":       {"internal/errs"},
		"internal/node":         {"gateway", "objectserver", "container", "account", "replicator", "go.etcd.io/bbolt"},
		"ring":                  {"internal/errs"},
		"cmd/ringfort":          {"internal/node", "objectserver", "github.com/spf13/cobra"},
		"e2e":                   {"e2e/harness"},
		"e2e/harness":           {"net/http"},
	}
	if breaches, _ := Check(clean, Rules(), nil); len(breaches) > 0 {
		t.Fatalf("the clean graph breaks rules: %v", breaches)
	}
	for _, c := range []struct{ from, to, rule string }{
		{"gateway/ops", "objectserver", "services do not import one another"},
		{"container", "account", "services do not import one another"},
		{"objectserver", "gateway", "services do not import one another"},
		{"replicator", "objectserver/fragfile", "services do not import one another"},
		{"internal/listing", "container", "only internal/node and cmd wire services"},
		{"e2e", "gateway", "only internal/node and cmd wire services"},
		{"replicator", "internal/volume", "the replicator works through interfaces"},
		{"gateway/s3api", "ring", "protocols know gateway/ops and leaves"},
		{"gateway/s3api", "internal/volume", "protocols know gateway/ops and leaves"},
		{"gateway/s3api", "gateway/swiftapi", "protocols know gateway/ops and leaves"},
		{"gateway/swiftapi", "internal/peer", "protocols know gateway/ops and leaves"},
		{"gateway/swiftapi", "github.com/cockroachdb/pebble/v2", "protocols know gateway/ops and leaves"},
		{"gateway/auth", "gateway/ops", "signatures know nothing of storage"},
		{"gateway/ops", "net/http", "operations know no protocol"},
		{"gateway/ops", "internal/volume", "operations know no protocol"},
		{"gateway", "gateway/s3api", "the front door routes and bounds"},
		{"objectserver", "net/http", "storage knows nothing of HTTP"},
		{"internal/volume", "net", "storage knows nothing of HTTP"},
		{"objectserver/fragfile", "ring", "storage knows nothing of rings"},
		{"internal/listing", "internal/policy", "storage knows nothing of rings"},
		{"internal/volume", "internal/peer", "the volume keeps bytes under keys"},
		{"ring", "internal/peer", "a ring is data and arithmetic"},
		{"internal/catalog", "internal/volume", "leaves import leaves"},
		{"internal/peer", "internal/volume", "messages know what they carry, and no service's insides"},
		{"e2e/harness", "internal/node", "tests from outside stay outside"},
		{"objectserver", "github.com/cockroachdb/pebble/v2", "pebble is the volume's"},
		{"internal/register", "go.etcd.io/bbolt", "bbolt is the node's"},
		{"gateway", "flag", "only the command line exits, parses flags and prints help"},
	} {
		g := Graph{}
		for k, v := range clean {
			g[k] = slices.Clone(v)
		}
		g[c.from] = append(g[c.from], c.to)
		breaches, _ := Check(g, Rules(), nil)
		found := slices.ContainsFunc(breaches, func(b Breach) bool {
			return b.From == c.from && b.To == c.to && b.Rule.Name == c.rule
		})
		if !found {
			t.Errorf("%s -> %s does not break %q; it breaks %v", c.from, c.to, c.rule, breaches)
		}
	}
}

func TestExceptions(t *testing.T) {
	rules := []Rule{{Name: "r", From: []string{"a/..."}, Never: []string{"b"}, Instead: "use c"}}
	g := Graph{"a": {"b"}, "a/x": {"b"}, "b": nil}
	exceptions := []Exception{{Rule: "r", From: "a", To: "b"}, {Rule: "r", From: "b", To: "a"}}
	breaches, idle := Check(g, rules, exceptions)
	if len(breaches) != 1 || breaches[0].From != "a/x" {
		t.Errorf("breaches: %v, want the one of a/x", breaches)
	}
	if len(idle) != 1 || idle[0].From != "b" {
		t.Errorf("idle exceptions: %v, want the one of b", idle)
	}
	if text := breaches[0].String(); !strings.Contains(text, "use c") {
		t.Errorf("%q does not say what to do instead", text)
	}
}

func TestEveryRuleSaysWhatToDo(t *testing.T) {
	for _, r := range Rules() {
		if r.Name == "" || r.Instead == "" || len(r.From) == 0 || r.Only == nil && r.Never == nil {
			t.Errorf("rule %+v is incomplete", r)
		}
	}
	for _, e := range Exceptions() {
		if e.Reason == "" {
			t.Errorf("the exception for %s importing %s has no reason", e.From, e.To)
		}
		if !slices.ContainsFunc(Rules(), func(r Rule) bool { return r.Name == e.Rule }) {
			t.Errorf("the exception for %s names a rule %q that does not exist", e.From, e.Rule)
		}
	}
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		pattern, pkg string
		want         bool
	}{
		{"a", "a", true}, {"a", "a/b", false}, {"a/...", "a", true}, {"a/...", "a/b/c", true},
		{"a/...", "ab", false}, {"...", "x/y", true},
	} {
		if matches(c.pattern, c.pkg) != c.want {
			t.Errorf("matches(%q, %q) is not %v", c.pattern, c.pkg, c.want)
		}
	}
}
