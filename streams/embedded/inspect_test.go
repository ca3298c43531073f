package embedded

import (
	"sync"
	"testing"
)

// TestInspectDoesNotBlockLock checks that concurrent calls of Inspect do not prevent taking the lock of a directory.
func TestInspectDoesNotBlockLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lock, err := lockDir(dir) // creates the lock file
	if err != nil {
		t.Fatal(err)
	}
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
	var inspecting sync.WaitGroup
	defer inspecting.Wait()
	done := make(chan struct{})
	defer close(done)
	inspecting.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if _, err := Inspect(dir); err != nil {
				t.Error(err)
			}
		}
	})
	for range 200 {
		lock, err := lockDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		if in, err := Inspect(dir); err != nil || in.UsedBy == "" {
			t.Errorf("%+v, %v", in, err)
		}
		if err := lock.Unlock(); err != nil {
			t.Fatal(err)
		}
		if in, err := Inspect(dir); err != nil || in.UsedBy != "" {
			t.Errorf("%+v, %v", in, err)
		}
	}
}
