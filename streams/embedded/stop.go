package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Stop shuts the server down, closes its connections and releases the directory. If that takes longer than StopTimeout,
// Stop returns ErrStopping; another call waits again. Callers should drain their own connections first.
//
// nats-server 2.15.2 sleeps 10 ms for each durable consumer it stops, one after another, and its API has no way around
// that. During that time its listener and connections stay open, but streams and consumers do not answer. After
// ErrStopping the server continues to stop in the background. It keeps the lock until it is down, so that no other
// server starts on files that are still open.
//
// The process may exit after ErrStopping. For the store this equals a SIGKILL: everything acknowledged has been written
// to files, and has been synced either by the server or by flush. Positions that were reset through the API are written
// before the reply. At most the last 100 ms of plain consumer acknowledgements can be lost.
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
	// Wait for the start: a shutdown during the start would return early and leave streams running that are recovered
	// later.
	<-s.started

	errs := []error{s.flush()} // first, because the process may exit before the shutdown is complete
	s.server().Shutdown()
	s.server().WaitForShutdown()
	errs = append(errs, s.flush(), s.lock.Unlock())
	if err := errors.Join(errs...); err != nil {
		s.downErr = fmt.Errorf("stop NATS server: %w", err)
	}
}

// flush syncs all messages to disk, unless the server syncs each one. The server's shutdown closes its files without a
// sync, so the messages of the last interval would stay in the operating system's cache for up to half a minute.
func (s *Server) flush() error {
	if s.cfg.SyncInterval == 0 {
		return nil
	}
	var errs []error
	for _, stream := range streamDirs(s.cfg.Dir) {
		msgs := filepath.Join(stream, "msgs")
		files, _ := os.ReadDir(msgs) // missing for a memory stream or a deleted stream
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

// syncFile syncs a file to disk. fsync writes all cached pages of the file, no matter which descriptor wrote them;
// without any it takes about 50 µs.
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
