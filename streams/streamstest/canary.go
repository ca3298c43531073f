package streamstest

import (
	"bytes"
	"fmt"
	"io"
	"sync"
)

// Canary is a part of the tokens and keys that tests use, which nothing may write.
const Canary = "canary-7f3a91c-"

// Secrets looks for the Canary in what is written. A package has one, which sees what its tests can see, and its Main has the check.
type Secrets struct {
	mu     sync.Mutex
	sights []string
}

// Watched passes on what is written, and searches each piece.
func (s *Secrets) Watched(w io.Writer) io.Writer { return watched{s, w} }

type watched struct {
	secrets *Secrets
	w       io.Writer
}

func (w watched) Write(p []byte) (int, error) {
	w.secrets.Search("log", p)
	return w.w.Write(p)
}

// Search looks for the Canary in a text.
func (s *Secrets) Search(where string, text []byte) {
	at := bytes.Index(text, []byte(Canary))
	if at < 0 {
		return
	}
	around := text[max(0, at-500):min(len(text), at+500)]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sights = append(s.sights, fmt.Sprintf("%s: …%s…", where, around))
}

// Check is for Main: no secret was written.
func (s *Secrets) Check() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.sights); n > 0 {
		return fmt.Errorf("a token or key was written %d times, such as in %s", n, s.sights[0])
	}
	return nil
}
