package main

import (
	"os"
	"runtime"

	"github.com/rs/zerolog"
)

// fewFiles is fewer than a gateway that is in use may want: one for each connection. A user whom NATS inside knows is files on disk,
// which are not kept open.
const fewFiles = 4096

func warnOfFewFiles(log zerolog.Logger, connections int) {
	n, known := fileLimit()
	switch {
	case known && connections > connectionsWithin(n):
		log.Warn().Uint64("limit", n).Int("enough for", connectionsWithin(n)).Int("max-connections", connections).
			Msg("--max-connections is more than the limit on open files leaves room for: raise that, by ulimit -n or LimitNOFILE of systemd")
	case known && n < fewFiles:
		log.Warn().Uint64("limit", n).Msg("few files may be open, and a connection is one: raise the limit, by ulimit -n or LimitNOFILE of systemd")
	}
}

// warnOfReaders warns where anybody on this machine can read a file of secrets. Its group may: that is how Kubernetes and systemd give access.
func warnOfReaders(log zerolog.Logger, what, file string) {
	info, err := os.Stat(file)
	if err != nil || runtime.GOOS == "windows" || info.Mode().Perm()&0o007 == 0 { // where modes say nothing
		return
	}
	log.Warn().Str("file", file).Stringer("mode", info.Mode()).Msg("others than its owner and group can read the " + what + ": chmod o=")
}
