package bench

import (
	"bufio"
	"context"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// footprint is the resource use of a server, after a garbage collection if its admin listener is known. Unknown values
// are NaN.
type footprint struct {
	goroutines, heap, stacks float64 // bytes
	resident                 float64 // KiB
}

// near reports whether f is about as small as before. The margin allows for memory kept by the runtime and for the
// regular clients, which stay active.
func (f footprint) near(before footprint) bool {
	const mib = 1 << 20
	return f.known() && f.goroutines <= 1.02*before.goroutines+20 && f.heap <= 1.1*before.heap+8*mib && f.stacks <= 1.1*before.stacks+2*mib
}

func (f footprint) known() bool { return !math.IsNaN(f.goroutines + f.heap + f.stacks) }

// footprint measures the server's footprint.
func (s *Server) footprint(ctx context.Context) footprint {
	f := footprint{math.NaN(), math.NaN(), math.NaN(), residentKiB(s.PIDs)}
	if s.Admin == "" {
		return f
	}
	_ = s.ask(ctx, "/debug/pprof/heap?gc=1", func(string, float64) {}) // triggers a garbage collection
	_ = s.ask(ctx, "/metrics", func(name string, value float64) {
		switch name {
		case "go_goroutines":
			f.goroutines = value
		case "go_memstats_heap_inuse_bytes":
			f.heap = value
		case "go_memstats_stack_inuse_bytes":
			f.stacks = value
		}
	})
	return f
}

// ask sends a GET request to the admin listener and calls each with every metric without labels in the response, which
// is in the Prometheus text format.
func (s *Server) ask(ctx context.Context, path string, each func(name string, value float64)) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Admin+path, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		_, err := io.Copy(io.Discard, response.Body)
		return err
	}
	lines := bufio.NewReader(response.Body)
	for {
		line, err := lines.ReadString('\n')
		if name, rest, found := strings.Cut(strings.TrimSpace(line), " "); found {
			if value, err := strconv.ParseFloat(rest, 64); err == nil {
				each(name, value)
			}
		}
		if err != nil {
			return err
		}
	}
}
