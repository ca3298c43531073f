package delivery

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// textFrame is one of a server, as RFC 6455, 5.2, has it.
func textFrame(data string) []byte {
	switch n := len(data); {
	case n < 126:
		return append([]byte{0x81, byte(n)}, data...)
	case n < 1<<16:
		return append(binary.BigEndian.AppendUint16([]byte{0x81, 126}, uint16(n)), data...)
	default:
		return append(binary.BigEndian.AppendUint64([]byte{0x81, 127}, uint64(n)), data...)
	}
}

// A write that times out in the midst of a frame leaves the rest of that frame, and of the others nothing: a close frame can still
// follow.
func TestAFrameThatWasBegunIsEnded(t *testing.T) {
	t.Parallel()
	frames := [][]byte{textFrame(strings.Repeat("s", 100)), textFrame(strings.Repeat("m", 1000)), textFrame(strings.Repeat("l", 70_000))}
	ends := []int{len(frames[0]), len(frames[0]) + len(frames[1]), len(frames[0]) + len(frames[1]) + len(frames[2])}
	last := []byte{0x88, 2, 0x11, 0x95} // close 4501
	for name, c := range map[string]struct{ taken, whole int }{
		"nothing":     {0, 0},
		"of a header": {1, 1},
		"half":        {50, 1},
		"between two": {ends[0], 1},
		"a header":    {ends[0] + 4, 2},
		"most of all": {ends[2] - 1, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, client := net.Pipe()
			defer client.Close()
			c1 := &cork{Conn: server, pool: &sync.Pool{}}
			write := func(frame []byte) {
				c1.hold()
				if _, err := c1.Write(frame); err != nil {
					t.Fatal(err)
				}
			}
			for _, frame := range frames {
				write(frame)
			}
			got, flushed := make([]byte, c.taken), make(chan struct{})
			var reading sync.WaitGroup
			reading.Go(func() {
				if _, err := io.ReadFull(client, got); err != nil {
					t.Error(err)
				}
				for { // as if it had come; flush may yet set its own
					_ = server.SetWriteDeadline(time.Now())
					select {
					case <-flushed:
						return
					case <-time.After(time.Millisecond):
					}
				}
			})
			err := c1.flush(time.Now().Add(time.Minute), 0)
			close(flushed)
			reading.Wait()
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("flush: %v", err)
			}
			c1.drop()
			write(last)
			reading.Go(func() {
				rest, err := io.ReadAll(client)
				if err != nil {
					t.Error(err)
				}
				got = append(got, rest...)
			})
			if err := c1.flush(time.Now().Add(time.Hour), 0); err != nil {
				t.Fatal(err)
			}
			_ = server.Close()
			reading.Wait()
			if want := slices.Concat(append(slices.Clone(frames[:c.whole]), last)...); !bytes.Equal(got, want) {
				t.Errorf("%d bytes, want %d frames and a close", len(got), c.whole)
			}
			if n := c1.holding(); n != 0 {
				t.Errorf("%d bytes are left", n)
			}
		})
	}
}
