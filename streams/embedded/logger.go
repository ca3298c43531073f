package embedded

import (
	"fmt"
	"strings"

	"github.com/rs/zerolog"
)

// logger is the server's log. The server's Fatalf means "log and exit"; with a logger that does not exit it returns, and
// the server is left half started, so the error has to reach Start by way of fail.
type logger struct {
	log  zerolog.Logger
	fail func(error)
}

func (l *logger) Noticef(format string, v ...any) { l.log.Debug().Msgf(format, v...) }
func (l *logger) Warnf(format string, v ...any) {
	l.log.WithLevel(warningLevel(format)).Msgf(format, v...)
}
func (l *logger) Errorf(format string, v ...any) { l.log.Error().Msgf(format, v...) }
func (l *logger) Debugf(format string, v ...any) { l.log.Trace().Msgf(format, v...) }
func (l *logger) Tracef(format string, v ...any) { l.log.Trace().Msgf(format, v...) }

// warningLevel is info for what the server finds at the start after each crash, and cures by itself: as a warning it reads like a loss.
// So is what it thinks of the password in its configuration, which is ours and only in memory.
func warningLevel(format string) zerolog.Level {
	if strings.Contains(format, "Plaintext passwords detected") || strings.Contains(format, "tate is outdated") || strings.Contains(format, "tate outdated") {
		return zerolog.InfoLevel
	}
	return zerolog.WarnLevel
}

func (l *logger) Fatalf(format string, v ...any) {
	l.log.Error().Msgf(format, v...)
	l.fail(fmt.Errorf("NATS server: "+format, v...))
}
