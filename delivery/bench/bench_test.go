package bench

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/tidings-io/tidings/delivery/wire"
)

func TestReadMessageReturnsStampedValues(t *testing.T) {
	id, at := newID(), time.Unix(0, time.Now().UnixNano())
	m := newMessage(id)
	if len(m) != size {
		t.Fatalf("%d bytes", len(m))
	}
	stamp(m, 123, at)
	for _, reader := range []string{id, ""} {
		if n, got, ours := readMessage(m, reader); n != 123 || !got.Equal(at) || !ours {
			t.Errorf("read by %q: %d %s %v", reader, n, got, ours)
		}
	}
	if _, _, ours := readMessage(m, newID()); ours {
		t.Error("a message of another site counts")
	}
	if _, _, ours := readMessage([]byte("hello"), ""); ours {
		t.Error("a message of another publisher counts")
	}
}

// TestFaultsAreCounted passes lost, repeated and reordered messages to a client.
func TestFaultsAreCounted(t *testing.T) {
	for _, test := range []struct {
		name string
		n    []int // numbers of the received messages, of four
		seq  []uint64
		want Faults
	}{
		{"no fault", []int{1, 2, 3, 4}, []uint64{5, 6, 9, 12}, Faults{}},
		{"all are lost", nil, nil, Faults{Lost: 4}},
		{"the last is lost", []int{1, 2, 3}, []uint64{5, 6, 9}, Faults{Lost: 1}},
		{"one in between is lost", []int{1, 3, 4}, []uint64{5, 9, 12}, Faults{Lost: 1}},
		{"one is repeated", []int{1, 2, 2, 3, 4}, []uint64{5, 6, 6, 9, 12}, Faults{Repeated: 1, OutOfOrder: 1}},
		{"two are swapped", []int{1, 3, 2, 4}, []uint64{5, 9, 6, 12}, Faults{OutOfOrder: 1}},
		{"a seq does not increase", []int{1, 2, 3, 4}, []uint64{5, 6, 6, 12}, Faults{OutOfOrder: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := &bench{report: &Report{}}
			f := newFleet("", newID(), []string{"alice"})
			m := newMessage(f.id)
			for i, n := range test.n {
				stamp(m, n, time.Now())
				frame := wire.AppendMsg(nil, wire.Payload{Seq: test.seq[i], Time: time.Now(), Data: m})
				if err := f.clients[0].handle(frame); err != nil {
					t.Fatal(err)
				}
			}
			b.tally(f, 4)
			if got := b.report.Faults; got != test.want || got.Any() != (len(b.report.Details) > 0) {
				t.Errorf("%+v %q, want %+v", got, b.report.Details, test.want)
			}
		})
	}
}

func TestSeqOf(t *testing.T) {
	for rest, want := range map[string]uint64{`,"seq":105}`: 105, `,"seq":7,"time":"…"}`: 7, `}`: 0, ``: 0, `,"seq":`: 0} {
		if got := seqOf([]byte(rest)); got != want {
			t.Errorf("%s: %d", rest, got)
		}
	}
}

func TestPercentiles(t *testing.T) {
	var l latencies
	if q := l.quantiles(); !math.IsNaN(q.P50) {
		t.Errorf("of none: %+v", q)
	}
	for i := range 1000 {
		l = append(l, time.Duration(1000-i)*time.Millisecond)
	}
	if q := l.quantiles(); q != (quantiles{500, 990, 999}) {
		t.Errorf("of 1 to 1,000 ms: %+v", q)
	}
	if q := (latencies{time.Second}).quantiles(); q != (quantiles{1000, 1000, 1000}) {
		t.Errorf("of one: %+v", q)
	}
}

func TestFiguresAreMediansAndTargetsNeedFullScale(t *testing.T) {
	for _, test := range []struct {
		scale      float64
		floor      float64
		target     *Target
		value      float64
		ratio, met string
	}{
		{1, 2, maxOfFloor(1.2), 2.5, "1.25", "false"},
		{1, 2, maxOfFloor(1.3), 2.5, "1.25", "true"},
		{1, 0, maxOfFloor(1.3), 2.5, "0", "<nil>"}, // no floor
		{1, 0, minTarget(2.5), 2.5, "0", "true"},
		{1, 0, maxTarget(2), 2.5, "0", "false"},
		{1, 0, nil, 2.5, "0", "<nil>"},
		{0.1, 0, maxTarget(2), 2.5, "0", "<nil>"},
	} {
		r := &Report{Scale: test.scale, Runs: 4}
		b := &bench{report: r}
		for _, value := range []float64{100, 3, 2, 0.5} {
			b.add(Figure{Name: "x", Value: value, Floor: test.floor, Target: test.target})
		}
		b.add(Figure{Name: "not available", Value: math.NaN()})
		r.finish(time.Second)
		if len(r.Figures) != 1 || len(r.Notes) != 1 {
			t.Fatalf("figures %+v, notes %q", r.Figures, r.Notes)
		}
		f, met := r.Figures[0], "<nil>"
		if f.Met != nil {
			met = fmt.Sprint(*f.Met)
		}
		if f.Value != test.value || fmt.Sprint(f.Ratio) != test.ratio || met != test.met {
			t.Errorf("%+v: value %g, ratio %g, met %s", test, f.Value, f.Ratio, met)
		}
	}
}

func TestProcesses(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("there is no /proc here")
	}
	self := []int{os.Getpid()}
	spent, began := spending(self), time.Now()
	for spent() == 0 && time.Since(began) < 10*time.Second {
	}
	if got, limit := spent(), 0.1+time.Since(began).Seconds()*float64(runtime.NumCPU()); got <= 0 || got > limit {
		t.Errorf("%g s of CPU in %s", got, time.Since(began))
	}
	if kib := residentKiB(self); kib < 1<<10 || kib > 1<<22 {
		t.Errorf("%g KiB resident", kib)
	}
	for _, none := range [][]int{nil, {-1}} {
		if !math.IsNaN(cpuSeconds(none)) || !math.IsNaN(residentKiB(none)) {
			t.Errorf("%v: want NaN", none)
		}
	}
}
