package main

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidings-io/tidings/streams"
	"github.com/tidings-io/tidings/streams/embedded"
	"github.com/tidings-io/tidings/streams/streamstest"
)

func TestDoctorFindsTheHostsFaults(t *testing.T) {
	t.Parallel()
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	starting := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	starting.Config.ErrorLog = log.New(io.Discard, "", 0) // it is first asked without TLS
	starting.StartTLS()
	defer starting.Close()
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for conn, err := mute.Accept(); err == nil; conn, err = mute.Accept() {
			conn.Close()
		}
	}()
	defer mute.Close()
	nowhere := fmt.Sprint("nats://127.0.0.1:", streamstest.FreePort(t))
	for listen, want := range map[string]finding{
		"127.0.0.1:0":                     {Verdict: isGood, Found: "is free"},
		other.Listener.Addr().String():    {Verdict: isBad, Found: "it responds with 404"},
		mute.Addr().String():              {Verdict: isBad, Found: "a program that is no gateway: "},
		starting.Listener.Addr().String(): {Verdict: isPoor, Found: "waits for NATS"},
		"192.0.2.1:80":                    {Verdict: isBad, Found: "with an address of this machine"},
		"nowhere":                         {Verdict: isBad, Found: "missing port"},
	} {
		finds(t, examine(t, "--nats", nowhere, "--tls-by-proxy", "--listen", listen)["port"], want.Verdict, want.Found)
	}

	// The other port, for operators.
	for text, want := range map[string]finding{
		"ok":       {Verdict: isGood, Found: "is alive and ready"},
		"starting": {Verdict: isPoor, Found: "is alive, but not ready: starting"},
		"hello":    {Verdict: isBad, Found: "a program that is no gateway: it responds with 200 (stop what listens there, or use another --admin-listen"},
	} {
		admin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case text == "hello":
				_, _ = io.WriteString(w, text)
			case text == "ok" || r.URL.Path == "/livez":
				writeHealth(w, nil)
			default:
				writeHealth(w, []string{text})
			}
		}))
		finds(t, examine(t, "--nats", nowhere, "--admin-listen", admin.Listener.Addr().String())["admin"], want.Verdict, want.Found)
		admin.Close()
	}
	finds(t, examine(t, "--nats", nowhere, "--admin-listen", "127.0.0.1:0")["admin"], isGood, "is free")
	finds(t, examine(t, "--nats", nowhere)["admin"], isGood, "none")
	finds(t, examine(t, "--nats", nowhere, "--max-connections", "100000000")["files"], isPoor, "and --max-connections is 100,000,000")

	// The directory of an embedded server, in each state that it can be in.
	dir, port := filepath.Join(t.TempDir(), "data"), streamstest.FreePort(t)
	data := []string{"--data", dir, "--nats-port", fmt.Sprint(port)}
	finds(t, examine(t, data...)["disk"], isPoor, "does not exist, a gateway creates it")
	server, err := embedded.Start(t.Context(), embedded.Config{Dir: dir, Port: port})
	if err != nil {
		t.Fatal(err)
	}
	all := examine(t, data...)
	if all["disk"][0].Verdict == isBad || len(all["disk"]) != 1 {
		t.Errorf("%+v", all["disk"])
	}
	finds(t, all["server"], isGood, fmt.Sprint("nats://127.0.0.1:", port))
	finds(t, examine(t, "--data", t.TempDir(), "--nats-port", fmt.Sprint(port))["disk"], isBad, "a gateway with another data directory")
	finds(t, examine(t, "--data", dir+"2", "--nats-host", "127.0.0.1", "--nats-port", fmt.Sprint(mute.Addr().(*net.TCPAddr).Port))["disk"], isBad, "something else listens on")
	finds(t, examine(t, "--data", dir, "--nats-port", fmt.Sprint(streamstest.FreePort(t)))["disk"], isBad, "but nothing listens on")
	if err := server.Stop(); err != nil && !errors.Is(err, embedded.ErrStopping) {
		t.Fatal(err)
	}
	finds(t, examine(t, data...)["disk"], isPoor, "is not in use")
}

// TestDoctorNamesTheStoreLimit checks that doctor reports an embedded server that has reached --max-store, and that the
// publisher's error names the same flag.
func TestDoctorNamesTheStoreLimit(t *testing.T) {
	t.Parallel()
	dir, port := t.TempDir(), streamstest.FreePort(t)
	server, err := embedded.Start(t.Context(), embedded.Config{Dir: dir, Port: port, MaxStore: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { streamstest.Eventually(t, time.Minute, server.Stop) }()
	nc := streamstest.Connect(t, server.ClientURL())
	stream, err := streams.Open(t.Context(), nc, streams.Config{})
	if err != nil {
		t.Fatal(err)
	}
	big := streams.Notification{Kind: "k", Data: []byte(`"` + strings.Repeat("x", 200_000) + `"`)}
	for err == nil {
		_, err = stream.Publisher().User(t.Context(), "alice", big)
	}
	if !strings.Contains(err.Error(), "--max-store") {
		t.Errorf("the error does not name the flag: %v", err)
	}
	finds(t, examine(t, "--data", dir, "--nats-port", fmt.Sprint(port))["jetstream"], isBad, "of 1.0 MiB, 1 stream, 0 consumers (raise --max-store")
}
