package embedded

import (
	"fmt"

	"github.com/rs/zerolog"
)

// logger is the server's log. The server's Fatalf means "log and exit"; with a logger that does not exit it returns, and
// the server is left half started, so the error has to reach Start by way of fail.
type logger struct {
	log  zerolog.Logger
	fail func(error)
}

func (l *logger) Noticef(format string, v ...any) { l.log.Debug().Msgf(format, v...) }
func (l *logger) Warnf(format string, v ...any)   { l.log.Warn().Msgf(format, v...) }
func (l *logger) Errorf(format string, v ...any)  { l.log.Error().Msgf(format, v...) }
func (l *logger) Debugf(format string, v ...any)  { l.log.Trace().Msgf(format, v...) }
func (l *logger) Tracef(format string, v ...any)  { l.log.Trace().Msgf(format, v...) }

func (l *logger) Fatalf(format string, v ...any) {
	l.log.Error().Msgf(format, v...)
	l.fail(fmt.Errorf("NATS server: "+format, v...))
}
