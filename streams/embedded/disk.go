package embedded

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// nats-server 2.15 gives a stream's store up when a write finds the disk full: it goes on reading, and answers no publisher until it is
// started again, however much room there is. So publishing is refused before the disk is full, and where something else fills it faster
// than it is looked at, the server is restarted in this process once there is room.

// restartEvery bounds how often the server is restarted because a write found no space although the disk has some, as with a quota.
const restartEvery = 10 * time.Second

// refuseBelow is the free space in bytes below which publishing is refused. It is allowed again at twice that.
func refuseBelow(total uint64) uint64 { return min(64<<20, total/16) }

// Full reports whether publishing is refused because the disk is full.
func (s *Server) Full() bool { return s.full.Load() }

// errOutOfSpace is in the error of a store that was given up because a write found the disk full.
var errOutOfSpace = errors.New("the disk is full")

func outOfSpace(text string) bool {
	for _, says := range []string{"no space left", "quota exceeded", "not enough space"} { // Unix, Unix, Windows
		if strings.Contains(text, says) {
			return true
		}
	}
	return false
}

// checkDisk refuses publishing while the disk is full, and allows it again when there is room. It restarts a server whose store is broken
// by a full disk. An error is one after which the server is of no use any more.
func (s *Server) checkDisk(ctx context.Context, broken bool) error {
	free, total, unknown := diskSpace(s.cfg.Dir)
	least := refuseBelow(total)
	room := unknown != nil || free >= 2*least
	switch {
	case broken && room && time.Now().After(s.restartAt):
		s.restartAt = time.Now().Add(restartEvery)
		if err := s.restart(ctx); err != nil {
			return err
		}
	case broken, unknown == nil && free < least:
		if !s.full.Swap(true) {
			s.log.Error().Str("dir", s.cfg.Dir).Uint64("free_bytes", free).Uint64("needed_bytes", 2*least).Bool("write_failed", broken).
				Msg("disk full; publishing is refused")
		}
		return s.allow(0)
	case s.full.Load() && !room:
		return nil
	}
	want := s.cfg.maxStore(s.held(), free, total)
	if want == 0 {
		want = -1 // the server has chosen
	}
	// Where others freed space, more is allowed. Where they take it, what was allowed stays, down to the least.
	more := free > 2*reserve(total) && want > s.allowed+int64(reserve(total))
	if s.full.Swap(false) {
		s.log.Info().Uint64("free_bytes", free).Msg("room on the disk; publishing is allowed")
	} else if s.allowed != noLimit && !more {
		return nil
	}
	return s.allow(want)
}

// held is what the store holds now.
func (s *Server) held() (h holding) {
	if info, err := s.server().Jsz(nil); err == nil {
		h.bytes = int64(info.Store)
	}
	return h
}

// allow sets the bytes that all streams together may hold on disk; -1: no limit but the server's.
func (s *Server) allow(bytes int64) error {
	if s.allowed == bytes {
		return nil
	}
	limits := server.JetStreamAccountLimits{
		MaxMemory: -1, MaxStore: bytes, MaxStreams: -1, MaxConsumers: -1, MaxAckPending: -1, MemoryMaxStreamBytes: -1, StoreMaxStreamBytes: -1,
	}
	err := s.server().GlobalAccount().UpdateJetStreamLimits(map[string]server.JetStreamAccountLimits{"": limits})
	if err != nil {
		return fmt.Errorf("limit the JetStream store to %d bytes: %w", bytes, err)
	}
	s.allowed = bytes
	return nil
}

// restart ends the server and starts another one on the same directory and port. Connections that come again find that one.
func (s *Server) restart(ctx context.Context) error {
	s.log.Warn().Msg("restarting the embedded NATS server: a write found the disk full, and there is room again")
	old := s.server()
	old.Shutdown()
	old.WaitForShutdown()
	for tries := 0; ; tries++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		_, err := s.boot(ctx)
		if errors.Is(err, ErrPortTaken) && tries < 50 { // by a process that this one is just starting, which has all its files until then
			time.Sleep(100 * time.Millisecond)
			continue
		}
		if err != nil {
			return fmt.Errorf("restart the NATS server: %w", err)
		}
		s.allowed = noLimit
		return nil
	}
}
