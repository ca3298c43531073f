package delivery

// Unready says why no client should be sent here now, in a few words each; nothing: it is ready. It asks nobody, so it may be called
// as often as one likes.
func (g *Gateway) Unready() (reasons []string) {
	g.all.mu.Lock()
	if g.all.leaving {
		reasons = append(reasons, "draining")
	}
	g.all.mu.Unlock()
	if !g.cfg.NATS.IsConnected() {
		return append(reasons, "NATS is away")
	}
	if err := g.cfg.Tail.Check(); err != nil {
		reasons = append(reasons, err.Error())
	}
	return reasons
}
