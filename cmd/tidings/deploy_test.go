package main

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
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
			flags := gateway
			if of := command.FindStringSubmatch(line); of != nil {
				cmd, _, err := newRoot().Find(of[1:])
				if err != nil {
					t.Errorf("%s: %v", file, err)
				}
				flags = cmd.Flags()
			}
			for _, match := range flag.FindAllStringSubmatch(line, -1) {
				if named++; flags.Lookup(match[1]) == nil {
					t.Errorf("%s names --%s, which is no flag: %s", file, match[1], line)
				}
			}
		}
		if named < 4 {
			t.Errorf("%s: only %d flags and variables seen", file, named)
		}
	}
}

// takesToEnd is how long a gateway with these flags may take to end, at most.
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
	return took + embeddedStop + tracesWithin
}

// object is what is looked for in one of Kubernetes.
type object struct {
	Kind       string
	Metadata   struct{ Name string }
	StringData map[string]any
	Spec       struct {
		Replicas int
		Selector struct{ MatchLabels map[string]string }
		Template struct {
			Metadata struct{ Labels map[string]string }
			Spec     struct {
				EnableServiceLinks            *bool
				TerminationGracePeriodSeconds int
				SecurityContext               struct{ RunAsNonRoot bool }
				Containers                    []container
				Volumes                       []struct{ Secret struct{ SecretName string } }
			}
		}
		PodSelector struct{ MatchLabels map[string]string }
		Ports       []struct{ TargetPort string } // of the Service
		Ingress     []struct {
			From []struct {
				NamespaceSelector struct{ MatchLabels map[string]string }
			}
			Ports []struct{ Port string }
		}
	}
}

type container struct {
	Args         []string
	Env          []struct{ Name string }
	VolumeMounts []struct{ MountPath, SubPath string }
	Ports        []struct {
		Name          string
		ContainerPort int
	}
	StartupProbe, LivenessProbe, ReadinessProbe struct {
		HTTPGet struct{ Path, Port string }
	}
	SecurityContext struct {
		ReadOnlyRootFilesystem   bool
		AllowPrivilegeEscalation *bool
		Capabilities             struct{ Drop []string }
	}
}

// objects of the manifest, by kind.
func objects(t *testing.T) map[string]object {
	t.Helper()
	all := map[string]object{}
	dec := yaml.NewDecoder(strings.NewReader(deployFile(t, "kubernetes.yaml")))
	for {
		var tree any
		if err := dec.Decode(&tree); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(tree)
		if err != nil {
			t.Fatal(err)
		}
		var o object
		if err := json.Unmarshal(text, &o); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		all[o.Kind] = o
	}
}

func TestKubernetesManifest(t *testing.T) {
	t.Parallel()
	all := objects(t)
	deployment, service, policy := all["Deployment"].Spec, all["Service"].Spec, all["NetworkPolicy"].Spec
	pod := deployment.Template.Spec
	if len(all) != 5 || len(pod.Containers) != 1 || deployment.Replicas < 2 {
		t.Fatalf("%d kinds of objects: %+v", len(all), all)
	}
	c := pod.Containers[0]

	var o gatewayOptions
	flags := pflag.NewFlagSet("gateway", pflag.ContinueOnError)
	o.add(flags)
	if err := errors.Join(flags.Parse(c.Args[1:]), o.check()); err != nil || c.Args[0] != "gateway" {
		t.Errorf("it is called in the wrong way: %v", err)
	}
	mount := c.VolumeMounts[0]
	for what, file := range map[string]string{"API keys": o.apiKeys, "credentials": o.nats.creds, "authorities": o.nats.ca} {
		if filepath.Dir(file) != mount.MountPath || mount.SubPath != "" || all["Secret"].StringData[filepath.Base(file)] == nil {
			t.Errorf("%s are %q, which is not read again from %+v of %+v", what, file, mount, all["Secret"])
		}
	}
	for _, variable := range c.Env {
		if strings.HasPrefix(variable.Name, "TIDINGS_") {
			t.Errorf("%s does not change while a gateway runs", variable.Name)
		}
	}
	if pod.EnableServiceLinks == nil || *pod.EnableServiceLinks {
		t.Error("a Service may set a flag by its name")
	}
	grace := time.Duration(pod.TerminationGracePeriodSeconds) * time.Second
	if takes := takesToEnd(t, c.Args[1:]...); grace <= takes {
		t.Errorf("it is killed after %s, but may take %s to end", grace, takes)
	}
	if !pod.SecurityContext.RunAsNonRoot || !c.SecurityContext.ReadOnlyRootFilesystem || c.SecurityContext.AllowPrivilegeEscalation == nil ||
		*c.SecurityContext.AllowPrivilegeEscalation || !slices.Equal(c.SecurityContext.Capabilities.Drop, []string{"ALL"}) {
		t.Errorf("it may do more than it must: %+v %+v", pod.SecurityContext, c.SecurityContext)
	}

	// Ports are named in one place, and must be those of the flags.
	ports := map[string]string{}
	for _, p := range c.Ports {
		ports[p.Name] = strconv.Itoa(p.ContainerPort)
	}
	for name, flag := range map[string]string{"http": "--listen=", "admin": "--admin-listen="} {
		at := slices.IndexFunc(c.Args, func(arg string) bool { return strings.HasPrefix(arg, flag) })
		if at < 0 || !strings.HasSuffix(c.Args[at], ":"+ports[name]) {
			t.Errorf("port %s is %q, the flags are %q", name, ports[name], c.Args)
		}
	}
	for what, get := range map[string]struct{ Path, Port string }{
		"/livez, at first": c.StartupProbe.HTTPGet, "/livez": c.LivenessProbe.HTTPGet, "/readyz": c.ReadinessProbe.HTTPGet,
	} {
		if path, _, _ := strings.Cut(what, ","); get.Path != path || get.Port != "admin" {
			t.Errorf("%s is asked at %+v", what, get)
		}
	}
	if len(service.Ports) != 1 || service.Ports[0].TargetPort != "http" {
		t.Errorf("the Service leads to %+v", service.Ports)
	}
	if len(policy.Ingress) == 0 {
		t.Error("the NetworkPolicy lets nobody in")
	}
	for _, rule := range policy.Ingress {
		if len(rule.Ports) != 1 || len(rule.From) != 1 || len(rule.From[0].NamespaceSelector.MatchLabels) == 0 {
			t.Errorf("the NetworkPolicy lets everybody in: %+v", rule)
		}
	}
	labels := deployment.Template.Metadata.Labels
	for what, selected := range map[string]map[string]string{
		"Deployment": deployment.Selector.MatchLabels, "NetworkPolicy": policy.PodSelector.MatchLabels,
		"PodDisruptionBudget": all["PodDisruptionBudget"].Spec.Selector.MatchLabels,
	} {
		if len(selected) == 0 || !maps.Equal(selected, labels) {
			t.Errorf("the %s selects %v, the pods are %v", what, selected, labels)
		}
	}
	if secret := all["Secret"].Metadata.Name; len(pod.Volumes) != 1 || pod.Volumes[0].Secret.SecretName != secret {
		t.Errorf("the Secret is %s, mounted is %+v", secret, pod.Volumes)
	}
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
