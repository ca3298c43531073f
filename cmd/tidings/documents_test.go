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

// pages reads all documents, by their path within the repository.
func pages(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == "node_modules"):
			return fs.SkipDir
		case d.IsDir() || filepath.Ext(path) != ".md":
			return nil
		}
		text, err := os.ReadFile(path)
		name, _ := filepath.Rel(root, path)
		found[filepath.ToSlash(name)] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// Every test that a document names as proof exists.
func TestDocumentsNameTests(t *testing.T) {
	have := map[string]bool{}
	defined := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
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
	named := regexp.MustCompile("`((?:Test|Fuzz|Benchmark)\\w+)`")
	for page, least := range map[string]int{"delivery/GUARANTEES.md": 40, ".github/SECURITY.md": 40} {
		if n := len(named.FindAllString(pages(t)[page], -1)); n < least {
			t.Errorf("%s names only %d tests", page, n)
		}
	}
	for page, text := range pages(t) {
		for _, match := range named.FindAllStringSubmatch(text, -1) {
			if !have[match[1]] {
				t.Errorf("%s names %s, which does not exist", page, match[1])
			}
		}
	}
}

// Every document is found from the README, which is short, and every link leads somewhere.
func TestDocumentsAreLinked(t *testing.T) {
	all := pages(t)
	if lines := strings.Count(all["README.md"], "\n"); lines > 150 {
		t.Errorf("README.md has %d lines, and must be short", lines)
	}
	linked := map[string]bool{"README.md": true}
	link := regexp.MustCompile(`\]\(([^)#\s]*)(#[^)\s]*)?\)`)
	for page, text := range all {
		for _, match := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(match[1], "://") {
				continue
			}
			target := page
			if match[1] != "" {
				target = filepath.ToSlash(filepath.Join(filepath.Dir(page), match[1]))
			}
			if page == "README.md" {
				linked[target] = true
			}
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s links to %s: %v", page, match[1], err)
			} else if match[2] != "" && !hasAnchor(all[target], match[2]) {
				t.Errorf("%s links to %s%s, and there is no such heading", page, target, match[2])
			}
		}
	}
	for page := range all {
		if !linked[page] {
			t.Errorf("the README does not link to %s", page)
		}
	}
}

// hasAnchor reports whether a page has a heading that GitHub gives the anchor.
func hasAnchor(text, anchor string) bool {
	other := regexp.MustCompile(`[^a-z0-9 _-]`)
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		if "#"+strings.ReplaceAll(other.ReplaceAllString(strings.ToLower(heading[1]), ""), " ", "-") == anchor {
			return true
		}
	}
	return false
}

// cmdPaste runs the commands in some sections of a document, as a reader who pastes them. Its arguments are the document, the output of a
// gateway that prints an API key, and the sections.
func cmdPaste(ts *testscript.TestScript, args []string) {
	page, err := os.ReadFile(filepath.Join(ts.Getenv("TESTDATA"), "..", args[0]))
	ts.Check(err)
	var lines strings.Builder
	for _, name := range args[2:] {
		_, section, found := strings.Cut(string(page), "\n## "+name+"\n")
		if !found {
			ts.Fatalf("%s has no section %s", args[0], name)
		}
		section, _, _ = strings.Cut(section, "\n## ")
		for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(section, -1) {
			lines.WriteString(block[1])
		}
	}
	pasted := strings.ReplaceAll(lines.String(), "127.0.0.1:8080", "127.0.0.1:"+ts.Getenv("HTTP"))
	export := regexp.MustCompile(`export KEY=\w+`).FindString(ts.ReadFile(args[1]))
	ts.Check(ts.Exec("sh", "-ec", fmt.Sprintf("%s\ncurl() { command curl -sS -w ' %%{http_code}\\n' \"$@\"; }\n%s", export, pasted)))
}
