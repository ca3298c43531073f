package bench

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
)

// What processes use is read from Linux' /proc: two numbers, for which a library would bring ports to systems on which nobody
// measures. Elsewhere they are NaN, and figures that need them are left out.

// ticks a second of CPU times in /proc: 100 on every architecture that Go knows, by the kernel's ABI.
const ticks = 100

// cpuSeconds is what the processes have used since they began, in user and in system.
func cpuSeconds(pids []int) float64 {
	return sum(pids, func(pid int) (float64, error) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, err
		}
		// proc_pid_stat(5): the second field is the name in parentheses, and may hold anything; utime and stime are 14 and 15.
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(fields) < 13 {
			return 0, errors.New("too short")
		}
		user, err := strconv.ParseFloat(fields[11], 64)
		system, err2 := strconv.ParseFloat(fields[12], 64)
		return (user + system) / ticks, errors.Join(err, err2)
	})
}

// residentKiB is what the processes have in memory.
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

// spending returns what tells how many seconds of CPU the processes have used since now.
func spending(pids []int) func() float64 {
	began := cpuSeconds(pids)
	return func() float64 { return cpuSeconds(pids) - began }
}
