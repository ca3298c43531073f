package streamstest

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// Raw publishes over its own connection without a client library, so that a header block can have any bytes. The server
// must accept connections without credentials.
type Raw struct {
	conn net.Conn
	in   *bufio.Reader
}

// DialRaw connects to a server. The caller must call Close.
func DialRaw(url string) (*Raw, error) {
	conn, err := net.DialTimeout("tcp", strings.TrimPrefix(url, "nats://"), 10*time.Second)
	if err != nil {
		return nil, err
	}
	r := &Raw{conn: conn, in: bufio.NewReader(conn)}
	_, err = io.WriteString(conn, "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true}\r\n")
	if err == nil {
		err = r.Flush()
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return r, nil
}

// Close closes the connection.
func (r *Raw) Close() { r.conn.Close() }

// Publish sends a message. block is the header block; empty: no headers.
func (r *Raw) Publish(subject, block, data string) error {
	command := fmt.Sprintf("HPUB %s %d %d\r\n%s%s\r\n", subject, len(block), len(block)+len(data), block, data)
	if block == "" {
		command = fmt.Sprintf("PUB %s %d\r\n%s\r\n", subject, len(data), data)
	}
	_, err := io.WriteString(r.conn, command)
	return err
}

// Flush waits until the server has processed everything sent before. It returns an error if the server rejected
// something.
func (r *Raw) Flush() error {
	_ = r.conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(r.conn, "PING\r\n"); err != nil {
		return err
	}
	var rejected error
	for {
		line, err := r.in.ReadString('\n')
		switch {
		case err != nil:
			return cmp.Or(rejected, err) // the server closes the connection after some errors
		case strings.HasPrefix(line, "PONG"):
			return rejected
		case strings.HasPrefix(line, "-ERR"): // which may come before what is stored all the same
			rejected = fmt.Errorf("the server answered %s", strings.TrimSpace(line))
		}
	}
}
