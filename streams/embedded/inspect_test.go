package embedded

import (
	"sync"
	"testing"
)

// Who looks at a directory keeps nobody from using it.
func TestInspectKeepsNobodyOut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lock, err := lockDir(dir) // makes the file
	if err != nil {
		t.Fatal(err)
	}
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
	var looking sync.WaitGroup
	defer looking.Wait()
	done := make(chan struct{})
	defer close(done)
	looking.Go(func() {
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
