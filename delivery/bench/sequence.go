package bench

// sequence is what one client has had of messages that are numbered from 1.
type sequence struct {
	seen     int          // the largest number
	missing  map[int]bool // below it
	repeated int
	late     int // came behind a larger one
}

// see notes a message, and says whether it is new.
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

// lost is how many of so many it has not had.
func (s *sequence) lost(of int) int { return len(s.missing) + max(0, of-s.seen) }
