package streamstest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A Disk is a small file system of its own, which a test may fill.
type Disk struct {
	Dir     string
	tb      testing.TB
	ballast string
}

// NewDisk mounts a tmpfs of so many bytes until the test ends. It needs root and skips the test without, but not in CI.
func NewDisk(tb testing.TB, bytes int) *Disk {
	tb.Helper()
	dir := tb.TempDir()
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", bytes))
	if errors.Is(err, syscall.EPERM) && (os.Getenv("CI") != "true" || os.Geteuid() != 0) {
		tb.Skip("only root may mount a small file system to fill: ", err)
	}
	if err != nil {
		tb.Fatal("mount: ", err)
	}
	tb.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			tb.Error("unmount: ", err)
		}
	})
	return &Disk{Dir: dir, tb: tb, ballast: filepath.Join(dir, "ballast")}
}

// Fill writes a file of something else until at most so many bytes are free.
func (d *Disk) Fill(leave int) {
	d.tb.Helper()
	f, err := os.OpenFile(d.ballast, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		d.tb.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 4<<10); d.Free() > leave; {
		if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
			return
		} else if err != nil {
			d.tb.Fatal(err)
		}
	}
}

// Free is the number of bytes that are free.
func (d *Disk) Free() int {
	d.tb.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(d.Dir, &st); err != nil {
		d.tb.Fatal(err)
	}
	return int(st.Bavail) * int(st.Bsize)
}

// Empty removes what Fill has written.
func (d *Disk) Empty() {
	d.tb.Helper()
	if err := os.Remove(d.ballast); err != nil {
		d.tb.Fatal(err)
	}
}
