package streamstest

// Pause skips the test, because Windows has no signal that pauses a process.
func (p *Process) Pause() {
	p.tb.Helper()
	p.tb.Skip("a process cannot be paused on Windows")
}

// Resume does nothing.
func (p *Process) Resume() {}
