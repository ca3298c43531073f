package main

import (
	"os"
	"runtime"

	"github.com/rs/zerolog"
)

// recommendedFiles is the limit on open files below which a warning is logged. Each connection takes one. The positions in the embedded
// NATS server are files too, but are not kept open.
const recommendedFiles = 4096

// warnAboutFileLimit logs a warning if the limit on open files is low, or too low for so many connections.
func warnAboutFileLimit(log zerolog.Logger, connections int) {
	n, known := fileLimit()
	switch {
	case known && connections > connectionsWithin(n):
		log.Warn().Uint64("limit", n).Int("enough for", connectionsWithin(n)).Int("max-connections", connections).
			Msg("limit on open files too low for --max-connections: raise it with ulimit -n, or LimitNOFILE of systemd")
	case known && n < recommendedFiles:
		log.Warn().Uint64("limit", n).Msg("low limit on open files, each connection takes one: raise it with ulimit -n, or LimitNOFILE of systemd")
	}
}

// warnIfWorldReadable logs a warning if every user of this machine can read a file of secrets. Its group may read it, since that is how
// Kubernetes and systemd give access.
func warnIfWorldReadable(log zerolog.Logger, what, file string) {
	info, err := os.Stat(file)
	if err != nil || runtime.GOOS == "windows" || info.Mode().Perm()&0o007 == 0 { // on Windows, modes do not show who has access
		return
	}
	log.Warn().Str("file", file).Stringer("mode", info.Mode()).Msg("file with the " + what + " is accessible to all users: chmod o=")
}
