package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	root   = "../.."
	module = "github.com/tidings-io/tidings/"
)

// bans say what a package must not import, directly or through others, and why. Tests may.
var bans = []struct {
	pkg  string // within the module; empty: every package but commands
	what string // an import path, or the beginning of some if it ends in /
	but  string // which of those, and what is below it, is all right
	why  string
}{
	{"auth", module, module + "delivery/wire/strict", "it is a leaf: a backend that answers for tokens imports it alone"},
	{"streams", module, "", "it is a leaf: a backend that publishes imports it alone"},
	{"streams", "github.com/nats-io/nats-server/", "", "a program beside a NATS server must not carry one"},
	{"auth", "github.com/prometheus/", "", "how a program is watched is its own affair"},
	{"streams", "github.com/prometheus/", "", "it tells plain figures: how a program is watched is its own affair"},
	{"delivery/client", "github.com/prometheus/", "", "how a program is watched is its own affair"},
	{"delivery", "github.com/nats-io/nats-server/", "", "the gateway works with any NATS server"},
	{"delivery", module + "streams/embedded", "", "only a command runs a server"},
	{"delivery/wire", module, module + "delivery/wire/strict", "it is the protocol: clients and gateway import it, it imports neither"},
	{"delivery/wire/strict", module, "", "it is a leaf: auth, wire and the gateway share it"},
	{"delivery/client", module, module + "delivery/wire", "a client needs the protocol and nothing else"},
	{"delivery/client", "github.com/nats-io/", "", "clients speak WebSocket, and stay small"},
	{"delivery/client", "github.com/go-chi/", "", "clients speak WebSocket, and stay small"},
	{"delivery/client", "github.com/rs/zerolog", "", "a library does not choose its user's logger"},
	{"delivery/client", "go.opentelemetry.io/", "", "a client reads messages; whoever traces wraps its OnMessage"},
	{"streams", "go.opentelemetry.io/", "", "it carries trace context as the text that it is"},
	{"auth", "go.opentelemetry.io/", "", "it carries trace context as the text that it is"},
	{"delivery", "go.opentelemetry.io/otel/sdk/", "", "where spans go is for a command to say"},
	{"delivery/verify", module + "delivery", "", "it judges the gateway from outside"},
	{"delivery/verify", "github.com/nats-io/nats-server/", "", "it works with any NATS server"},
	{"delivery/bench", module + "delivery", "", "it measures the gateway from outside"},
	{"delivery/bench", "github.com/nats-io/nats-server/", "", "it works with any NATS server; a command runs the one of its floor"},
	{"delivery/bench", "testing", "", "a command carries it"},
	{"", module + "cmd/", "", "nobody imports a command"},
	{"", "github.com/spf13/", "", "flags live in cmd; below it there is Config"},
}

type goPackage struct {
	ImportPath string
	Deps       []string
}

func TestImports(t *testing.T) {
	packages := listPackages(t)
	for _, ban := range bans {
		found := false
		for _, p := range packages {
			name := strings.TrimPrefix(p.ImportPath, module)
			if ban.pkg != name && (ban.pkg != "" || strings.HasPrefix(name, "cmd/")) {
				continue
			}
			found = true
			for _, dep := range p.Deps {
				banned := dep == ban.what || strings.HasSuffix(ban.what, "/") && strings.HasPrefix(dep, ban.what)
				if banned && (ban.but == "" || dep != ban.but && !strings.HasPrefix(dep, ban.but+"/")) {
					t.Errorf("%s imports %s, but %s", name, dep, ban.why)
					break // one of them says enough
				}
			}
		}
		if !found {
			t.Errorf("there is no package %s", ban.pkg)
		}
	}
}

func listPackages(t *testing.T) (packages []goPackage) {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("there is no go command to ask")
	}
	cmd := exec.Command("go", "list", "-buildvcs=false", "-json=ImportPath,Deps", "./...")
	cmd.Dir, cmd.Stderr = root, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

// TestTopLevel: a repository is read from its top, which therefore grows by decision and not by habit.
func TestTopLevel(t *testing.T) {
	allowed := []string{"auth", "cmd", "delivery", "streams", "testdata", "go.mod", "go.sum", "LICENSE", "README.md", "Taskfile.yml"}
	ignored, err := os.ReadFile(filepath.Join(root, ".gitignore"))
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		name := entry.Name()
		left := slices.ContainsFunc(strings.Fields(string(ignored)), func(pattern string) bool {
			match, _ := path.Match(strings.Trim(pattern, "/"), name)
			return match
		})
		if !left && name[0] != '.' && !slices.Contains(allowed, name) {
			t.Errorf("%s does not belong at the top level", name)
		}
	}
}

// TestFiles holds what the house style says of every file.
func TestFiles(t *testing.T) {
	documented := map[string]bool{}
	variables := map[string]map[string]bool{} // of each directory
	var files []*source
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && name != root && (entry.Name()[0] == '.' || entry.Name() == "testdata"):
			return fs.SkipDir
		case entry.IsDir() || filepath.Ext(name) != ".go":
			return nil
		}
		f, err := parse(name)
		if err != nil {
			return err
		}
		files = append(files, f)
		if f.test {
			return nil
		}
		documented[f.dir] = documented[f.dir] || f.ast.Doc != nil
		if variables[f.dir] == nil {
			variables[f.dir] = map[string]bool{}
		}
		for name := range f.variables {
			variables[f.dir][name] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for dir, has := range documented {
		if !has {
			t.Errorf("%s: the package has no comment that says what it is for", dir)
		}
	}
	for _, f := range files {
		for _, problem := range f.problems(variables[f.dir]) {
			t.Error(problem)
		}
	}
	if len(documented) < 8 {
		t.Errorf("only %d packages seen", len(documented))
	}
}

