package bench

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
)

// CPU and memory use are read from Linux' /proc. These are only two numbers, so a library with support for other
// systems is not worth it. On other systems they are NaN, and figures that need them are omitted.

// ticks is the unit of CPU times in /proc, per second. It is 100 on every architecture that Go supports.
const ticks = 100

// cpuSeconds returns the CPU time that the processes have used since their start, in user and kernel mode.
func cpuSeconds(pids []int) float64 {
	return sum(pids, func(pid int) (float64, error) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, err
		}
		// proc_pid_stat(5): the second field is the name in parentheses, which may contain anything; utime and stime
		// are 14 and 15.
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(fields) < 13 {
			return 0, errors.New("too few fields")
		}
		user, err := strconv.ParseFloat(fields[11], 64)
		system, err2 := strconv.ParseFloat(fields[12], 64)
		return (user + system) / ticks, errors.Join(err, err2)
	})
}

// residentKiB returns the resident memory of the processes in KiB.
func residentKiB(pids []int) float64 {
	return sum(pids, func(pid int) (float64, error) {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return 0, err
		}
		_, rest, found := strings.Cut(string(status), "\nVmRSS:")
		fields := strings.Fields(rest)
		if !found || len(fields) == 0 {
			return 0, errors.New("no VmRSS")
		}
		return strconv.ParseFloat(fields[0], 64)
	})
}

func sum(pids []int, of func(pid int) (float64, error)) float64 {
	total := 0.0
	for _, pid := range pids {
		value, err := of(pid)
		if err != nil {
			return math.NaN()
		}
		total += value
	}
	if len(pids) == 0 {
		return math.NaN()
	}
	return total
}

// spending returns a function that returns the CPU seconds that the processes have used since the call of spending.
func spending(pids []int) func() float64 {
	began := cpuSeconds(pids)
	return func() float64 { return cpuSeconds(pids) - began }
}
