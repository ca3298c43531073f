package embedded

import (
	"fmt"
	"strings"

	"github.com/rs/zerolog"
)

// logger passes the server's log to zerolog. The server expects Fatalf to end the process. Here Fatalf returns, which
// leaves the server partly started, so it also reports the error through fail.
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

// warningLevel returns the level for a warning of the server. It is info for the outdated state that the server finds
// and repairs after every crash, since a warning would suggest data loss. It is also info for the plaintext password,
// which this process sets and which is only in memory.
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
