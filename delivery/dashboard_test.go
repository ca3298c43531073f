package delivery_test

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pb33f/go-yaml"
	"github.com/rs/zerolog"

	"github.com/tidings-io/tidings/delivery"
	"github.com/tidings-io/tidings/streams/streamstest"
)

const deploy = "../cmd/tidings/deploy/"

// exposed is what a gateway exposes: of each name the labels, and their values.
type exposed struct {
	labels map[string]map[string][]string
	types  map[string]string // of families
}

var (
	labelPair  = regexp.MustCompile(`(\w+)="([^"]*)"`)
	metricName = regexp.MustCompile(`\b(?:tidings|go|process)_\w+`)
	selector   = regexp.MustCompile(`(\w+)\{([^}]*)\}`)
	matcher    = regexp.MustCompile(`(\w+)\s*[!=][=~]?\s*"([^"]*)"`)
	grouping   = regexp.MustCompile(`\b(by|on) \(([^)]*)\)`)
	ranged     = regexp.MustCompile(`\b(?:rate|increase)\((\w+)`)
	legend     = regexp.MustCompile(`\{\{\s*(?:\$labels\.)?([a-z]\w*)\s*\}\}`)
)

func exposes(t *testing.T, text string) exposed {
	t.Helper()
	e := exposed{map[string]map[string][]string{"up": {}}, map[string]string{}}
	for sample := range samples(t, text) {
		name, pairs, _ := strings.Cut(sample, "{")
		if e.labels[name] == nil {
			e.labels[name] = map[string][]string{"job": nil, "instance": nil} // by Prometheus
		}
		for _, pair := range labelPair.FindAllStringSubmatch(pairs, -1) {
			e.labels[name][pair[1]] = append(e.labels[name][pair[1]], pair[2])
		}
	}
	for _, kind := range regexp.MustCompile(`(?m)^# TYPE (\w+) (\w+)`).FindAllStringSubmatch(text, -1) {
		e.types[kind[1]] = kind[2]
	}
	return e
}

// check holds an expression, and the labels that a text beside it speaks of, against what is exposed.
func (e exposed) check(t *testing.T, where, expr, text string) (names []string) {
	t.Helper()
	some := map[string]bool{"job": true, "instance": true} // labels of some metric in it
	for _, name := range metricName.FindAllString(expr, -1) {
		if strings.HasPrefix(name, "process_") && runtime.GOOS != "linux" {
			continue
		}
		if e.labels[name] == nil {
			t.Errorf("%s: there is no metric %s", where, name)
		}
		for label := range e.labels[name] {
			some[label] = true
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		t.Errorf("%s: no metric in %q", where, expr)
	}
	for _, s := range selector.FindAllStringSubmatch(expr, -1) {
		for _, m := range matcher.FindAllStringSubmatch(s[2], -1) {
			values, ok := e.labels[s[1]][m[1]]
			if m[1] == "job" || m[1] == "instance" {
				continue
			}
			if !ok {
				t.Errorf("%s: %s has no label %s", where, s[1], m[1])
			}
			for _, value := range strings.Split(m[2], "|") {
				if !slices.Contains(values, value) {
					t.Errorf("%s: %s is never %s=%q, but %q", where, s[1], m[1], value, values)
				}
			}
		}
	}
	for _, r := range ranged.FindAllStringSubmatch(expr, -1) {
		family := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(r[1], "")
		if kind := e.types[family]; kind != "counter" && kind != "histogram" && runtime.GOOS == "linux" {
			t.Errorf("%s: the rate of %s, which is a %s", where, r[1], kind)
		}
	}
	left := some // of them in the result
	for i, g := range grouping.FindAllStringSubmatch(expr, -1) {
		if i == 0 && g[1] == "by" {
			left = map[string]bool{}
		}
		for _, label := range strings.Split(g[2], ", ") {
			if !some[label] {
				t.Errorf("%s: no metric of it has a label %s", where, label)
			}
			left[label] = true
		}
	}
	for _, l := range legend.FindAllStringSubmatch(text, -1) {
		if !left[l[1]] {
			t.Errorf("%s: the result has no label %s", where, l[1])
		}
	}
	return names
}

// What the dashboard and the alert rules name is there, and what is there is in the dashboard or in MONITORING.md. Whether the expressions
// are PromQL is for Prometheus' own tools to say (promtool check rules), whose parser is no dependency to have.
func TestDashboardAndAlertsNameWhatIsThere(t *testing.T) {
	t.Parallel()
	n := newNode(t, streamstest.Run(t).URL(), func(c *nodeConfig) {
		c.delivery.CertificateExpires, c.delivery.ReloadFailures = time.Now, func() uint64 { return 0 }
		c.delivery.DiskFull = func() bool { return false }
		c.delivery.Listener = delivery.NewListener(nil, delivery.Limits{}, 0, zerolog.Nop())
	})
	text := exposition(t, n.gateway)
	e := exposes(t, text)

	var dashboard struct {
		Panels []struct {
			ID          int
			Type, Title string
			Datasource  struct{ UID string }
			GridPos     struct{ W, X int }
			Targets     []struct{ Expr, LegendFormat string }
		}
		Templating struct {
			List []struct{ Name, Type, Definition string }
		}
	}
	raw, err := os.ReadFile(deploy + "grafana-dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &dashboard); err != nil {
		t.Fatal(err)
	}
	shown, ids := map[string]bool{}, map[int]bool{}
	for _, p := range dashboard.Panels {
		if ids[p.ID] || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("%s: its id is another's, or it is too wide", p.Title)
		}
		ids[p.ID] = true
		if p.Type == "row" {
			continue
		}
		if p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
			t.Errorf("%s: %+v", p.Title, p)
		}
		for _, target := range p.Targets {
			for _, name := range e.check(t, p.Title, target.Expr, target.LegendFormat) {
				shown[name] = true
			}
		}
	}
	if len(dashboard.Panels) < 20 {
		t.Errorf("%d panels", len(dashboard.Panels))
	}
	for _, v := range dashboard.Templating.List {
		if v.Type == "query" {
			e.check(t, v.Name, v.Definition, "")
		}
	}

	var alerts struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	if raw, err = os.ReadFile(deploy + "alerts.yaml"); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(raw, &alerts); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, group := range alerts.Groups {
		for _, rule := range group.Rules {
			if names[rule.Alert] || rule.Labels["severity"] == "" || rule.Annotations["summary"] == "" || len(strings.Fields(rule.Annotations["description"])) < 12 {
				t.Errorf("alert %s is there twice, or does not say how bad it is and what to do: %+v", rule.Alert, rule)
			}
			names[rule.Alert] = true
			e.check(t, rule.Alert, rule.Expr, rule.Annotations["summary"]+rule.Annotations["description"])
		}
	}
	if len(names) < 10 {
		t.Errorf("alerts: %q", slices.Sorted(maps.Keys(names)))
	}

	readme, err := os.ReadFile("../cmd/tidings/deploy/MONITORING.md")
	if err != nil {
		t.Fatal(err)
	}
	for family := range e.types {
		if !strings.HasPrefix(family, "tidings_") {
			continue
		}
		documented := strings.Contains(string(readme), "`"+family+"`")
		for _, name := range []string{family, family + "_bucket", family + "_count"} {
			documented = documented || shown[name]
		}
		if !documented {
			t.Errorf("neither MONITORING.md nor the dashboard has %s", family)
		}
	}
}
