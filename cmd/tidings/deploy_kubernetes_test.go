package main

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pb33f/go-yaml"
	"github.com/spf13/pflag"
)

// object holds the fields of a Kubernetes object that the tests check.
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

// objects returns the objects of the manifest, by kind.
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
