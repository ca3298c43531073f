package main

import "github.com/rs/zerolog"

// fewFiles is fewer than a gateway that is in use may want: one for each connection, and with NATS inside three for each user.
const fewFiles = 4096

func warnOfFewFiles(log zerolog.Logger) {
	if n, known := fileLimit(); known && n < fewFiles {
		log.Warn().Uint64("limit", n).Msg("few files may be open, and a connection is one: raise the limit, by ulimit -n or LimitNOFILE of systemd")
	}
}
