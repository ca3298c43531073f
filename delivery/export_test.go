package delivery

// DecodePublication lets the fuzzer read bodies without a server.
func DecodePublication(body []byte) (users []string, topic string, data []byte, err error) {
	p, err := decodePublication(body)
	return p.users, p.topic, p.n.Data, err
}

// DecodeAcknowledgement is the same of the other body that strangers send.
func DecodeAcknowledgement(body []byte) (epoch string, seq uint64, device string, err error) {
	a, err := decodeAcknowledgement(body)
	return a.epoch, a.seq, a.device, err
}

// StatusOf is the HTTP status of an error.
func StatusOf(err error) int { return problemFor(err).Status }

// Inside is how many are in, how many of those were not admitted yet, and from how many addresses they are.
func (g *Gateway) Inside() (all, unknown, addresses int) {
	g.gate.mu.Lock()
	defer g.gate.mu.Unlock()
	return g.gate.in.all, g.gate.in.unknown, len(g.gate.of)
}

// Refused is how many were turned away by a limit.
func (g *Gateway) Refused(kind string) int64 { return g.gate.refused[kind].n.Load() }

// Unconfirmed is how many connections of the user have a gap that the client has not confirmed.
func (g *Gateway) Unconfirmed(user string) (n int) {
	g.hub.mu.Lock()
	defer g.hub.mu.Unlock()
	for _, s := range g.hub.users[user] {
		if s.owed.Load() > 0 {
			n++
		}
	}
	return n
}
