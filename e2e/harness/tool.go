package harness

import (
	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// buildTimeout bounds fetching and compiling one client.
const buildTimeout = 20 * time.Minute

// Tool is a client program written in Go. It is built from its own module at one
// version, with the dependencies that module's own go.sum names, and so is no part
// of ours.
type Tool struct {
	Module, Version string
	Package         string // of the program, relative to the module: "." or "./cmd/x"
}

// BuildTool compiles a tool, once for all tests of the binary, and returns its
// path. Where the module proxy does not have all of it, the test is skipped
// visibly, or fails in CI.
func (h *Harness) BuildTool(t testing.TB, tool Tool) string {
	t.Helper()
	h.toolsMu.Lock()
	defer h.toolsMu.Unlock()
	if b, ok := h.tools[tool]; ok {
		if b.problem != "" {
			missing(t, b.problem)
		}
		return b.path
	}
	b := h.buildTool(t, tool)
	h.tools[tool] = b
	if b.problem != "" {
		missing(t, b.problem)
	}
	return b.path
}

// builtTool is what became of a build, kept so that a failure is not tried again.
type builtTool struct{ path, problem string }

func (h *Harness) buildTool(t testing.TB, tool Tool) builtTool {
	t.Helper()
	name := tool.Module + "@" + tool.Version
	ctx, cancel := context.WithTimeout(t.Context(), buildTimeout)
	defer cancel()
	// Not "go install": that also asks for all versions there are, which some
	// proxies do not tell.
	fetch := exec.CommandContext(ctx, "go", "mod", "download", "-json", name)
	fetch.Dir = h.dir // outside of our own module
	out, err := fetch.Output()
	var module struct{ Dir, Error string }
	if jsonErr := json.Unmarshal(out, &module); err != nil || jsonErr != nil || module.Dir == "" {
		return builtTool{problem: "cannot fetch " + name + ": " + module.Error}
	}
	path := filepath.Join(h.dir, filepath.Base(tool.Module)+"-"+tool.Version)
	build := exec.CommandContext(ctx, "go", "build", "-C", module.Dir, "-mod=readonly", "-o", path, tool.Package)
	if out, err := build.CombinedOutput(); err != nil {
		return builtTool{problem: "cannot build " + name + ": " + err.Error() + "\n" + last(string(out))}
	}
	return builtTool{path: path}
}
