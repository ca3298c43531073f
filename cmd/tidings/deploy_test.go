package main

import (
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pb33f/go-yaml"
	"github.com/spf13/pflag"
)

func deployFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("deploy", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func gatewayFlags(t *testing.T) *pflag.FlagSet {
	t.Helper()
	cmd, _, err := newRoot().Find([]string{"gateway"})
	if err != nil {
		t.Fatal(err)
	}
	return cmd.Flags()
}

// TestDeployNamesWhatThereIs: every flag and variable that the files for operators name is one of the gateway's, or of the command whose
// line it is in.
func TestDeployNamesWhatThereIs(t *testing.T) {
	t.Parallel()
	gateway := gatewayFlags(t)
	variables := map[string]bool{keyVariable: true}
	gateway.VisitAll(func(f *pflag.Flag) { variables[environmentName(f.Name)] = true })
	flag := regexp.MustCompile(`(?:^|[\s"(])--([a-z][a-z-]*)`)
	variable := regexp.MustCompile(`TIDINGS_[A-Z_]+`)
	command := regexp.MustCompile(`\btidings ([a-z-]+) --`)
	foreign := regexp.MustCompile(`^(?:COPY|#\s+nats) `)
	for _, file := range []string{"tidings.service", "Dockerfile", "kubernetes.yaml", "nats-server.conf", "alerts.yaml"} {
		named := 0
		for line := range strings.Lines(deployFile(t, file)) {
			for _, name := range variable.FindAllString(line, -1) {
				if named++; !variables[name] {
					t.Errorf("%s names %s, which no flag of the gateway has", file, name)
				}
			}
			if foreign.MatchString(line) {
				continue
			}
			lookup := gateway.Lookup
			if of := command.FindStringSubmatch(line); of != nil {
				cmd, _, err := newRoot().Find(of[1:])
				if err != nil {
					t.Errorf("%s: %v", file, err)
				}
				lookup = cmd.Flag
			}
			for _, match := range flag.FindAllStringSubmatch(line, -1) {
				if named++; lookup(match[1]) == nil {
					t.Errorf("%s names --%s, which is no flag: %s", file, match[1], line)
				}
			}
		}
		if named < 4 {
			t.Errorf("%s: only %d flags and variables seen", file, named)
		}
	}
}

// A user who was away for longer than the stream keeps messages gets a gap, by design. That alone must not raise an alert.
func TestNoAlertForOneUserWhoWasAway(t *testing.T) {
	t.Parallel()
	var alerts struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	if err := yaml.Unmarshal([]byte(deployFile(t, "alerts.yaml")), &alerts); err != nil {
		t.Fatal(err)
	}
	gaps := regexp.MustCompile(`tidings_gaps_total(?:\{reason(=~?)"([^"]*)"\})?`)
	found := map[string]bool{}
	for _, rule := range alerts.Groups[0].Rules {
		for _, match := range gaps.FindAllStringSubmatch(rule.Expr, -1) {
			for reason := range strings.SplitSeq(match[2], "|") {
				found[reason] = true
			}
			if expired := match[1] == "" || strings.Contains(match[2], "expired"); expired && !strings.Contains(rule.Expr, "* sum by (job) (increase(tidings_connections_opened_total") {
				t.Errorf("%s is about %s, and no share of the connections", rule.Alert, match[0])
			}
		}
	}
	if !found["expired"] || !found["limit"] || !found["stream_reset"] {
		t.Errorf("alerts are about gaps by %v", found)
	}
}

// takesToEnd returns the maximum time that a gateway with these flags may take to stop.
func takesToEnd(t *testing.T, args ...string) (took time.Duration) {
	t.Helper()
	flags := gatewayFlags(t)
	flags.ParseErrorsAllowlist.UnknownFlags = true // which another test is about
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	for name, times := range map[string]int{"drain": 2, "drain-delay": 1} { // sessions, and then positions
		if f := flags.Lookup(name); f == nil {
			t.Errorf("the gateway has no --%s", name)
		} else if d, err := time.ParseDuration(f.Value.String()); err != nil {
			t.Error(err)
		} else {
			took += time.Duration(times) * d
		}
	}
	const embeddedStop = 10 * time.Second // the default of package embedded
	return took + embeddedStop + flushTimeout
}

func TestSystemdUnit(t *testing.T) {
	t.Parallel()
	unit := deployFile(t, "tidings.service")
	stop := regexp.MustCompile(`(?m)^TimeoutStopSec=(\d+)$`).FindStringSubmatch(unit)
	if stop == nil {
		t.Fatal("it has no TimeoutStopSec in seconds")
	}
	seconds, _ := strconv.Atoi(stop[1])
	if takes := takesToEnd(t); time.Duration(seconds)*time.Second <= takes {
		t.Errorf("it is killed after %d s, but may take %s to end", seconds, takes)
	}
	if strings.Contains(unit, keyVariable+"=") || !strings.Contains(unit, environmentName("api-keys")+"=") || strings.Contains(unit, "\nLoadCredential=") {
		t.Error("it has API keys where they cannot change while it runs")
	}
	// systemd does not make a user of the name of a group that is there, nor start a service whose group is not.
	group := regexp.MustCompile(`(?m)^SupplementaryGroups=(.*)$`).FindStringSubmatch(unit)
	if group == nil || group[1] == "tidings" || !strings.Contains(unit, "groupadd -r "+group[1]+"\n") {
		t.Errorf("the group for secrets is %q", group)
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("there is no systemd-analyze to ask")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "tidings.service")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(unit, "/usr/local/bin/tidings", self)), 0o600); err != nil {
		t.Fatal(err)
	}
	// Its exit code is not about settings that it ignores. What else it remarks on differs between versions, and may be about other units.
	out, err := exec.Command(analyze, "verify", "--man=no", file).CombinedOutput()
	ignored := regexp.MustCompile(`(?m)^.*tidings\.service:\d+: (?:Unknown|Failed to|Invalid) .*$`).FindAllString(string(out), -1)
	if err != nil || ignored != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// What an operator has in a checkout is neither for an image nor for git. The history is for the image, which has its version from there.
func TestSecretsStayOutOfImagesAndHistory(t *testing.T) {
	t.Parallel()
	for _, list := range []string{".gitignore", ".dockerignore"} {
		text, err := os.ReadFile(filepath.Join(root, list))
		if err != nil {
			t.Fatal(err)
		}
		ignored := func(name string) bool {
			return slices.ContainsFunc(strings.Split(string(text), "\n"), func(pattern string) bool {
				match, _ := path.Match(strings.Trim(strings.TrimPrefix(pattern, "**/"), "/"), name)
				return match
			})
		}
		for _, name := range []string{"tidings-data", "tls.key", "tls.crt", "ca.pem", "nats.creds", "keys", "node_modules"} {
			if !ignored(name) {
				t.Errorf("%s does not keep %s out", list, name)
			}
		}
		for _, name := range []string{".git", ".gitignore", "go.mod", "cmd", "LICENSE"} {
			if ignored(name) {
				t.Errorf("%s keeps %s out", list, name)
			}
		}
	}
}
