// Package archtest states who may import whom in this module, and checks it. Its
// test runs with all others, so a wrong import fails where it is made and not in a
// review.
//
// It is for the borders between packages, not for what happens inside one. It sees
// imports as they are written, tests left out, on every operating system: it does
// not follow them, which the rules make up for by saying of every package in
// between what it may import.
//
// Read [Rules] first, the borders in words; then [Exceptions], where they are
// crossed on purpose; [Load] and [Check] do the work. Nothing is written anywhere.
package archtest

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Module is the path that the module's own packages begin with.
const Module = "ringfort"

// Graph says what each package of the module imports. Packages of the module are
// named without its path ("internal/volume"), all others as they are imported.
type Graph map[string][]string

// Rule is one border.
type Rule struct {
	Name string
	// From are the packages that it binds, Except those of them that it does not.
	// A pattern is a package, or with "/..." a package and all below it.
	From, Except []string
	// Only, if not nil, are the module's packages that they may import; Own says
	// that they may also import what lies in the same tree of From.
	Only []string
	Own  bool
	// Never are packages, of this module or any, that they may not import.
	Never []string
	// Instead says what to do when the rule is in the way.
	Instead string
}

// Exception is an import that a rule forbids and that is made all the same.
type Exception struct {
	Rule, From, To string
	Reason         string
}

// Breach is an import that a rule forbids.
type Breach struct {
	Rule     *Rule
	From, To string
}

// String says what is wrong and what to do instead.
func (b Breach) String() string {
	return fmt.Sprintf("%s imports %s, against the rule %q.\n\tInstead: %s", b.From, b.To, b.Rule.Name, b.Rule.Instead)
}

// Load reads the imports of every package below root, a module's directory. Test
// files are left out, and so are folders that the go command passes over.
func Load(root string) (Graph, error) {
	g := Graph{}
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if file != root && skipped(d.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") || d.Name()[0] == '_' || d.Name()[0] == '.' {
			return nil
		}
		return g.addFile(root, file)
	})
	if err != nil {
		return nil, err
	}
	for name, list := range g {
		slices.Sort(list)
		g[name] = slices.Compact(list)
	}
	return g, nil
}

func skipped(dir string) bool {
	return dir[0] == '.' || dir[0] == '_' || dir == "testdata" || dir == "vendor" || dir == "node_modules"
}

func (g Graph) addFile(root, file string) error {
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		return err
	}
	dir, err := filepath.Rel(root, filepath.Dir(file))
	if err != nil {
		return err
	}
	from := filepath.ToSlash(dir)
	list := g[from]
	for _, spec := range f.Imports {
		to, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return err
		}
		list = append(list, strings.TrimPrefix(to, Module+"/"))
	}
	g[from] = list
	return nil
}

// Root returns the directory of the module that dir lies in.
func Root(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", fmt.Errorf("no go.mod above %s", dir)
		}
		dir = up
	}
}

// Check returns the imports that break a rule and are no exception, in a fixed
// order, and the exceptions that nothing needs any more.
func Check(g Graph, rules []Rule, exceptions []Exception) (breaches []Breach, idle []Exception) {
	used := make([]bool, len(exceptions))
	for i := range rules {
		r := &rules[i]
		for _, from := range sortedPackages(g) {
			if !matchesAny(r.From, from) || matchesAny(r.Except, from) {
				continue
			}
			for _, to := range g[from] {
				if r.allows(g, from, to) {
					continue
				}
				at := slices.IndexFunc(exceptions, func(e Exception) bool {
					return e.Rule == r.Name && e.From == from && e.To == to
				})
				if at < 0 {
					breaches = append(breaches, Breach{r, from, to})
					continue
				}
				used[at] = true
			}
		}
	}
	for i, e := range exceptions {
		if !used[i] {
			idle = append(idle, e)
		}
	}
	return breaches, idle
}

func sortedPackages(g Graph) []string {
	var names []string
	for name := range g {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// allows reports whether the rule lets from import to.
func (r *Rule) allows(g Graph, from, to string) bool {
	if r.Own && r.treeOf(from) == r.treeOf(to) && r.treeOf(to) != "" {
		return true
	}
	if matchesAny(r.Never, to) {
		return false
	}
	if _, ours := g[to]; !ours || r.Only == nil {
		return true
	}
	return matchesAny(r.Only, to)
}

// treeOf returns the pattern of From that a package lies under, "" if none.
func (r *Rule) treeOf(pkg string) string {
	for _, p := range r.From {
		if matches(p, pkg) {
			return p
		}
	}
	return ""
}

func matchesAny(patterns []string, pkg string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, pkg) })
}

func matches(pattern, pkg string) bool {
	if pattern == "..." {
		return true
	}
	if tree, ok := strings.CutSuffix(pattern, "/..."); ok {
		return pkg == tree || strings.HasPrefix(pkg, tree+"/")
	}
	ok, err := path.Match(pattern, pkg)
	return err == nil && ok
}
