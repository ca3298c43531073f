package streamstest

// Pause skips the test: Windows cannot stop a process from outside.
func (p *Process) Pause() {
	p.tb.Helper()
	p.tb.Skip("a process cannot be paused on Windows")
}

// Resume has nothing to continue.
func (p *Process) Resume() {}
