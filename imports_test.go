package warpket_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/warpket/warpket"

// rows are the packages of this module with what each may import of the
// others, besides the root. A row stands on those above it. A new edge is a
// change of the design: see docs/architecture.md.
var rows = []map[string][]string{
	{ // the words
		".": {},
	},
	{ // one capability each
		"accelerators":           {},
		"accelerators/placement": {},
		"channel":                {"channel/wire"},
		"channel/wire":           {},
		"git":                    {},
		"live":                   {},
		"metrics":                {},
		"migrations":             {},
		"pypi":                   {},
		"runners/egress":         {},
		"runners/image":          {"runners/egress"},
		"runners/runtimes":       {"pypi", "runners/egress", "runners/sandbox"},
		"runners/sandbox":        {},
		"runners/worker":         {"runners/egress", "runners/runtimes", "runners/sandbox"},
		"secrets":                {},
		"sources":                {"git"},
		"storage/blob":           {},
		"storage/postgres":       {"migrations"},
		"templates":              {"pypi"},
	},
	{ // what the binary is made of; cli speaks to a server through the client that anyone uses
		"api":         {"accelerators/placement", "channel", "git", "live", "metrics", "secrets", "sources", "storage/blob", "storage/postgres", "templates"},
		"api/qinling": {"api", "sources", "storage/postgres"},
		"cli":         {"clients/go"},
		"clients/go":  {},
		"node":        {"accelerators", "channel", "channel/wire", "runners/egress", "runners/image", "runners/runtimes", "runners/sandbox", "runners/worker"},
		"workflows":   {"accelerators/placement", "channel", "channel/wire", "live", "metrics", "secrets", "storage/blob", "storage/postgres", "templates"},
	},
	{ // wiring
		"cmd/warpket": {
			"accelerators", "api", "api/qinling", "channel", "cli", "clients/go", "git", "live", "metrics", "node", "pypi", "runners/egress", "runners/image", "runners/runtimes", "runners/sandbox", "runners/worker", "secrets", "sources",
			"storage/blob", "storage/postgres", "templates", "workflows",
		},
	},
	{ // tests and tools: nothing above imports them
		"bench":                         {"storage/postgres"}, // what a list costs without HTTP
		"bench/fleet":                   {"accelerators/placement"},
		"runners/image/imagetest":       {},
		"runners/runtimes/runtimestest": {"pypi", "runners/runtimes", "runners/sandbox"},
		"teststack":                     {"migrations", "storage/blob"},
		"teststack/with":                {"teststack"},
		"tools/histories":               {},
		"tools/openapi":                 {"api"},
		"tools/uv":                      {"pypi", "runners/runtimes"},
	},
}

// foreign are modules that only the packages beside them may import.
var foreign = map[string][]string{
	"go.temporal.io/":                         {"tools/histories", "workflows"},
	"github.com/jackc/pgx/":                   {"storage/postgres", "teststack", "bench"},
	"github.com/minio/":                       {"sources", "storage/blob"},
	"github.com/go-git/":                      {"git"},
	"github.com/NVIDIA/":                      {"accelerators"},
	"code.dny.dev/ssrf":                       {"runners/egress"},
	"github.com/google/go-containerregistry/": {"runners/image", "runners/image/imagetest"},
	"github.com/opencontainers/runtime-spec/": {"runners/sandbox"},
	"github.com/klauspost/compress/":          {"runners/image"},
	"github.com/danielgtaylor/huma/":          {"api", "api/qinling"},
	"github.com/prometheus/":                  {"metrics"},
	"github.com/spf13/cobra":                  {"cli", "cmd/warpket"},
	"github.com/pressly/goose/":               {"migrations"},
	"github.com/google/osv-scalibr/":          {"pypi"},
	"github.com/elastic/":                     {"runners/sandbox"},
	"github.com/landlock-lsm/":                {"runners/sandbox"},
	"github.com/moby/":                        {"runners/sandbox"},
	"google.golang.org/grpc":                  {"channel", "channel/wire"},
	"google.golang.org/protobuf/runtime":      {"channel/wire"},
	"znkr.io/diff":                            {"api"},
}

func TestImports(t *testing.T) {
	t.Parallel()
	allowed, row := map[string][]string{}, map[string]int{}
	for i, packages := range rows {
		for name, imports := range packages {
			allowed[name], row[name] = imports, i
		}
	}
	for name, imports := range allowed {
		for _, other := range imports {
			if row[other] > row[name] {
				t.Errorf("the table lets %s import %s, which stands on it", name, other)
			}
		}
	}

	for name, imports := range importsOfModule(t) {
		if _, ok := allowed[name]; !ok && !strings.HasPrefix(name, "e2e") && !strings.HasPrefix(name, "bench") {
			t.Errorf("%s is not in the table: give it a row", name)
			continue
		}
		for _, path := range imports {
			if own, ok := within(path); ok {
				if own != "." && !slices.Contains(allowed[name], own) {
					t.Errorf("%s imports %s, which the design does not let it", name, own)
				}
				continue
			}
			for prefix, may := range foreign {
				if strings.HasPrefix(path, prefix) && !slices.Contains(may, name) {
					t.Errorf("%s imports %s, which only %v may", name, path, may)
				}
			}
			if name == "." && strings.Contains(path, ".") {
				t.Errorf("the root imports %s; it may import the standard library only", path)
			}
		}
	}
}

// within gives the name of a package of this module.
func within(importPath string) (string, bool) {
	if importPath == module {
		return ".", true
	}
	return strings.CutPrefix(importPath, module+"/")
}

// importsOfModule reads what each package imports, tests left out, whatever
// the build tags.
func importsOfModule(t *testing.T) map[string][]string {
	t.Helper()
	packages := map[string][]string{}
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			_, err := os.Stat(filepath.Join(name, "go.mod"))
			if name != "." && (err == nil || strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "node_modules") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		dir := path.Dir(filepath.ToSlash(name))
		for _, i := range file.Imports {
			imported, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			packages[dir] = append(packages[dir], imported)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return packages
}
