package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tidings-io/tidings/streams/streamstest"
)

// The tests below run scripts like those of TestScripts, with backends or clients that are not ours.

func TestBackendInPHP(t *testing.T) {
	t.Parallel()
	need(t, "php", "php-cli")
	runStory(t, "php.txtar")
}

func TestBackendInNode(t *testing.T) {
	t.Parallel()
	needNode(t, 20)
	need(t, "npm", "npm")
	backend := t.TempDir()
	if err := os.CopyFS(backend, os.DirFS(filepath.Join("..", "..", "testdata", "languages", "node"))); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	install := exec.CommandContext(ctx, "npm", "ci", "--prefer-offline", "--no-audit", "--no-fund", "--ignore-scripts",
		"--fetch-retry-mintimeout=1000", "--fetch-retry-factor=2") // fail soon if there is no network
	install.Dir = backend
	if out, err := install.CombinedOutput(); err != nil {
		missing(t, "npm ci cannot fetch the libraries of NATS: %v\n%s", err, out)
	}
	runStory(t, "node.txtar", "BACKEND="+backend)
}

// The client is the one in PROTOCOL.md.
func TestClientWithoutLibraryInNode(t *testing.T) {
	t.Parallel()
	client, options := readmeClient(t)
	runStory(t, "websocket.txtar", client, options, "PAUSE="+streamstest.Either("0", "12"))
}

// A store that is put back to an older copy reuses seqs within an epoch. No client may take what is stored then for a repeat: neither
// the one in PROTOCOL.md, nor tidings.js, nor that in Go.
func TestClientsAfterAStoreWasPutBack(t *testing.T) {
	t.Parallel()
	client, options := readmeClient(t)
	module, err := filepath.Abs(filepath.Join("..", "..", "delivery", "web", "tidings.js"))
	if err != nil {
		t.Fatal(err)
	}
	runStory(t, "restored.txtar", client, options, "MODULE="+module)
}

// readmeClient writes the client of PROTOCOL.md to a file. It returns variables for a story: CLIENT, the file, and NODE_OPTIONS, with
// which Node runs it.
func readmeClient(t *testing.T) (client, options string) {
	t.Helper()
	options = "NODE_OPTIONS="
	if needNode(t, 20) < 22 {
		options += "--experimental-websocket"
	}
	readme, err := os.ReadFile(filepath.Join(root, "delivery", "PROTOCOL.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, code, _ := strings.Cut(string(readme), "```js\n// listen.mjs")
	code, _, _ = strings.Cut(code, "```\n")
	file := filepath.Join(t.TempDir(), "listen.mjs")
	if err := os.WriteFile(file, []byte("//"+code), 0o600); err != nil {
		t.Fatal(err)
	}
	return "CLIENT=" + file, options
}

// The tool of NATS itself takes a minute to build where no cache has it.
func TestToolOfNATS(t *testing.T) {
	t.Parallel()
	if !streamstest.Long() {
		t.Skip("builds the nats tool; set TIDINGS_LONG=1")
	}
	bin := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "install", "github.com/nats-io/natscli/nats@v0.5.1")
	build.Env = append(os.Environ(), "GOBIN="+bin)
	if out, err := build.CombinedOutput(); err != nil {
		missing(t, "go install cannot build the nats tool: %v\n%s", err, out)
	}
	runStory(t, "nats.txtar", "NATS="+filepath.Join(bin, "nats"))
}

func runStory(t *testing.T, name string, variables ...string) {
	t.Helper()
	file := filepath.Join("..", "..", "testdata", "languages", name)
	runScripts(t, testscript.Params{Files: []string{file}}, variables...)
}

// need skips the test if a program is missing.
func need(t *testing.T, program, debian string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		missing(t, "there is no %s: install %s", program, debian)
	}
}

// needNode skips a test where there is no Node of at least that version, and returns the version there is.
func needNode(t *testing.T, least int) (major int) {
	t.Helper()
	need(t, "node", "nodejs")
	out, err := exec.CommandContext(t.Context(), "node", "--version").Output()
	if version := regexp.MustCompile(`^v(\d+)\.`).FindSubmatch(out); version != nil {
		major, err = strconv.Atoi(string(version[1]))
	}
	if err != nil || major < least {
		missing(t, "Node is %q (%v), want %d or later", out, err, least)
	}
	return major
}

// missing skips the test, but fails it in CI.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}
