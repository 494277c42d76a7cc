package docs

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"ringfort/internal/policy"
)

const root = ".."

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// manual lists the Markdown files of the manual.
func manual(t *testing.T) []string {
	t.Helper()
	files := []string{"README.md", "CHANGELOG.md"}
	err := filepath.WalkDir(filepath.Join(root, "docs"), func(file string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(file, ".md") {
			rel, _ := filepath.Rel(root, file)
			files = append(files, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// policyRow is a line of the README's table of default policies, for a node of its
// own with so many directories.
func policyRow(devices int, label string) string {
	p := policy.Default(devices)
	listings := min(devices, 3)
	return fmt.Sprintf("| %s | `%v` | %d | %d | %d of %d | %d | %d |", label, p,
		p.RecordDevices(), p.Copies(), p.MinFragments(), p.Fragments(),
		p.SurvivesReads(listings), p.SurvivesWrites(listings))
}

// TestPolicyTable compares the README's table with what the code computes.
func TestPolicyTable(t *testing.T) {
	text := read(t, "README.md")
	for n := 1; n <= 12; n++ {
		label := fmt.Sprint(n)
		if n == 12 {
			label = "12 and more"
		}
		if want := policyRow(n, label); !strings.Contains(text, want+"\n") {
			t.Errorf("README.md has not the line\n%s", want)
		}
	}
	if got := policy.Default(100); got != policy.Default(12) {
		t.Errorf("100 directories get %v, not what 12 get", got)
	}
}

// overheadRow is a line of capacity.md's table of disk overhead.
func overheadRow(p policy.Spec) string {
	return fmt.Sprintf("| `%v` | %.2f | %d | %d |", p, float64(p.Fragments())/float64(p.K), p.Copies(), p.RecordDevices())
}

// TestOverheadTable compares capacity.md's table with what the code computes.
func TestOverheadTable(t *testing.T) {
	text := read(t, "docs/capacity.md")
	for _, p := range []policy.Spec{
		policy.Replica(1), policy.Replica(2), policy.Replica(3),
		policy.EC(2, 2), policy.EC(3, 2), policy.EC(4, 2), policy.EC(5, 2), policy.EC(5, 3), policy.EC(8, 3), policy.EC(8, 4),
	} {
		if want := overheadRow(p); !strings.Contains(text, want+"\n") {
			t.Errorf("docs/capacity.md has not the line\n%s", want)
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// TestLinks follows the manual's links to files of this repository.
func TestLinks(t *testing.T) {
	for _, file := range manual(t) {
		for _, m := range link.FindAllStringSubmatch(read(t, file), -1) {
			to, _, _ := strings.Cut(m[1], "#")
			if to == "" || strings.Contains(to, "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(file), to)); err != nil {
				t.Errorf("%s links to %s, which is not there", file, to)
			}
		}
	}
}

// names returns what pattern's first group matches in the Go files of a folder,
// without doubles.
func names(t *testing.T, folder, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, folder, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no Go files in %s", folder)
	}
	re := regexp.MustCompile(pattern)
	var list []string
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range re.FindAllStringSubmatch(string(b), -1) {
			list = append(list, m[1])
		}
	}
	slices.Sort(list)
	list = slices.Compact(list)
	if len(list) == 0 {
		t.Fatalf("nothing in %s matches %s", folder, pattern)
	}
	return list
}

// TestMetrics holds cluster.md to every metric there is.
func TestMetrics(t *testing.T) {
	text := read(t, "docs/cluster.md")
	have := names(t, "internal/node", `"(ringfort_[a-z_]+)"`)
	for _, m := range have {
		if !strings.Contains(text, "`"+m) {
			t.Errorf("docs/cluster.md does not explain the metric %s", m)
		}
	}
	for _, m := range regexp.MustCompile("`(ringfort_[a-z_]+)").FindAllStringSubmatch(text, -1) {
		if !slices.Contains(have, m[1]) {
			t.Errorf("docs/cluster.md explains the metric %s, which is not there", m[1])
		}
	}
}

// TestAdminPaths holds cluster.md to every path of the admin listener.
func TestAdminPaths(t *testing.T) {
	text := read(t, "docs/cluster.md")
	for _, p := range names(t, "internal/node", `\.Path(?:Prefix)?\("(/[a-z/-]+)`) {
		if p = strings.TrimRight(p, "/"); !strings.Contains(text, "`"+p+"`") {
			t.Errorf("docs/cluster.md does not explain the path %s", p)
		}
	}
}

// TestConfigFields holds cluster.md to every field of the configuration file.
func TestConfigFields(t *testing.T) {
	text := read(t, "docs/cluster.md")
	for _, f := range names(t, "cmd/ringfort", "`yaml:\"([a-z_]+)") {
		if !strings.Contains(text, "| `"+f+"`") {
			t.Errorf("docs/cluster.md does not explain the field %s", f)
		}
	}
}

// TestMagics looks for each magic that formats.md tells in the package it names.
func TestMagics(t *testing.T) {
	text := read(t, "docs/formats.md")
	line := regexp.MustCompile("(?m)^\\|.*`\"([^\"]+)\"`.*\\]\\(\\.\\./([^)]+)\\)")
	found := line.FindAllStringSubmatch(text, -1)
	if len(found) < 5 {
		t.Fatalf("only %d magics were found in docs/formats.md", len(found))
	}
	for _, m := range found {
		magic, file := m[1], filepath.Join(root, m[2])
		folder := filepath.Dir(file)
		files, _ := filepath.Glob(filepath.Join(folder, "*.go"))
		ok := slices.ContainsFunc(files, func(f string) bool {
			b, err := os.ReadFile(f)
			return err == nil && strings.Contains(string(b), magic)
		})
		if !ok {
			t.Errorf("docs/formats.md tells the magic %q, which %s does not have", magic, folder)
		}
	}
}

// TestGlossaryOrder keeps the glossary in alphabetical order, one line a word.
func TestGlossaryOrder(t *testing.T) {
	last := ""
	for _, m := range regexp.MustCompile(`(?m)^- \*\*([^*]+)\*\*`).FindAllStringSubmatch(read(t, "docs/glossary.md"), -1) {
		word := strings.ToLower(m[1])
		if word <= last {
			t.Errorf("%q stands behind %q", word, last)
		}
		last = word
	}
	if last == "" {
		t.Error("the glossary has no words")
	}
}

// TestPackageMap holds architecture.md to every package there is.
func TestPackageMap(t *testing.T) {
	text := read(t, "docs/architecture.md")
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if file != root && (name[0] == '.' || name == "testdata" || name == "node_modules" || name == "bin") {
				return fs.SkipDir
			}
			return nil
		}
		dir, _ := filepath.Rel(root, filepath.Dir(file))
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || strings.Contains(text, "`"+dir+"`") {
			return nil
		}
		t.Errorf("docs/architecture.md's map of packages has not `%s`", dir)
		return fs.SkipDir
	})
	if err != nil {
		t.Fatal(err)
	}
}
