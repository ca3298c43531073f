package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// What the README says a test shows has that test.
func TestReadmeNamesTests(t *testing.T) {
	root := filepath.Join("..", "..")
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	defined := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`)
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		code, err := os.ReadFile(path)
		for _, match := range defined.FindAllSubmatch(code, -1) {
			have[string(match[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`((?:Test|Fuzz|Benchmark)\\w+)`").FindAllSubmatch(readme, -1)
	if len(named) < 20 {
		t.Errorf("the README names only %d tests", len(named))
	}
	for _, match := range named {
		if name := string(match[1]); !have[name] {
			t.Errorf("the README names %s, which does not exist", name)
		}
	}
}

// cmdPaste runs what a reader of the README would paste.
func cmdPaste(ts *testscript.TestScript, args []string) {
	readme, err := os.ReadFile(filepath.Join(ts.Getenv("TESTDATA"), "..", "README.md"))
	ts.Check(err)
	_, section, found := strings.Cut(string(readme), "\n### "+args[0]+"\n")
	if !found {
		ts.Fatalf("the README has no section %s", args[0])
	}
	section, _, _ = strings.Cut(section, "\n##")
	var lines strings.Builder
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(section, -1) {
		lines.WriteString(block[1])
	}
	pasted := strings.ReplaceAll(lines.String(), "127.0.0.1:8080", "127.0.0.1:"+ts.Getenv("HTTP"))
	export := regexp.MustCompile(`export KEY=\w+`).FindString(ts.ReadFile(args[1]))
	ts.Check(ts.Exec("sh", "-ec", fmt.Sprintf("%s\ncurl() { command curl -sS -w ' %%{http_code}\\n' \"$@\"; }\n%s", export, pasted)))
}
