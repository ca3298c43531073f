package streamstest

import (
	"bytes"
	"fmt"
	"io"
	"sync"
)

// Canary is part of the secret tokens and keys that tests use. It must not appear in any output.
const Canary = "canary-7f3a91c-"

// Secrets searches output for the Canary. A package has one Secrets, passes the output of its tests to it, and gives
// its Check to Main.
type Secrets struct {
	mu    sync.Mutex
	found []string
}

// Watched returns a writer that searches everything written to it and passes it on to w.
func (s *Secrets) Watched(w io.Writer) io.Writer { return watched{s, w} }

type watched struct {
	secrets *Secrets
	w       io.Writer
}

func (w watched) Write(p []byte) (int, error) {
	w.secrets.Search("log", p)
	return w.w.Write(p)
}

// Search searches text for the Canary. where names the place of the text for the error of Check.
func (s *Secrets) Search(where string, text []byte) {
	at := bytes.Index(text, []byte(Canary))
	if at < 0 {
		return
	}
	around := text[max(0, at-500):min(len(text), at+500)]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.found = append(s.found, fmt.Sprintf("%s: …%s…", where, around))
}

// Check is a check for Main. It returns an error if any text contained the Canary.
func (s *Secrets) Check() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.found); n > 0 {
		return fmt.Errorf("a token or key was written %d times, for example in %s", n, s.found[0])
	}
	return nil
}
