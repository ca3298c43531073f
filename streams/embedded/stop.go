package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Stop shuts the server down, closes its connections and releases the directory. It waits StopTimeout at most and then
// returns ErrStopping; called again, it waits again. Callers drain their own connections first.
//
// nats-server 2.15.2 sleeps 10 ms for each durable consumer it stops, one after another, and nothing it exports makes
// that faster. All that time its listener and connections stay open, while streams and consumers answer no more. After
// ErrStopping the server goes on in the background and keeps the lock until it is down, so that nobody starts on files it
// still holds. The process may exit: to the store that is a SIGKILL, and everything acknowledged has been written to
// files by then (and fsynced: always, or just before by flush). Positions reset through the API are written before the
// reply, so what may be lost is the last 100 ms of plain consumer acknowledgements.
func (s *Server) Stop() error {
	s.stopping.Do(func() { go s.shutdown() })
	timeout := time.NewTimer(s.cfg.StopTimeout)
	defer timeout.Stop()
	select {
	case <-s.down:
		return s.downErr
	case <-timeout.C:
		return fmt.Errorf("NATS server on %s %w after %s (safe to exit: the next start recovers)",
			s.cfg.Dir, ErrStopping, s.cfg.StopTimeout)
	}
}

func (s *Server) shutdown() {
	defer close(s.down)
	s.stopWatch()
	s.watch.Wait()
	// A shutdown that overtakes the start says it is complete, and what the start recovers afterwards runs on.
	<-s.started

	errs := []error{s.flush()} // first, in case the process exits before the rest is done
	s.server().Shutdown()
	s.server().WaitForShutdown()
	errs = append(errs, s.flush(), s.lock.Unlock())
	if err := errors.Join(errs...); err != nil {
		s.downErr = fmt.Errorf("stop NATS server: %w", err)
	}
}

// flush brings all messages to disk, unless every one already was. The server's own shutdown only closes its files and
// ends its periodic flushing, which would leave the last interval to the operating system for half a minute.
func (s *Server) flush() error {
	if s.cfg.SyncInterval == 0 {
		return nil
	}
	var errs []error
	for _, stream := range streamDirs(s.cfg.Dir) {
		msgs := filepath.Join(stream, "msgs")
		files, _ := os.ReadDir(msgs) // none: a memory stream, or deleted meanwhile
		for _, file := range files {
			if filepath.Ext(file.Name()) == ".blk" {
				errs = append(errs, syncFile(filepath.Join(msgs, file.Name()), os.O_RDWR))
			}
		}
		if canSyncDirs {
			errs = append(errs, syncFile(msgs, os.O_RDONLY))
		}
	}
	return errors.Join(errs...)
}

// syncFile: fsync flushes a file's pages whoever wrote them, and costs some 50 µs if there are none.
func syncFile(name string, flag int) error {
	f, err := os.OpenFile(name, flag, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // expired, purged or deleted meanwhile
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
