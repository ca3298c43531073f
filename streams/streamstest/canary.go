package streamstest

import (
	"bytes"
	"fmt"
	"io"
	"sync"
)

// Canary is a part of the tokens and keys that tests use, which nothing may write. Tests have Watched see what is written, and their Main
// has the check NoCanary.
const Canary = "canary-7f3a91c-"

var canary struct {
	mu     sync.Mutex
	sights []string
}

// Watched passes on what is written, and looks for the Canary in each piece.
func Watched(w io.Writer) io.Writer { return watched{w} }

type watched struct{ io.Writer }

func (w watched) Write(p []byte) (int, error) {
	Search("log", p)
	return w.Writer.Write(p)
}

// Search looks for the Canary in what was written.
func Search(where string, text []byte) {
	at := bytes.Index(text, []byte(Canary))
	if at < 0 {
		return
	}
	around := text[max(0, at-500):min(len(text), at+500)]
	canary.mu.Lock()
	defer canary.mu.Unlock()
	canary.sights = append(canary.sights, fmt.Sprintf("%s: …%s…", where, around))
}

// NoCanary is a check for Main: no secret was written.
func NoCanary() error {
	canary.mu.Lock()
	defer canary.mu.Unlock()
	if n := len(canary.sights); n > 0 {
		return fmt.Errorf("a token or key was written %d times, such as in %s", n, canary.sights[0])
	}
	return nil
}
