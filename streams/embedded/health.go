package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// awaitReady waits until the server has started, and logs the progress of recovery at the given interval.
func (s *Server) awaitReady(ctx context.Context, held holding, every time.Duration) error {
	timeout := s.cfg.startTimeout(held)
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	progress := time.NewTicker(every)
	defer progress.Stop()
	for began := time.Now(); ; {
		select {
		case <-s.started:
			return s.checkStarted()
		case <-ctx.Done():
			return fmt.Errorf("start NATS server: %w", ctx.Err())
		case <-deadline.C:
			return fmt.Errorf("NATS server not ready after %s with %d durable consumers and %d MiB of messages in %s (allow a longer start)",
				timeout, held.durables, held.bytes>>20, s.cfg.Dir)
		case <-progress.C:
			s.log.Info().Dur("elapsed_ms", time.Since(began)).Dur("timeout_ms", timeout).
				Int("durables", held.durables).Int64("bytes", held.bytes).Msg("recovering the JetStream store")
		}
	}
}

// checkStarted returns an error if the start failed or if a stream could not be recovered. The server only logs a
// failed start, and does not treat an unreadable stream as an error. Without this check, the gateway would create an
// empty stream in its place.
func (s *Server) checkStarted() error {
	select {
	case err := <-s.failed:
		return err
	default:
	}
	if !s.server().ReadyForConnections(time.Second) {
		return errors.New("start NATS server: it does not accept connections")
	}
	health := s.server().Healthz(&server.HealthzOptions{Details: true})
	for _, e := range health.Errors {
		dir := filepath.Join(streamsDir(s.cfg.Dir, e.Account), e.Stream)
		_, err := os.Stat(filepath.Join(dir, "meta.inf")) // without this file, it is the remainder of a deleted stream
		if e.Type == server.HealthzErrorStream && !strings.HasPrefix(e.Stream, ".") && err == nil {
			return fmt.Errorf("%s (restore %s from a backup, or move it away to start without it)", e.Error, dir)
		}
		s.log.Warn().Str("problem", e.Error).Msg("problem in the JetStream store")
	}
	return nil
}

// watchHealth checks the server and the disk at the given interval, until ctx ends or a fatal error occurs. Each check
// lists the directories of accounts and streams.
func (s *Server) watchHealth(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := s.broken()
		if err == nil || errors.Is(err, errOutOfSpace) {
			err = s.checkDisk(ctx, err != nil)
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			s.log.Error().Err(err).Msg("embedded NATS server failed")
			s.fail(err)
			return
		}
	}
}

// broken returns an error if the server runs but stores nothing. There are two such states: the server disabled
// JetStream after a failed write or because the store ran out of resources, or a write to a stream's file failed.
func (s *Server) broken() error {
	health := s.server().Healthz(&server.HealthzOptions{Details: true})
	for _, e := range health.Errors {
		switch {
		case e.Type == server.HealthzErrorJetStream:
			return fmt.Errorf("JetStream was disabled by the server (see its errors in the log; is the disk full or read-only?): %s", e.Error)
		case e.Type == server.HealthzErrorStream && strings.Contains(e.Error, "write error") && isOutOfSpace(e.Error):
			return fmt.Errorf("%w: %s", errOutOfSpace, e.Error)
		case e.Type == server.HealthzErrorStream && strings.Contains(e.Error, "write error"):
			return fmt.Errorf("%s (is the disk full?)", e.Error)
		}
	}
	return nil
}
