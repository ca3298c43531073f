package streamstest

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// serverLog keeps the newest log lines of a server, for failed tests. Its Fatalf does not end the process; launch
// checks for a fatal error with takeFatal.
type serverLog struct {
	out io.Writer // nil: keep the newest lines

	mu    sync.Mutex
	lines []string
	fatal error
}

func (l *serverLog) Noticef(format string, v ...any) { l.add("notice", format, v) }
func (l *serverLog) Warnf(format string, v ...any)   { l.add("warn", format, v) }
func (l *serverLog) Errorf(format string, v ...any)  { l.add("error", format, v) }
func (l *serverLog) Debugf(string, ...any)           {}
func (l *serverLog) Tracef(string, ...any)           {}

func (l *serverLog) Fatalf(format string, v ...any) {
	l.add("fatal", format, v)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fatal = fmt.Errorf(format, v...)
}

func (l *serverLog) add(level, format string, v []any) {
	line := time.Now().Format("15:04:05.000 ") + level + ": " + fmt.Sprintf(format, v...)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.out != nil {
		fmt.Fprintln(l.out, line)
		return
	}
	if len(l.lines) >= 500 {
		l.lines = l.lines[100:]
	}
	l.lines = append(l.lines, line)
}

// takeFatal returns the last fatal error, if any, and clears it.
func (l *serverLog) takeFatal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.fatal
	l.fatal = nil
	return err
}

func (l *serverLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}
