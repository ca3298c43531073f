package delivery

// DecodePublication lets the fuzzer read bodies without a server.
func DecodePublication(body []byte) (users []string, topic string, data []byte, err error) {
	p, err := decodePublication(body)
	return p.users, p.topic, p.n.Data, err
}

// StatusOf is the HTTP status of an error.
func StatusOf(err error) int { return problemFor(err).Status }
