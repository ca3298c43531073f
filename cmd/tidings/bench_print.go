package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/mattn/go-isatty"

	"github.com/tidings-io/tidings/delivery/bench"
)

// machine describes where the figures were measured.
type machine struct {
	Cores    int    `json:"cores"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
	Go       string `json:"go"`
	Version  string `json:"version"` // of Tidings
	Sync     string `json:"sync,omitempty"`
	Measured string `json:"url,omitempty"` // URL of the deployment; empty: --local
}

func printBenchJSON(w io.Writer, m machine, r bench.Report) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(struct {
		Machine machine `json:"machine"`
		bench.Report
	}{m, r})
}

func printBenchTable(w io.Writer, m machine, r bench.Report) error {
	fmt.Fprintf(w, "tidings %s, %s %s/%s, %s", m.Version, m.Go, m.OS, m.Arch, counted(m.Cores, "core"))
	if m.Measured != "" {
		fmt.Fprintf(w, ", at %s", redacted(m.Measured))
	} else {
		fmt.Fprintf(w, ", --sync %s", m.Sync)
	}
	fmt.Fprintf(w, ", scale %g, %s, %.0f s\n\n", r.Scale, counted(r.Runs, "run"), r.Took)
	var table strings.Builder
	t := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SCENARIO\tFIGURE\tVALUE\tFLOOR\tRATIO\tTARGET")
	before := ""
	for _, f := range r.Figures {
		floor, ratio := "", ""
		if f.Floor > 0 {
			floor, ratio = significant(f.Floor), fmt.Sprintf("%.2f", f.Ratio)
		}
		scenario := f.Scenario
		if scenario == before {
			scenario = ""
		}
		before = f.Scenario
		fmt.Fprintf(t, "%s\t%s\t%s %s\t%s\t%s\t%s\n", scenario, f.Name, significant(f.Value), f.Unit, floor, ratio, target(f))
	}
	_ = t.Flush() // into memory
	for line := range strings.Lines(table.String()) {
		fmt.Fprintln(w, strings.TrimRight(line, " \n"))
	}
	_, err := fmt.Fprintf(w, "\nMessages: %s.\n", r.Faults)
	for _, note := range r.Notes {
		fmt.Fprintln(w, "Note:", note)
	}
	return err
}

func target(f bench.Figure) string {
	if f.Target == nil {
		return ""
	}
	text := map[bool]string{true: "≥ ", false: "≤ "}[f.Target.Min]
	if f.Target.OfFloor {
		text += fmt.Sprintf("%g × floor", f.Target.Limit)
	} else {
		text += significant(f.Target.Limit) + " " + f.Unit
	}
	if f.Met != nil && !*f.Met {
		text += ", missed"
	}
	return text
}

// significant formats a number with three or four significant digits and with commas between thousands.
func significant(v float64) string {
	switch {
	case v < 1:
		return strconv.FormatFloat(v, 'g', 3, 64)
	case v < 100:
		return strconv.FormatFloat(v, 'g', 4, 64)
	}
	text := strconv.FormatFloat(v, 'f', 0, 64)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// benchProgress prints the progress: a bar on a terminal, otherwise one line per step.
type benchProgress struct {
	w        io.Writer
	terminal bool
}

func newBenchProgress(w io.Writer) *benchProgress {
	file, isFile := w.(*os.File)
	return &benchProgress{w, isFile && isatty.IsTerminal(file.Fd())}
}

func (p *benchProgress) show(at bench.Progress) {
	const width = 20
	if !p.terminal {
		fmt.Fprintf(p.w, "%d/%d %s: %s\n", at.Done, at.Total, cmp.Or(at.Scenario, "bench"), at.Step)
		return
	}
	full := width * at.Done / max(1, at.Total)
	bar := strings.Repeat("█", full) + strings.Repeat("░", width-full)
	fmt.Fprintf(p.w, "\r\x1b[K%s %d/%d %s: %s", bar, at.Done, at.Total, at.Scenario, at.Step)
}

// end removes the bar from the terminal.
func (p *benchProgress) end() {
	if p.terminal {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