// source is a file with what is looked for in it.
type source struct {
	name, dir string // within the module
	test      bool
	lines     int
	fset      *token.FileSet
	ast       *ast.File
	variables map[string]ast.Expr // of the package, with what they begin as; nil: nothing
}

func parse(file string) (*source, error) {
	name, err := filepath.Rel(root, file)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	name = filepath.ToSlash(name)
	f := &source{
		name: name, dir: path.Dir(name), test: strings.HasSuffix(name, "_test.go"), lines: bytes.Count(text, []byte("\n")),
		fset: token.NewFileSet(), variables: map[string]ast.Expr{},
	}
	if f.ast, err = parser.ParseFile(f.fset, name, text, parser.ParseComments|parser.SkipObjectResolution); err != nil {
		return nil, err
	}
	for _, decl := range f.ast.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok || gen.Tok != token.VAR || gen.Doc != nil && strings.Contains(gen.Doc.List[len(gen.Doc.List)-1].Text, "//go:embed") {
			continue
		}
		for _, spec := range gen.Specs {
			for i, name := range spec.(*ast.ValueSpec).Names {
				f.variables[name.Name] = nil
				if values := spec.(*ast.ValueSpec).Values; i < len(values) {
					f.variables[name.Name] = values[i]
				}
			}
		}
	}
	return f, nil
}

func (f *source) problems(variables map[string]bool) (problems []string) {
	add := func(at token.Pos, text string) {
		problems = append(problems, fmt.Sprintf("%s: %s", f.fset.Position(at), text))
	}
	for _, group := range f.ast.Comments {
		for _, c := range group.List {
			if strings.HasPrefix(strings.TrimLeft(c.Text, "/* \t"), "nolint") {
				add(c.Pos(), "a linter is obeyed, or it is not in .golangci.yml")
			}
		}
	}
	if f.test {
		return problems
	}
	if f.lines > 400 {
		problems = append(problems, fmt.Sprintf("%s: %d lines want splitting by noun (the limit is 400)", f.name, f.lines))
	}
	for name, value := range f.variables {
		if name != "_" && !settled(value) {
			add(f.ast.Pos(), "the variable "+name+" is state of the package: put it into a value that somebody owns")
		}
	}
	set := func(at ast.Expr) {
		if id, ok := at.(*ast.Ident); ok && variables[id.Name] && id.Name != "_" {
			add(id.Pos(), "sets "+id.Name+", which is the name of a variable of the package: that makes it state")
		}
	}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Recv == nil && n.Name.Name == "init" {
				add(n.Pos(), "init runs whether one wants it or not: let the caller call something")
			}
		case *ast.AssignStmt:
			for _, to := range n.Lhs {
				if n.Tok != token.DEFINE {
					set(to)
				}
			}
		case *ast.IncDecStmt:
			set(n.X)
		case *ast.CallExpr:
			call, ok := n.Fun.(*ast.SelectorExpr)
			if ok && f.ends(call) {
				add(n.Pos(), "only main ends the process: return the error")
			}
			if ok && unitless(call, n.Args) {
				add(n.Pos(), "a log field with a duration is a number of milliseconds: end its name in _ms")
			}
		}
		return true
	})
	return problems
}

// unitless reports whether a call adds a duration to a log line, which zerolog writes in milliseconds, under a name without the unit.
func unitless(call *ast.SelectorExpr, args []ast.Expr) bool {
	if !slices.Contains([]string{"Dur", "Durs", "TimeDiff"}, call.Sel.Name) || len(args) < 2 {
		return false
	}
	name, ok := args[0].(*ast.BasicLit)
	return !ok || !strings.HasSuffix(strings.Trim(name.Value, `"`), "_ms")
}

// settled says whether a variable of a package may begin so: as something that need not change. What is filled or locked
// later begins as nothing, or is made empty.
func settled(value ast.Expr) bool {
	switch v := value.(type) {
	case nil:
		return false
	case *ast.CallExpr:
		made, ok := v.Fun.(*ast.Ident)
		return !ok || made.Name != "make" && made.Name != "new"
	case *ast.UnaryExpr:
		return settled(v.X)
	case *ast.CompositeLit:
		return len(v.Elts) > 0
	}
	return true
}

// ends says whether a call ends the process: os.Exit, log.Fatal and its likes of any logger. Main does, and what tests
// need to be the child process of.
func (f *source) ends(call *ast.SelectorExpr) bool {
	if f.name == "cmd/tidings/main.go" || f.dir == "streams/streamstest" {
		return false
	}
	of, _ := call.X.(*ast.Ident)
	return of != nil && of.Name == "os" && call.Sel.Name == "Exit" || strings.HasPrefix(call.Sel.Name, "Fatal")
}
