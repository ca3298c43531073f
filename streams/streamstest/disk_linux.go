package streamstest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A Disk is a small, separate file system that a test can fill.
type Disk struct {
	Dir     string
	tb      testing.TB
	ballast string
}

// NewDisk mounts a tmpfs of the given size, which is unmounted when the test ends. Without root it skips the test. If
// CI is "true" and root may not mount, it fails the test.
func NewDisk(tb testing.TB, bytes int) *Disk {
	tb.Helper()
	dir := tb.TempDir()
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", bytes))
	if errors.Is(err, syscall.EPERM) && (os.Getenv("CI") != "true" || os.Geteuid() != 0) {
		tb.Skip("mounting a small file system needs root: ", err)
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

// Fill writes to a file of its own until at most leave bytes are free.
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

// Free returns the number of free bytes.
func (d *Disk) Free() int {
	d.tb.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(d.Dir, &st); err != nil {
		d.tb.Fatal(err)
	}
	return int(st.Bavail) * int(st.Bsize)
}

// Empty removes the file written by Fill.
func (d *Disk) Empty() {
	d.tb.Helper()
	if err := os.Remove(d.ballast); err != nil {
		d.tb.Fatal(err)
	}
}
