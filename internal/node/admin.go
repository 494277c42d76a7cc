package node

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/mux"

	"ringfort/gateway/auth/users"
	"ringfort/internal/errs"
	"ringfort/internal/peer"
)

// readiness says whether a node takes requests.
type readiness struct{ on atomic.Bool }

func (r *readiness) set(on bool) { r.on.Store(on) }

// Report is what `ringfort status` shows.
type Report struct {
	Ready    bool               `json:"ready"`
	Policies []PolicyReport     `json:"policies"`
	Nodes    []*peer.NodeStatus `json:"nodes"`
	Missing  []string           `json:"missing"` // nodes that do not answer
	Requests int64              `json:"requests_under_way"`
	Uploads  int64              `json:"unfinished_uploads"`
}

// Err says whether all is well.
func (r *Report) Err() error {
	if len(r.Missing) > 0 {
		return errs.New("status", errs.Unavailable, "not answering: %s", strings.Join(r.Missing, ", "))
	}
	for _, n := range r.Nodes {
		for _, d := range n.Devices {
			if d.Problem != "" {
				return errs.New("status", errs.Unavailable, "device %v of %s is %s: %s", d.Device, n.Name, d.State, d.Problem)
			}
		}
	}
	return nil
}

// PolicyReport describes a storage policy.
type PolicyReport struct {
	Name           string `json:"name"`
	Spec           string `json:"spec"`
	Default        bool   `json:"default"`
	SurvivesReads  int    `json:"survives_reads"`
	SurvivesWrites int    `json:"survives_writes"`
}

// admin is the handler of the admin listener: health and metrics for anyone who
// reaches it, everything else for the root identity (HTTP basic authentication
// with its keys).
func (n *Node) admin() http.Handler {
	r := mux.NewRouter()
	r.Path("/health/live").HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	r.Path("/health/ready").HandlerFunc(n.serveReady)
	r.Path("/metrics").Handler(n.metrics.handler())
	r.Path("/status").Methods("GET").HandlerFunc(n.rootOnly(n.serveStatus))
	r.PathPrefix("/debug/pprof/").HandlerFunc(n.rootOnly(servePprof))
	r.Path("/log-level").Methods("GET", "PUT").HandlerFunc(n.rootOnly(n.serveLevel))
	r.Path("/users").Methods("GET").HandlerFunc(n.rootOnly(n.listUsers))
	r.Path("/users").Methods("POST").HandlerFunc(n.rootOnly(n.addUser))
	r.Path("/users/{key}").Methods("DELETE").HandlerFunc(n.rootOnly(n.removeUser))
	r.Path("/users/{key}/{state:enable|disable}").Methods("POST").HandlerFunc(n.rootOnly(n.switchUser))
	return r
}

func (n *Node) rootOnly(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		root := n.Users.Root()
		user, secret, ok := r.BasicAuth()
		a := subtle.ConstantTimeCompare([]byte(user), []byte(root.AccessKey))
		b := subtle.ConstantTimeCompare([]byte(secret), []byte(root.Secret))
		if !ok || a&b != 1 {
			w.Header().Set("WWW-Authenticate", `Basic realm="ringfort admin"`)
			http.Error(w, "the root identity's access key and secret are needed", http.StatusUnauthorized)
			return
		}
		next(w, r)
	}
}

// serveReady answers 200 while the node takes requests. A device out of service is
// no reason to take the node out of a balancer: others hold what it held.
func (n *Node) serveReady(w http.ResponseWriter, _ *http.Request) {
	if !n.ready.on.Load() {
		http.Error(w, "not ready: starting or stopping", http.StatusServiceUnavailable)
		return
	}
	io.WriteString(w, "ok\n")
}

// servePprof serves profiles to `go tool pprof`.
func servePprof(w http.ResponseWriter, r *http.Request) {
	switch strings.TrimPrefix(r.URL.Path, "/debug/pprof/") {
	case "profile":
		pprof.Profile(w, r)
	case "trace":
		pprof.Trace(w, r)
	default:
		pprof.Index(w, r) // the named profiles too
	}
}

func answerJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.Encode(v)
}

