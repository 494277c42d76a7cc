package archtest

import "slices"

// services are the servers that an operator can name, each a tree.
var services = []string{
	"gateway/...", "objectserver/...", "container/...", "account/...", "replicator/...", "auditor/...",
}

// leaves are packages that nothing has to be wired for: values, arithmetic and
// encodings.
var leaves = []string{
	"internal/errs", "internal/timestamp", "internal/keyhash", "internal/wire",
	"internal/blob", "internal/catalog/...", "internal/checksum", "internal/policy",
	"internal/workers",
}

// network is what only those may know who speak to others.
var network = []string{"net", "net/http/...", "net/rpc/...", "github.com/gorilla/...", "crypto/tls"}

// disk is what keeps bytes.
var disk = []string{
	"internal/volume/...", "internal/vfs/...", "internal/register/...", "objectserver/fragfile/...",
	"github.com/cockroachdb/pebble/...", "github.com/cockroachdb/pebble/v2/...", "go.etcd.io/bbolt/...",
}

// Rules returns the borders.
func Rules() []Rule {
	return slices.Concat(serviceRules(), protocolRules(), engineRules(), dependencyRules())
}

func serviceRules() []Rule {
	var list []Rule
	for _, s := range services {
		var others []string
		for _, o := range services {
			if o != s {
				others = append(others, o)
			}
		}
		list = append(list, Rule{
			Name: "services do not import one another", From: []string{s}, Never: others,
			Instead: "send a message: add it to internal/peer, answer it in the other service. A helper that is to run inside a service is handed a small interface, and internal/node passes the implementation.",
		})
	}
	return append(list, Rule{
		Name: "only internal/node and cmd wire services",
		From: []string{"..."}, Except: append([]string{"internal/node", "cmd/..."}, services...),
		Never:   services,
		Instead: "declare the few methods that are needed as an interface where they are used, and let internal/node pass the service.",
	}, Rule{
		Name: "the replicator works through interfaces",
		From: []string{"replicator/...", "auditor/..."}, Own: true,
		Only:    append([]string{"internal/peer", "internal/register"}, leaves...),
		Instead: "add the method to one of its own interfaces (replicator.Device, replicator.Gateway) and implement that in internal/node.",
	})
}

func protocolRules() []Rule {
	return []Rule{{
		Name: "protocols know gateway/ops and leaves",
		From: []string{"gateway/s3api/...", "gateway/swiftapi/..."}, Own: true,
		Only:    append([]string{"gateway/ops", "gateway/auth/..."}, leaves...),
		Never:   append([]string{"ring/...", "internal/peer/...", "gateway/auth/users"}, disk...),
		Instead: "a protocol parses, calls gateway/ops and prints. What needs rings, peers or disks is an operation: add it to gateway/ops, where the other protocol gets it too.",
	}, {
		Name: "signatures know nothing of storage",
		From: []string{"gateway/auth/..."}, Except: []string{"gateway/auth/users"}, Own: true,
		Only:    leaves,
		Instead: "take what is needed through auth.Identities; where identities are kept is the business of gateway/auth/users.",
	}, {
		Name: "operations know no protocol",
		From: []string{"gateway/ops/..."}, Own: true,
		Only:    append([]string{"internal/peer", "internal/register", "internal/erasure", "internal/listing/merge", "ring"}, leaves...),
		Never:   append([]string{"encoding/xml"}, network...),
		Instead: "answer with a value or an errs.Kind, and let s3api and swiftapi turn it into headers and bodies.",
	}, {
		Name: "the front door routes and bounds",
		From: []string{"gateway"}, Only: []string{},
		Instead: "take an http.Handler; internal/node makes the two protocols' handlers.",
	}}
}

