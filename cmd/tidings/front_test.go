package main

import (
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/tidings-io/tidings/streams/streamstest"
)

// A client that sends half a request, or a byte a second, is disconnected after 5 s. Other clients are served meanwhile.
func TestHalfARequest(t *testing.T) {
	streamstest.BesideOthers(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	front := newFront(l, nil, zerolog.Nop())
	defer front.close()
	front.open(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "served") }))
	began, dropped := time.Now(), make(chan time.Duration)
	for i := range 100 {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: gateway\r\nX-Slow: "); err != nil {
			t.Fatal(err)
		}
		if i < 50 {
			go func() {
				for err := error(nil); err == nil; _, err = io.WriteString(conn, "a") {
					time.Sleep(time.Second)
				}
			}()
		}
		go func() {
			_, _ = io.Copy(io.Discard, conn)
			dropped <- time.Since(began)
		}()
	}
	if _, body, err := get(front.url()); err != nil || body != "served" {
		t.Errorf("a client who waits for nobody gets %q, %v", body, err)
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("a client was served after %s", took)
	}
	for range 100 {
		select {
		case after := <-dropped:
			if after < 4*time.Second {
				t.Errorf("dropped after %s", after)
			}
		case <-time.After(9*time.Second - time.Since(began)): // a whole request is given 10
			t.Fatal("half a request is waited for")
		}
	}
}

func get(url string) (status int, body string, err error) {
	response, err := http.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, string(text), err
}
