package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/rs/zerolog"
)

// certificate checks the certificate for clients.
func (d *doctor) certificate(context.Context) []finding {
	if d.tls.cert == "" {
		if d.tls.byProxy {
			return good("none: --tls-by-proxy says that a proxy does TLS")
		}
		return good("none: only this machine can connect")
	}
	var logged warnings
	c := &certificate{tlsFlags: d.tls, log: logged.logger()}
	if err := c.load(); err != nil {
		return failed(err)
	}
	findings := certificateFinding(c.pair.Load().Leaf, d.tls.cert, time.Now())
	for _, w := range logged {
		if w.Expires.IsZero() { // certificateFinding reports the expiry
			findings = append(findings, w.finding()...)
		}
	}
	return findings
}

func certificateFinding(leaf *x509.Certificate, file string, now time.Time) []finding {
	const do, day = "replace the file, a gateway reloads it by itself", 24 * time.Hour
	switch left := leaf.NotAfter.Sub(now); {
	case left <= 0:
		return bad(do, "%s expired on %s", file, leaf.NotAfter.Local().Format(time.DateTime))
	case leaf.NotBefore.After(now):
		return bad("is the clock right? else "+do, "%s is not valid before %s", file, leaf.NotBefore.Local().Format(time.DateTime))
	case left < expiresSoon:
		return poor(do, "%s expires in %s", file, counted(int(left/day), "day"))
	default:
		return good("%s expires in %s", file, counted(int(left/day), "day"))
	}
}

// keys checks the API keys. It reads them as a gateway does.
func (d *doctor) keys(context.Context) (findings []finding) {
	var logged warnings
	keys, err := d.readKeys(logged.logger())
	if err != nil {
		findings = failed(err)
		findings[0].Do = cmp.Or(findings[0].Do, "name a file that the gateway may read, with a key on each line")
		return findings
	}
	for _, w := range logged {
		findings = append(findings, w.finding()...)
	}
	switch {
	case findings != nil:
		return findings
	case keys.Len() == 0 && d.dev:
		return good("none but the one that --dev creates")
	case keys.Len() == 0:
		return good("no API key, so the HTTP API is off")
	}
	return good("%s for the HTTP API", counted(keys.Len(), "key"))
}

// warning is a warning in the log of a gateway. Its message is what was found, a colon, and what to do.
type warning struct {
	Message string    `json:"message"`
	File    string    `json:"file"`
	Expires time.Time `json:"expires"`
}

func (w warning) finding() []finding {
	found, do := w.Message, "see the gateway's log"
	if at := strings.LastIndex(found, ": "); at > 0 {
		found, do = found[:at], found[at+2:]
	}
	if w.File != "" {
		found = w.File + ": " + found
	}
	return poor(do, "%s", found)
}

// warnings collects the lines written to its logger.
type warnings []warning

func (ws *warnings) logger() zerolog.Logger { return zerolog.New(ws).Level(zerolog.WarnLevel) }

func (ws *warnings) Write(line []byte) (int, error) {
	var w warning
	if err := json.Unmarshal(line, &w); err != nil {
		return 0, fmt.Errorf("parse log line: %w", err)
	}
	*ws = append(*ws, w)
	return len(line), nil
}
