package delivery

// Rights are the subjects to which a NATS user must be allowed to publish and to subscribe for what gateways tell each other, beside
// those of package streams and the one on which tokens are asked about. To be listed as a NATS service is beyond that.
func Rights() (publish, subscribe []string) {
	both := []string{DisconnectSubject, ackedPrefix + "*"}
	return both, both
}
