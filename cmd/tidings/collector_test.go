package main

import "testing"

func TestGCPercent(t *testing.T) {
	const mib = 1 << 20
	for used, want := range map[uint64]int{
		0: 400, mib: 400, 64 * mib: 400, 80 * mib: 300, 128 * mib: 200, 200 * mib: 125, 256 * mib: 100, 1 << 40: 100,
	} {
		got := gcPercent(used)
		if got != want {
			t.Errorf("with %d MiB in use GOGC=%d, want %d", used/mib, got, want)
		}
		if room := used / 100 * uint64(got); room > max(used, gcHeadroom) {
			t.Errorf("with %d MiB in use %d MiB may be allocated", used/mib, room/mib)
		}
	}
}