// Status gathers the report of the whole cluster; nodes that do not answer within
// a few seconds are listed as missing.
func (n *Node) Status(ctx context.Context) *Report {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	rep := &Report{Ready: n.ready.on.Load(), Requests: n.handler.Running()}
	for _, p := range n.cluster.policies {
		rep.Policies = append(rep.Policies, PolicyReport{
			Name: p.Name, Spec: p.Spec.String(), Default: p.Default,
			SurvivesReads:  p.Spec.SurvivesReads(n.ListingReplicas()),
			SurvivesWrites: p.Spec.SurvivesWrites(n.ListingReplicas()),
		})
	}
	nodes := n.cluster.named()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for name, x := range nodes {
		wg.Go(func() {
			st, err := x.Status(ctx)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				rep.Missing = append(rep.Missing, name)
				return
			}
			rep.Nodes = append(rep.Nodes, st)
		})
	}
	wg.Wait()
	var rows int64
	for _, x := range rep.Nodes {
		for _, d := range x.Devices {
			rows += d.Uploads
		}
	}
	// Each upload has a row on every device of its container's listing.
	rep.Uploads = (rows + int64(n.ListingReplicas()) - 1) / int64(n.ListingReplicas())
	slices.SortFunc(rep.Nodes, func(a, b *peer.NodeStatus) int { return strings.Compare(a.Name, b.Name) })
	slices.Sort(rep.Missing)
	return rep
}

func (n *Node) serveStatus(w http.ResponseWriter, r *http.Request) {
	answerJSON(w, n.Status(r.Context()))
}

func (n *Node) serveLevel(w http.ResponseWriter, r *http.Request) {
	if n.cfg.Level == nil {
		http.Error(w, "the log level is fixed", http.StatusNotImplemented)
		return
	}
	if r.Method == http.MethodPut {
		b, _ := io.ReadAll(io.LimitReader(r.Body, 64))
		var l slog.Level
		if err := l.UnmarshalText([]byte(strings.TrimSpace(string(b)))); err != nil {
			http.Error(w, "send one of debug, info, warn, error", http.StatusBadRequest)
			return
		}
		n.cfg.Level.Set(l)
	}
	io.WriteString(w, n.cfg.Level.Level().String()+"\n")
}

func adminError(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	switch errs.KindOf(err) {
	case errs.Invalid:
		status = http.StatusBadRequest
	case errs.NotFound:
		status = http.StatusNotFound
	case errs.Exists:
		status = http.StatusConflict
	case errs.Unavailable, errs.OutcomeUnknown, errs.Busy:
		status = http.StatusServiceUnavailable
	}
	var e *errs.Error
	text := err.Error()
	if x, ok := err.(*errs.Error); ok {
		e = x
		if e.What != "" {
			text = e.What
		}
	}
	http.Error(w, text, status)
}

func (n *Node) listUsers(w http.ResponseWriter, r *http.Request) {
	list, err := n.Users.List(r.Context())
	if err != nil {
		adminError(w, err)
		return
	}
	root := n.Users.Root()
	list = append([]users.User{{Account: root.Account, Name: root.User, AccessKey: root.AccessKey, Enabled: true}}, list...)
	answerJSON(w, list)
}

func (n *Node) addUser(w http.ResponseWriter, r *http.Request) {
	var u users.User
	if err := json.NewDecoder(io.LimitReader(r.Body, 64<<10)).Decode(&u); err != nil {
		http.Error(w, "the body is not a user in JSON: "+err.Error(), http.StatusBadRequest)
		return
	}
	made, err := n.Users.Add(r.Context(), u)
	if err != nil {
		adminError(w, err)
		return
	}
	answerJSON(w, made)
}

func (n *Node) removeUser(w http.ResponseWriter, r *http.Request) {
	if err := n.Users.Remove(r.Context(), mux.Vars(r)["key"]); err != nil {
		adminError(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (n *Node) switchUser(w http.ResponseWriter, r *http.Request) {
	u, err := n.Users.SetEnabled(r.Context(), mux.Vars(r)["key"], mux.Vars(r)["state"] == "enable")
	if err != nil {
		adminError(w, err)
		return
	}
	u.Secret = ""
	answerJSON(w, u)
}