func engineRules() []Rule {
	return []Rule{{
		Name: "storage knows nothing of HTTP",
		From: []string{
			"internal/volume/...", "internal/vfs/...", "objectserver/...", "container/...", "account/...",
			"internal/listing/...", "internal/register/...", "internal/erasure/...",
		},
		Never:   network,
		Instead: "take and return values, readers and writers; internal/peer carries them.",
	}, {
		Name: "storage knows nothing of rings",
		From: []string{
			"internal/volume/...", "internal/vfs/...", "objectserver/...", "container/...", "account/...",
			"internal/listing/...", "internal/register/...", "internal/erasure/...",
		},
		Never:   []string{"ring/...", "internal/policy"},
		Instead: "where a key belongs is decided before a device is asked: gateway/ops finds the devices, and internal/peer's Target says which one is meant.",
	}, {
		Name: "the volume keeps bytes under keys",
		From: []string{"internal/volume/..."}, Own: true,
		Only:    []string{"internal/errs", "internal/vfs"},
		Instead: "give the meaning of a value to the package that stores it; the volume is handed keys, heads and tails.",
	}, {
		Name: "a ring is data and arithmetic",
		From: []string{"ring/..."}, Own: true,
		Only:    []string{"internal/errs", "internal/keyhash", "internal/vfs", "internal/wire"},
		Never:   network,
		Instead: "who listens where, and what moves, is the business of internal/node and the replicator; a ring only lists devices.",
	}, {
		Name: "leaves import leaves",
		From: leaves, Only: leaves,
		Instead: "a package that needs more than leaves is no leaf: put the code where the other one is known.",
	}, {
		Name: "messages know what they carry, and no service's insides",
		From: []string{"internal/peer/..."}, Own: true,
		Only:    append([]string{"internal/register", "ring"}, leaves...),
		Instead: "a message holds plain values. What answers it implements peer.Node in internal/node.",
	}}
}

func dependencyRules() []Rule {
	return []Rule{{
		Name: "tests from outside stay outside",
		From: []string{"e2e/...", "internal/benchtool/...", "internal/nulls3/..."}, Own: true,
		Only:    []string{"internal/errs", "internal/nulls3"},
		Instead: "see the server as its users do: its command line, its ports and its files.",
	}, {
		Name: "pebble is the volume's",
		From: []string{"..."}, Except: []string{"internal/volume/...", "internal/vfs/..."},
		Never:   []string{"github.com/cockroachdb/pebble/..."},
		Instead: "open an internal/volume and commit batches to it; a file system is internal/vfs.FS.",
	}, {
		Name: "bbolt is the node's",
		From: []string{"..."}, Except: []string{"internal/node"},
		Never:   []string{"go.etcd.io/bbolt/..."},
		Instead: "what a device keeps goes into its volume; small state of the node belongs to internal/node.",
	}, {
		Name: "only the command line exits, parses flags and prints help",
		From: []string{"..."}, Except: []string{"cmd/..."},
		Never:   []string{"github.com/spf13/cobra", "github.com/spf13/pflag", "flag"},
		Instead: "take a Config; cmd/ringfort fills it in.",
	}}
}

// Exceptions returns the imports that are made against a rule, and why. One that
// is not needed any more fails the test.
func Exceptions() []Exception {
	return []Exception{{
		Rule: "protocols know gateway/ops and leaves", From: "gateway/s3api", To: "internal/peer",
		Reason: "only for the constant MaxPage, the longest page of a listing; gateway/ops could export it",
	}, {
		Rule: "protocols know gateway/ops and leaves", From: "gateway/s3api/s3test", To: "internal/peer",
		Reason: "the store in memory keeps the same limit; see gateway/s3api",
	}, {
		Rule: "pebble is the volume's", From: "internal/node", To: "github.com/cockroachdb/pebble/v2",
		Reason: "all devices of a node share one block cache, which the node makes and gives to each volume",
	}, {
		Rule: "pebble is the volume's", From: "objectserver/fragfile", To: "github.com/cockroachdb/pebble/v2/vfs",
		Reason: "categories of writes are named by pebble's file system interface, which internal/vfs is",
	}, {
		Rule: "only the command line exits, parses flags and prints help", From: "internal/benchtool", To: "github.com/spf13/cobra",
		Reason: "the load generator is a program of its own that cmd/ringfort only hangs into its tree of commands",
	}}
}
