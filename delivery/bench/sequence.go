package bench

// sequence records which messages, numbered from 1, one client has received.
type sequence struct {
	seen     int          // the largest number
	missing  map[int]bool // missing numbers below seen
	repeated int
	late     int // messages that arrived after a larger number
}

// see records a message and reports whether it is new.
func (s *sequence) see(n int) bool {
	switch {
	case n > s.seen:
		for i := s.seen + 1; i < n; i++ {
			if s.missing == nil {
				s.missing = map[int]bool{}
			}
			s.missing[i] = true
		}
		s.seen = n
	case s.missing[n]:
		delete(s.missing, n)
		s.late++
	default:
		s.repeated++
		return false
	}
	return true
}

// lost returns how many of the first messages are missing.
func (s *sequence) lost(of int) int { return len(s.missing) + max(0, of-s.seen) }
