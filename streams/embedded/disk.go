package embedded

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// When a write fails because the disk is full, nats-server 2.15 stops writing to that stream. It still serves reads,
// but does not answer publishers until it is restarted, even if there is free space again. Therefore publishing is
// refused before the disk is full. If another program fills the disk between two checks, the server is restarted within
// this process as soon as there is free space.

// restartEvery is the minimum time between two restarts. Without it, a write that fails although the disk has free
// space, for example because of a quota, would cause endless restarts.
const restartEvery = 10 * time.Second

// refuseBelow returns the free space in bytes below which publishing is refused. It is allowed again at twice that.
func refuseBelow(total uint64) uint64 { return min(64<<20, total/16) }

// MinRoom returns the number of bytes below which the room of a store with the given limit counts as used up: a message
// of the maximum size no longer fits. With a limit of less than eight such messages it is an eighth of the limit.
func MinRoom(limit, maxPayload int64) int64 { return min(maxPayload, limit/8) }

// Full reports whether publishing is refused because the disk is full or the store has reached its limit.
func (s *Server) Full() bool { return s.full.Load() || s.atLimit.Load() }

// errOutOfSpace is the error of broken if a stream stopped storing because the disk was full.
var errOutOfSpace = errors.New("the disk is full")

// isOutOfSpace reports whether an error text of the server means that the disk, or a quota, is full.
func isOutOfSpace(text string) bool {
	for _, part := range []string{"no space left", "quota exceeded", "not enough space"} { // Unix, Unix, Windows
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

// checkDisk refuses publishing while the disk is full, and allows it again when there is free space. broken means that
// a write found the disk full; then checkDisk restarts the server once there is space. It also notes whether the store
// has reached its limit. Any error is fatal for the server.
func (s *Server) checkDisk(ctx context.Context, broken bool) error {
	free, total, unknown := diskSpace(s.cfg.Dir)
	minFree := refuseBelow(total)
	hasSpace := unknown != nil || free >= 2*minFree
	switch {
	case broken && hasSpace && time.Now().After(s.restartAt):
		s.restartAt = time.Now().Add(restartEvery)
		if err := s.restart(ctx); err != nil {
			return err
		}
	case broken, unknown == nil && free < minFree:
		if !s.full.Swap(true) {
			s.log.Error().Str("dir", s.cfg.Dir).Uint64("free_bytes", free).Uint64("needed_bytes", 2*minFree).Bool("write_failed", broken).
				Msg("disk full; publishing is refused")
		}
		return s.setStoreLimit(0)
	case s.full.Load() && !hasSpace:
		return nil
	}
	held := s.held()
	want := s.cfg.maxStore(held, free, total)
	if want == 0 {
		want = -1 // the server has chosen its own limit
	}
	// Raise the limit if other programs freed space. If they use more, keep the limit until publishing is refused.
	raise := free > 2*reserve(total) && want > s.storeLimit+int64(reserve(total))
	allowAgain := s.full.Swap(false)
	if allowAgain {
		s.log.Info().Uint64("free_bytes", free).Msg("disk has free space; publishing is allowed")
	}
	if allowAgain || raise || s.storeLimit == noLimit {
		if err := s.setStoreLimit(want); err != nil {
			return err
		}
	}
	s.checkLimit(held.bytes)
	return nil
}

// checkLimit notes and logs whether a store of the given size has reached its limit, at which the server refuses
// messages. The limit counts as reached until there is twice the minimum room again.
func (s *Server) checkLimit(bytes int64) {
	if s.storeLimit < 0 {
		return // the server has chosen its own limit
	}
	room, minRoom := s.storeLimit-bytes, MinRoom(s.storeLimit, int64(s.cfg.MaxPayload))
	switch was := s.atLimit.Load(); {
	case !was && room < minRoom:
		s.atLimit.Store(true)
		s.log.Error().Int64("bytes", bytes).Int64("limit_bytes", s.storeLimit).
			Msg("store limit reached; publishing is refused (raise --max-store, or make room on the disk if it is not set)")
	case was && room >= 2*minRoom:
		s.atLimit.Store(false)
		s.log.Info().Int64("bytes", bytes).Int64("limit_bytes", s.storeLimit).Msg("store is below its limit; publishing is allowed")
	}
}

// held returns the current size of the store in bytes; the number of durables is not set.
func (s *Server) held() (h holding) {
	if info, err := s.server().Jsz(nil); err == nil {
		h.bytes = int64(info.Store)
	}
	return h
}

// setStoreLimit sets how many bytes all streams together may use on disk; -1: only the server-wide limit applies.
func (s *Server) setStoreLimit(bytes int64) error {
	if s.storeLimit == bytes {
		return nil
	}
	limits := server.JetStreamAccountLimits{
		MaxMemory: -1, MaxStore: bytes, MaxStreams: -1, MaxConsumers: -1, MaxAckPending: -1, MemoryMaxStreamBytes: -1, StoreMaxStreamBytes: -1,
	}
	err := s.server().GlobalAccount().UpdateJetStreamLimits(map[string]server.JetStreamAccountLimits{"": limits})
	if err != nil {
		return fmt.Errorf("limit the JetStream store to %d bytes: %w", bytes, err)
	}
	s.storeLimit = bytes
	return nil
}

// restart stops the server and starts a new one with the same directory and port, to which clients reconnect.
func (s *Server) restart(ctx context.Context) error {
	s.log.Warn().Msg("restarting the embedded NATS server: a write failed because the disk was full, and there is free space now")
	old := s.server()
	old.Shutdown()
	old.WaitForShutdown()
	for tries := 0; ; tries++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		_, err := s.boot(ctx)
		if errors.Is(err, ErrPortTaken) && tries < 50 {
			// A child process that is just being started holds copies of all open sockets until its program is
			// executed.
			time.Sleep(100 * time.Millisecond)
			continue
		}
		if err != nil {
			return fmt.Errorf("restart the NATS server: %w", err)
		}
		s.storeLimit = noLimit
		return nil
	}
}
